"""Timm's models as backbones, through timm's own `features_only`: an optional extra."""

import logging
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from segmentation.environment import variable
from segmentation.errors import UserError, closest
from segmentation.models.backbones.base import (
    OUTPUT_STRIDES,
    STRIDES,
    Backbone,
    Measure,
    blank,
    choose_stride,
    on_meta,
)

_REFUSALS = (TypeError, AssertionError, NotImplementedError, ValueError, RuntimeError)


class TimmBackbone(Backbone):
    """The last four feature maps of a timm model; its parameters keep timm's names below `net`.

    `output_stride` as in `TorchvisionBackbone`; timm does the dilation. A model that only takes sizes which
    halve evenly sees its image repeated beyond the edge to the next multiple of 32.

    Raises `UserError` without timm, for a name it does not have, for a stride the model cannot give, and for a
    model without maps of strides 4 to 32 or for one image size alone.
    """

    def __init__(self, *, name: str, output_stride: int | None = None, in_channels: int = 3) -> None:
        super().__init__()
        self.name, self.in_channels = name, in_channels
        _require(name)
        self.net = _open(name, output_stride, in_channels)
        measures = _measures(self.net, in_channels)
        self._even = not _takes(self.net, torch.empty(1, in_channels, 97, 131, device="meta"))
        self._channels_last = [measure.channels_last for measure in measures]
        self.strides = {nominal: each.stride for nominal, each in zip(STRIDES, measures, strict=True)}
        self.channels = {nominal: each.channels for nominal, each in zip(STRIDES, measures, strict=True)}
        self.train()

    def forward(self, image_BCHW: Tensor) -> dict[int, Tensor]:
        """Normalised images (B, C, H, W) -> feature maps (B, c, h, w) by nominal stride."""
        height, width = image_BCHW.shape[-2:]
        if self._even:
            image_BCHW = pad(image_BCHW, (0, -width % 32, 0, -height % 32), mode="replicate")
        maps = self.net(image_BCHW)[-len(STRIDES) :]
        features = {}
        for nominal, values, channels_last in zip(STRIDES, maps, self._channels_last, strict=True):
            values_BCHW = values.permute(0, 3, 1, 2) if channels_last else values
            if self._even:
                stride = self.strides[nominal]
                values_BCHW = values_BCHW[..., : -(-height // stride), : -(-width // stride)]
            features[nominal] = values_BCHW
        return features

    def load_pretrained(self) -> tuple[Sequence[float], Sequence[float]]:
        """Takes timm's trained weights, out of its cache or the network; returns their mean and std, of 0..1.

        Raises `UserError` where there are none or they cannot be fetched.
        """
        # It would tell each of its attempts on the console.
        logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
        try:
            trained: Any = _create_features(self.name, in_chans=self.in_channels, pretrained=True)
        except Exception as error:  # its hub, the network and timm itself each have their own kinds
            cause = str(error).partition("\n")[0]
            raise UserError(
                f"timm's weights of {self.name} cannot be had ({cause}). Fetch them where there is a network and"
                " take its cache along (HF_HOME), give weights=FILE, or take weights=none."
            ) from error
        self.net.load_state_dict(trained.state_dict())
        config = trained.pretrained_cfg
        return config["mean"], config["std"]

    def key(self, key: str) -> str:
        """The name here of a tensor of timm's classifier; its feature nets fold "stages.0" to "stages_0"."""
        folded = key.replace(".", "_", 1)
        return f"net.{folded if folded.partition('.')[0] in dict(self.net.named_children()) else key}"

    def blocks(self) -> tuple[str, ...]:
        """The modules of the feature net."""
        return tuple(f"net.{name}" for name, _ in self.net.named_children())


def _require(name: str) -> None:
    try:
        # Timm fetches weights through Hugging Face's hub, which reports each use unless told at its import.
        with variable("HF_HUB_DISABLE_TELEMETRY", "1"):
            import timm
    except ImportError as error:
        raise UserError("backbone=timm needs timm: pip install '.[timm]'.") from error
    if not timm.is_model(name.partition(".")[0]):
        raise UserError(f"backbone.name={name} is unknown.{closest(name, timm.list_models())}")
    if "." in name and not timm.models.is_model_pretrained(name):
        raise UserError(f"backbone.name={name} is unknown.{closest(name, timm.list_pretrained())}")


def _create_features(name: str, **options: Any) -> nn.Module:
    """Timm's feature net of that name, without its warnings."""
    import timm

    with warnings.catch_warnings(action="ignore"):
        net: nn.Module = timm.create_model(name, features_only=True, **options)
    return net


def _open(name: str, output_stride: int | None, in_channels: int) -> nn.Module:
    """The net at `output_stride`, in evaluation mode."""
    for stride in (16, 32) if output_stride is None else (output_stride,):
        with suppress(*_REFUSALS):
            return _build(name, stride, in_channels)
    possible, reason = [], ""
    for stride in OUTPUT_STRIDES:
        try:
            _build(name, stride, in_channels)
            possible.append(stride)
        except _REFUSALS as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
    if not possible:
        raise UserError(f"backbone.name={name} cannot stand under a head ({reason.rstrip('.')}).")
    return _build(name, choose_stride(name, output_stride, tuple(possible)), in_channels)


def _build(name: str, output_stride: int, in_channels: int) -> nn.Module:
    # Most transformers do not even know the word.
    stride = {} if output_stride == 32 else {"output_stride": output_stride}
    net = _create_features(name, in_chans=in_channels, **stride).eval()
    found = [measure.stride for measure in _measures(net, in_channels)]
    if found != [min(stride, output_stride) for stride in STRIDES]:
        raise ValueError(f"its last feature maps have strides {found}")
    return net


def _measures(net: nn.Module, in_channels: int) -> list[Measure]:
    return [Measure.of(values) for values in on_meta(net, blank(in_channels))][-len(STRIDES) :]


def _takes(net: nn.Module, image_BCHW: Tensor) -> bool:
    try:
        on_meta(net, image_BCHW)
    except _REFUSALS:
        return False
    return True
