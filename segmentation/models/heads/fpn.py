"""The semantic branch of a feature pyramid network (Kirillov et al. 2019, arXiv:1901.02446, figure 3)."""

import math

from torch import Tensor, nn

from segmentation.functional import resize
from segmentation.models.heads.layers import normalised

_PYRAMID = 256  # channels of the pyramid and of what is summed up, as in the paper
_BRANCH = 128


class FPNHead(nn.Module):
    """Coarse features are added to finer ones on the way down; then all levels are brought to stride 4 and summed."""

    def __init__(self, *, channels: dict[int, int], strides: dict[int, int], outputs: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleDict(
            {str(nominal): nn.Conv2d(channels[nominal], _PYRAMID, 1) for nominal in strides}
        )
        self.branches = nn.ModuleDict(
            {str(nominal): _branch(round(math.log2(strides[nominal] // 4))) for nominal in strides}
        )
        self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Conv2d(_BRANCH, outputs, 1))

    def forward(self, features: dict[int, Tensor]) -> Tensor:
        """Feature maps by nominal stride -> logits (B, K, h, w) at stride 4."""
        height, width = features[4].shape[-2:]
        level_BCHW: Tensor | None = None
        total_BCHW: Tensor | float = 0.0
        for nominal in sorted(features, reverse=True):
            lateral_BCHW = self.laterals[str(nominal)](features[nominal])
            level_BCHW = (
                lateral_BCHW if level_BCHW is None else lateral_BCHW + _like(level_BCHW, lateral_BCHW)
            )
            branch_BCHW = self.branches[str(nominal)](level_BCHW)
            total_BCHW = total_BCHW + resize(branch_BCHW, (height, width))
        logits: Tensor = self.classifier(total_BCHW)
        return logits


def _branch(doublings: int) -> nn.Sequential:
    # A convolution before each doubling, and one at stride 4 itself.
    steps: list[nn.Module] = []
    for step in range(max(doublings, 1)):
        width = _PYRAMID if step == 0 else _BRANCH
        steps += normalised(nn.Conv2d(width, _BRANCH, 3, padding=1, bias=False), _BRANCH)
        steps += [_Double()] if doublings else []
    return nn.Sequential(*steps)


class _Double(nn.Module):
    def forward(self, values_BCHW: Tensor) -> Tensor:
        height, width = values_BCHW.shape[-2:]
        return resize(values_BCHW, (2 * height, 2 * width))


def _like(values_BCHW: Tensor, other_BCHW: Tensor) -> Tensor:
    height, width = other_BCHW.shape[-2:]
    return resize(values_BCHW, (height, width))
