"""The whole model: raw pixels in, logits at the input's size out."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.nn.functional import pad

from segmentation.config import create
from segmentation.errors import UserError
from segmentation.functional import resize
from segmentation.models.backbones import create_backbone
from segmentation.models.backbones.base import STRIDES, Backbone, in_turn
from segmentation.models.heads import HEADS, FCNHead

# MERGED FROM models/sharding: A model whose weights are cut up between processes.

_SMALLEST = 32  # pixels: what all trunks make at least one cell of, though some round down

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


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
        for name in ("mean", "std"):
            self.register_buffer(name, torch.empty(1, description["channels"], 1, 1))
        self.normalise_by(IMAGENET_MEAN, IMAGENET_STD)

    @property
    def output_stride(self) -> int:
        """Pixels of the image to a cell of the last features."""
        return self.backbone.strides[max(STRIDES)]

    def normalise_by(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Takes the mean and standard deviation of the channels, for pixels of 0..1, over from weights.

        For another number of channels they are taken in turn; one channel gets their mean.
        """
        for buffer, values in ((self.mean, mean), (self.std, std)):
            given = 255 * torch.tensor(values, dtype=torch.float32)
            count = buffer.numel()
            fitted = given.mean()[None] if count == 1 else in_turn(given, count)
            buffer.copy_(fitted.reshape(buffer.shape))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Raw pixels 0..255 (uint8 or float) of any height and width -> float32 logits (B, K, H, W)."""
        return self._logits(self.head, self._features(image_BCHW), image_BCHW)

    def with_auxiliary(self, image_BCHW: Tensor) -> tuple[Tensor, Tensor | None]:
        """The logits, and those of the auxiliary head where there is one: for training."""
        features = self._features(image_BCHW)
        logits_BKHW = self._logits(self.head, features, image_BCHW)
        if self.aux_head is None:
            return logits_BKHW, None
        return logits_BKHW, self._logits(self.aux_head, features, image_BCHW)

    def _features(self, image_BCHW: Tensor) -> dict[int, Tensor]:
        normalised_BCHW = self._normalised(image_BCHW)
        height, width = image_BCHW.shape[-2:]
        if min(height, width) < _SMALLEST:
            missing = (0, max(_SMALLEST - width, 0), 0, max(_SMALLEST - height, 0))
            normalised_BCHW = pad(normalised_BCHW, missing, mode="replicate")
        features: dict[int, Tensor] = self.backbone(normalised_BCHW)
        return features

    def _normalised(self, image_BCHW: Tensor) -> Tensor:
        # In place on a copy of our own: a new tensor for each step takes three times as long.
        pixels_BCHW = image_BCHW.to(self.mean.dtype, copy=True)
        last = pixels_BCHW.is_contiguous(memory_format=torch.channels_last)
        if torch.compiler.is_compiling() or not last:  # an exported model takes any memory format
            return pixels_BCHW.sub_(self.mean).div_(self.std)
        # In channels_last the innermost axis has few channels, and broadcasting over it is 17x slower than over a whole
        # row. `view` shares the memory or raises an error; it never copies.
        batch, _, height, width = pixels_BCHW.shape
        rows_BHX = pixels_BCHW.permute(0, 2, 3, 1).view(batch, height, -1)
        rows_BHX.sub_(self.mean.flatten().repeat(width)).div_(self.std.flatten().repeat(width))
        return pixels_BCHW

    def _logits(self, head: nn.Module, features: dict[int, Tensor], image_BCHW: Tensor) -> Tensor:
        height, width = image_BCHW.shape[-2:]
        whole = max(height, _SMALLEST), max(width, _SMALLEST)
        # In float32 also under autocast: neighbouring logits differ by less than bf16 resolves.
        return resize(head(features).float(), whole)[..., :height, :width]


def create_segmenter(
    *,
    backbone: dict[str, Any],
    head: dict[str, Any],
    outputs: Annotated[int, Field(ge=1, le=255)],
    output_stride: int | None = None,
    channels: Annotated[int, Field(ge=1, le=128)] = 3,
    aux: bool = False,
) -> Segmenter:
    """An untrained model from plain data; names are looked up in our tables.

    `backbone` and `head` hold a `name` and that part's own options, the backbone's a `source` too; `outputs`
    is the number of logits; `output_stride` None takes 16 where the backbone can; `channels` are the
    image's; `aux` adds an FCN head on the features of nominal stride 16.

    Raises `UserError` for whatever of it is not possible.
    """
    trunk = create_backbone(backbone, output_stride=output_stride, in_channels=channels)
    shape: dict[str, Any] = {"channels": trunk.channels, "strides": trunk.strides, "outputs": outputs}
    options = dict(head)
    for ours in shape:
        if ours in options:
            raise UserError(f"There is no option 'head.{ours}': the model sets it.")
    top = create("head", HEADS, options.pop("name", ""), **shape, **options)
    aux_head = FCNHead(16, **shape) if aux else None
    description = {
        "backbone": dict(backbone),
        "head": dict(head),
        "outputs": outputs,
        "output_stride": trunk.strides[max(STRIDES)],
        "channels": channels,
        "aux": aux,
    }
    return Segmenter(trunk, top, aux_head, description)


def shard(model: Segmenter, mesh: DeviceMesh) -> None:
    """Leaves each process of `mesh` its share of every weight; a part is put together for as long as it computes.

    In place, and once: a second call does nothing. All processes must come to the same forward passes from then on.
    """
    if isinstance(model, FSDPModule):
        return
    model.to(memory_format=torch.contiguous_format)  # what else there is cannot be cut
    for part in model.children():
        fully_shard(part, mesh=mesh)
    fully_shard(model, mesh=mesh)
    register_fsdp_forward_method(model, "with_auxiliary")
