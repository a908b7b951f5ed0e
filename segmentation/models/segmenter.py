"""The whole model: raw pixels in, logits at the input's size out, and from logits to probabilities and labels."""

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.nn.functional import pad

from segmentation.models.backbones import create_backbone
from segmentation.models.backbones.base import STRIDES, Backbone, repeat_channels
from segmentation.models.heads import HEADS, FCNHead, resize
from segmentation.options import create

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_MIN_SIZE = 32  # pixels per side; smaller images would leave some backbones without a cell at stride 32


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

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Raw pixels 0..255 (uint8 or float) of any height and width -> float32 logits (B, K, H, W)."""
        return self._logits(self.head, self._features(image_BCHW), image_BCHW)

    def with_auxiliary(self, image_BCHW: Tensor) -> tuple[Tensor, Tensor | None]:
        """For training: the logits, and those of the auxiliary head if there is one."""
        features = self._features(image_BCHW)
        logits_BKHW = self._logits(self.head, features, image_BCHW)
        if self.aux_head is None:
            return logits_BKHW, None
        return logits_BKHW, self._logits(self.aux_head, features, image_BCHW)

    def _features(self, image_BCHW: Tensor) -> dict[int, Tensor]:
        normalised_BCHW = self._normalise(image_BCHW)
        height, width = image_BCHW.shape[-2:]
        if min(height, width) < _MIN_SIZE:
            margins = (0, max(_MIN_SIZE - width, 0), 0, max(_MIN_SIZE - height, 0))
            normalised_BCHW = pad(normalised_BCHW, margins, mode="replicate")
        features: dict[int, Tensor] = self.backbone(normalised_BCHW)
        return features

    def _normalise(self, image_BCHW: Tensor) -> Tensor:
        # In place on a copy: a new tensor for each operation takes three times as long.
        pixels_BCHW = image_BCHW.to(self.mean.dtype, copy=True)
        channels_last = pixels_BCHW.is_contiguous(memory_format=torch.channels_last)
        if torch.compiler.is_compiling() or not channels_last:  # an exported model takes any memory format
            return pixels_BCHW.sub_(self.mean).div_(self.std)
        # In channels_last the innermost axis has few channels, and broadcasting over it is 17x slower than over a whole
        # row. `view` shares the memory or raises an error; it never copies.
        batch, _, height, width = pixels_BCHW.shape
        rows_BHX = pixels_BCHW.permute(0, 2, 3, 1).view(batch, height, -1)
        rows_BHX.sub_(self.mean.flatten().repeat(width)).div_(self.std.flatten().repeat(width))
        return pixels_BCHW

    def _logits(self, head: nn.Module, features: dict[int, Tensor], image_BCHW: Tensor) -> Tensor:
        height, width = image_BCHW.shape[-2:]
        padded = max(height, _MIN_SIZE), max(width, _MIN_SIZE)
        # In float32 also under autocast: neighbouring logits differ by less than bf16 resolves.
        return resize(head(features).float(), padded)[..., :height, :width]

    @property
    def channels(self) -> int:
        """Bands of the images that it takes."""
        return self.mean.shape[1]

    @property
    def weight_count(self) -> int:
        """The number of trained weights."""
        return sum(weights.numel() for weights in self.parameters())

    @property
    def output_stride(self) -> int:
        """Pixels of the image per cell of the last feature map."""
        return self.backbone.strides[max(STRIDES)]

    def normalise_by(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Sets the mean and standard deviation of the channels, for pixels in 0..1.

        For another number of channels the values are repeated in order; a single channel gets their mean.
        """
        for buffer, values in ((self.mean, mean), (self.std, std)):
            pixels = 255 * torch.tensor(values, dtype=torch.float32)
            channels = buffer.numel()
            fitted = pixels.mean()[None] if channels == 1 else repeat_channels(pixels, channels)
            buffer.copy_(fitted.reshape(buffer.shape))


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

    `backbone` and `head` hold a `name` and that part's own options, the backbone also a `source`; `outputs` is the
    number of logits; `output_stride` None is 16 if the backbone can do it; `channels` is the number of image channels;
    `aux` adds an FCN head on the features of nominal stride 16.

    Raises `UserError` for a part, option or combination that is not possible.
    """
    trunk = create_backbone(backbone, output_stride=output_stride, in_channels=channels)
    if getattr(HEADS.get(str(head.get("name"))), "stride_2", False):
        trunk.add_stride_2()
    shape: dict[str, Any] = {"channels": trunk.channels, "strides": trunk.strides, "outputs": outputs}
    heads = {name: partial(each, **shape) for name, each in HEADS.items()}
    options = dict(head)
    main_head = create("head", heads, options.pop("name", ""), **options)
    aux_head = FCNHead(16, **shape) if aux else None
    description = {
        "backbone": dict(backbone),
        "head": dict(head),
        "outputs": outputs,
        "output_stride": trunk.strides[max(STRIDES)],
        "channels": channels,
        "aux": aux,
    }
    model = Segmenter(trunk, main_head, aux_head, description)
    for module in model.modules():
        if type(module) is nn.Conv2d and module.groups > 1 and max(module.dilation) > 1:
            module.__class__ = DilatedGroups  # keeps its weights, and their names
    return model


class DilatedGroups(nn.Conv2d):
    """A dilated convolution in groups that is trained in float32 on a processor, also under autocast.

    In bf16 and channels_last torch 2.15 returns weight gradients of up to 1e38 for it there, so that trainings of
    MobileNets ended in nan; `tests/models/test_segmenter.py` shows it.
    """

    def forward(self, input: Tensor) -> Tensor:
        """As `nn.Conv2d`."""
        if self.training and input.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(input.float())
        return super().forward(input)


def shard(model: Segmenter, mesh: DeviceMesh) -> None:
    """FSDP, in place: each process of `mesh` keeps its share of every weight; a part is gathered while it computes.

    A second call does nothing. From then on all processes must run the same forward passes.
    """
    if isinstance(model, FSDPModule):
        return
    model.to(memory_format=torch.contiguous_format)  # FSDP cannot shard weights in channels_last
    for part in model.children():
        # torch 2.11 refuses a ModuleDict, even one with a forward: its blocks become one group.
        refused = isinstance(part, nn.ModuleDict) and torch.__version__ < "2.13"
        fully_shard(list(part.children()) if refused else part, mesh=mesh)
    fully_shard(model, mesh=mesh)
    register_fsdp_forward_method(model, "with_auxiliary")


@dataclass(frozen=True)
class Decision:
    """From logits to probabilities and labels.

    Binary is one logit: sigmoid, foreground where the probability is at least `threshold` (0..1).
    Multiclass is one logit per class: softmax, or with `one_vs_rest` a sigmoid each, as the loss has trained them;
    the most probable class. The logits are divided by `temperature` first, which makes the probabilities of an
    overconfident model fit how often it is right (Guo et al. 2017, arXiv:1706.04599).
    """

    binary: bool
    threshold: float = 0.5
    _: KW_ONLY
    one_vs_rest: bool = False
    temperature: float = 1.0

    def probabilities(self, logits_BKHW: Tensor) -> Tensor:
        """(B, K, H, W) in 0..1: of the foreground (K = 1), or of each class; those of a softmax sum to one."""
        scaled_BKHW = logits_BKHW if self.temperature == 1 else logits_BKHW / self.temperature
        return scaled_BKHW.sigmoid() if self.independent else scaled_BKHW.softmax(dim=1)

    def logits(self, probabilities_BKHW: Tensor) -> Tensor:
        """Logits of which these are the probabilities, for the losses of blended tiles."""
        if self.independent:
            return probabilities_BKHW.logit(eps=1e-7) * self.temperature
        return probabilities_BKHW.clamp_min(1e-12).log() * self.temperature

    def uncalibrated(self, probabilities_BKHW: Tensor) -> Tensor:
        """The probabilities that the same logits have without the temperature."""
        return replace(self, temperature=1.0).probabilities(self.logits(probabilities_BKHW))

    @property
    def independent(self) -> bool:
        """Whether each probability is a sigmoid of its own."""
        return self.binary or self.one_vs_rest

    def at_temperature(self, temperature: float) -> "Decision":
        """The same labels with other probabilities: the threshold moves along."""
        logit = self._threshold_logit() / temperature
        return replace(self, temperature=temperature, threshold=torch.tensor(logit).double().sigmoid().item())

    def most_probable(self, probabilities_BKHW: Tensor) -> Tensor:
        """(B, H, W) uint8 class indices from probabilities."""
        if self.binary:
            return (probabilities_BKHW[:, 0] >= self.threshold).to(torch.uint8)
        # The indices of `max` are `argmax`, up to nine times as fast on a processor.
        return probabilities_BKHW.max(dim=1).indices.to(torch.uint8)

    def labels(self, logits_BKHW: Tensor) -> Tensor:
        """(B, H, W) uint8 class indices from logits."""
        if not self.binary:
            # The same as `argmax`, but up to nine times as fast on a CPU.
            return logits_BKHW.max(dim=1).indices.to(torch.uint8)
        return (logits_BKHW[:, 0] >= self._threshold_logit()).to(torch.uint8)

    def _threshold_logit(self) -> float:
        if not 0 < self.threshold < 1:
            return math.copysign(math.inf, self.threshold - 0.5)
        return self.temperature * math.log(self.threshold / (1 - self.threshold))
