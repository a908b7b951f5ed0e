"""The semantic branch of a feature pyramid network (Kirillov et al. 2019, arXiv:1901.02446, figure 3)."""

from torch import Tensor, nn

from segmentation.functional import resize
from segmentation.models.heads.layers import normalised

_PYRAMID = 256  # channels of the pyramid and of what is summed up, as in the paper
_BRANCH = 128


class FPNHead(nn.Module):
    """Coarse features are added to finer ones on the way down; then all levels are brought to stride 4 and summed."""

    def __init__(self, *, channels: dict[int, int], strides: dict[int, int], outputs: int) -> None:
        super().__init__()
        self._strides = strides
        self.laterals = nn.ModuleDict(
            {str(level): nn.Conv2d(channels[level], _PYRAMID, 1) for level in strides}
        )
        self.branches = nn.ModuleDict(
            {str(level): _branch(len(_way(stride, strides))) for level, stride in strides.items()}
        )
        self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Conv2d(_BRANCH, outputs, 1))

    def forward(self, features: dict[int, Tensor]) -> Tensor:
        """Feature maps by nominal stride -> logits (B, K, h, w) at stride 4."""
        level_BCHW: Tensor | None = None
        total_BCHW: Tensor | None = None
        for nominal in sorted(features, reverse=True):
            lateral_BCHW = self.laterals[str(nominal)](features[nominal])
            level_BCHW = (
                lateral_BCHW if level_BCHW is None else lateral_BCHW + _like(level_BCHW, lateral_BCHW)
            )
            branch_BCHW = self._bring_down(nominal, level_BCHW, features)
            total_BCHW = branch_BCHW if total_BCHW is None else total_BCHW + branch_BCHW
        logits: Tensor = self.classifier(total_BCHW)
        return logits

    def _bring_down(self, nominal: int, values_BCHW: Tensor, features: dict[int, Tensor]) -> Tensor:
        """A convolution before each doubling, down to stride 4; one at stride 4 itself."""
        by_stride = {self._strides[level]: values for level, values in features.items()}
        way = _way(self._strides[nominal], self._strides)
        for step, stride in zip(self.branches[str(nominal)].children(), way, strict=True):
            values_BCHW = _like(step(values_BCHW), by_stride[stride])
        return values_BCHW


def _way(start: int, strides: dict[int, int]) -> list[int]:
    """The strides that a level of stride `start` passes: the finer ones, the finest last."""
    finer = [stride for stride in sorted(set(strides.values())) if stride < start]
    return finer[::-1] or [start]


def _branch(steps: int) -> nn.Sequential:
    widths = [_PYRAMID] + [_BRANCH] * (steps - 1)
    return nn.Sequential(
        *(
            nn.Sequential(*normalised(nn.Conv2d(width, _BRANCH, 3, padding=1, bias=False), _BRANCH))
            for width in widths
        )
    )


def _like(values_BCHW: Tensor, other_BCHW: Tensor) -> Tensor:
    height, width = other_BCHW.shape[-2:]
    return resize(values_BCHW, (height, width))
