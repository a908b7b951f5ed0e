"""What travels from file to report: one sample, one batch.

Shape suffixes, used across the package::

    B batch   C input channels   K logits (one for binary, else one a class)   H W pixels
"""

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    import numpy as np
    import torch

IGNORE_INDEX = 255
"""The label that counts nowhere: not in a loss, not in a metric, not in a picture."""


class Sample(TypedDict):
    """One image and its labels, as the data sets give them and the augmentations keep them."""

    image: "np.ndarray"  # uint8 (H, W, C), raw pixels 0..255
    mask: "np.ndarray"  # uint8 (H, W), class indices, 255 is ignore
    name: str  # the file's stem, unique within its split


class Batch(TypedDict):
    """Samples on their way to the model. Raw pixels travel: a quarter of the bytes of float32."""

    image: "torch.Tensor"  # uint8 (B, C, H, W)
    mask: "torch.Tensor | list[torch.Tensor]"  # training: uint8 (B, H, W); else one (H, W) an image, at its own size
    name: list[str]
