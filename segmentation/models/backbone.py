"""A torchvision classifier without its classifier: feature maps at strides 4, 8, 16 and 32.

Nothing about a backbone is typed in: its blocks come from the module itself, their strides and channels
are measured on the meta device, which computes shapes alone.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models import get_model

from segmentation.errors import UserError, closest
from segmentation.models.dilation import dilate

STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True)
class Trunk:
    """Where torchvision has a backbone, and how it dilates it."""

    torchvision: str  # its name there
    dilate_strided: bool = False  # see `dilation.dilate`


BACKBONES: Mapping[str, Trunk] = {
    "resnet18": Trunk("resnet18"),
    "resnet34": Trunk("resnet34"),
    "resnet50": Trunk("resnet50"),
    "resnet101": Trunk("resnet101"),
    "mobilenetv3_small": Trunk("mobilenet_v3_small", dilate_strided=True),
    "mobilenetv3_large": Trunk("mobilenet_v3_large", dilate_strided=True),
}


class Backbone(nn.ModuleDict):
    """A chain of blocks, named as torchvision names them.

    `channels` and `strides` say for each nominal stride (4, 8, 16, 32: the classifier's own) how many
    channels its last feature map has, and at what stride it really comes, which dilation makes smaller.
    """

    def __init__(self, blocks: Mapping[str, nn.Module], trunk: Trunk, output_stride: int) -> None:
        super().__init__(blocks)
        nominal = _measure(self)
        self._taps = {stride: name for name, (stride, _) in nominal.items() if stride in STRIDES}
        self.output_strides = tuple(stride for stride in self._taps if stride >= 8)
        if output_stride not in self.output_strides:
            able = ", ".join(map(str, self.output_strides))
            raise UserError(
                f"output_stride={output_stride} is not possible with {trunk.torchvision}: it can do {able}."
            )
        strides = {name: stride for name, (stride, _) in nominal.items()}
        dilate(self, strides, output_stride, dilate_strided=trunk.dilate_strided)
        actual = _measure(self)
        self.strides = {stride: actual[name][0] for stride, name in self._taps.items()}
        self.channels = {stride: actual[name][1] for stride, name in self._taps.items()}

    def forward(self, image_BCHW: Tensor) -> dict[int, Tensor]:
        """Normalised images (B, 3, H, W) -> feature maps by nominal stride."""
        features = {}
        wanted = {name: stride for stride, name in self._taps.items()}
        values_BCHW = image_BCHW
        for name, block in self.items():
            values_BCHW = block(values_BCHW)
            if name in wanted:
                features[wanted[name]] = values_BCHW
        return features


def create_backbone(*, name: str, output_stride: int, norm_momentum: float | None = None) -> Backbone:
    """An untrained backbone whose last features come at `output_stride` (8, 16 or 32).

    `norm_momentum` (0..1) is the share of a new batch in the running statistics of the batch norms; None
    keeps torchvision's. Raises `UserError` for a name, stride or momentum that is not possible.
    """
    if name not in BACKBONES:
        raise UserError(f"backbone={name} is unknown.{closest(name, BACKBONES)}")
    trunk = BACKBONES[name]
    classifier = get_model(trunk.torchvision, weights=None)
    # ResNets keep their blocks at the top, the others in `features`; pooling and classifier are left out.
    source = classifier.features if hasattr(classifier, "features") else classifier
    blocks = {key: block for key, block in source.named_children() if key not in ("avgpool", "fc")}
    backbone = Backbone(blocks, trunk, output_stride)
    if norm_momentum is not None:
        if not 0 < norm_momentum <= 1:
            raise UserError(
                f"backbone.norm_momentum={norm_momentum}: give a share above 0 and up to 1, or auto."
            )
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = norm_momentum
    return backbone


def _measure(blocks: nn.ModuleDict) -> dict[str, tuple[int, int]]:
    """Cumulative stride and channels behind each block, in order."""
    side = 256
    values = torch.empty(1, 3, side, side, device="meta")
    measured = {}
    for name, block in blocks.items():
        values = copy.deepcopy(block).to("meta").eval()(values)
        measured[name] = (side // values.shape[-1], values.shape[1])
    return measured
