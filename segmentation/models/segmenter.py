"""The whole model: raw pixels in, logits at the input's size out."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from segmentation.errors import UserError
from segmentation.functional import resize
from segmentation.models.backbone import Backbone, create_backbone
from segmentation.models.deeplabv3 import DeepLabV3Head
from segmentation.models.fcn import FCNHead
from segmentation.options import call, create

HEADS: Mapping[str, type[nn.Module]] = {"deeplabv3": DeepLabV3Head}

# ImageNet's, in raw pixels: what torchvision's weights were trained with.
_MEAN = (123.675, 116.28, 103.53)
_STD = (58.395, 57.12, 57.375)


class Segmenter(nn.Module):
    """`resize(head(backbone(normalise(image))))`.

    Normalisation is part of the model, so that training, evaluation and an exported file cannot disagree.
    `description` is plain data: `create_segmenter(**description)` builds the same model again.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: Backbone, head: nn.Module, aux_head: nn.Module | None, description: dict[str, Any]
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.aux_head = aux_head
        self.description = description
        self.register_buffer("mean", torch.tensor(_MEAN).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(_STD).reshape(1, -1, 1, 1))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Raw pixels 0..255 (uint8 or float) of any height and width -> float32 logits (B, K, H, W)."""
        features = self.backbone(self._normalise(image_BCHW))
        return self._logits(self.head, features, image_BCHW)

    def with_auxiliary(self, image_BCHW: Tensor) -> tuple[Tensor, Tensor | None]:
        """The logits, and those of the auxiliary head where there is one: for training."""
        features = self.backbone(self._normalise(image_BCHW))
        logits_BKHW = self._logits(self.head, features, image_BCHW)
        if self.aux_head is None:
            return logits_BKHW, None
        return logits_BKHW, self._logits(self.aux_head, features, image_BCHW)

    def _normalise(self, image_BCHW: Tensor) -> Tensor:
        return (image_BCHW.float() - self.mean) / self.std

    def _logits(self, head: nn.Module, features: dict[int, Tensor], image_BCHW: Tensor) -> Tensor:
        # In float32 also under autocast: neighbouring logits differ by less than bf16 resolves.
        height, width = image_BCHW.shape[-2:]
        return resize(head(features).float(), (height, width))


def create_segmenter(
    *,
    backbone: dict[str, Any],
    head: dict[str, Any],
    outputs: int,
    output_stride: int = 16,
    aux: bool = False,
) -> Segmenter:
    """An untrained model from plain data; names are looked up in `BACKBONES` and `HEADS`.

    `backbone` and `head` hold a `name` and that part's own options; `outputs` is the number of logits
    (1..255); `aux` adds an FCN head on the stride-16 features.

    Raises `UserError` for whatever of it is not possible.
    """
    if not 1 <= outputs <= 255:
        raise UserError(f"{outputs} outputs: between 1 and 255 are possible.")
    _refuse("backbone", backbone, "output_stride")
    _refuse("head", head, "channels", "strides", "outputs")
    trunk = call("backbone", create_backbone, output_stride=output_stride, **backbone)
    options = dict(head)
    name = options.pop("name", "")
    top = create(
        "head", HEADS, name, channels=trunk.channels, strides=trunk.strides, outputs=outputs, **options
    )
    aux_head = FCNHead(channels=trunk.channels, outputs=outputs) if aux else None
    description = {
        "backbone": dict(backbone),
        "head": dict(head),
        "outputs": outputs,
        "output_stride": output_stride,
        "aux": aux,
    }
    return Segmenter(trunk, top, aux_head, description)


def _refuse(group: str, options: Mapping[str, Any], *ours: str) -> None:
    for option in ours:
        if option in options:
            raise UserError(f"There is no option '{group}.{option}': the model sets it.")
