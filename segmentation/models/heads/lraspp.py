"""Lite R-ASPP (Howard et al. 2019, arXiv:1905.02244, section 6.4); torchvision's weights fit key by key."""

from torch import Tensor, nn

from segmentation.functional import resize
from segmentation.models.heads.layers import normalised

_WIDTH = 128


class LRASPPHead(nn.Module):
    """For phones: the coarse features, weighed by what the whole image says, beside those of stride 8."""

    def __init__(self, *, channels: dict[int, int], strides: dict[int, int], outputs: int) -> None:
        super().__init__()
        coarse, fine = channels[32], channels[8]
        self.cbr = nn.Sequential(*normalised(nn.Conv2d(coarse, _WIDTH, 1, bias=False), _WIDTH))
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(coarse, _WIDTH, 1, bias=False), nn.Sigmoid()
        )
        self.low_classifier = nn.Conv2d(fine, outputs, 1)
        self.high_classifier = nn.Conv2d(_WIDTH, outputs, 1)

    def forward(self, features: dict[int, Tensor]) -> Tensor:
        """Feature maps by nominal stride -> logits (B, K, h, w) at stride 8."""
        coarse_BCHW, fine_BCHW = features[32], features[8]
        weighed_BCHW = self.cbr(coarse_BCHW) * self.scale(coarse_BCHW)
        height, width = fine_BCHW.shape[-2:]
        weighed_BCHW = resize(weighed_BCHW, (height, width))
        logits: Tensor = self.low_classifier(fine_BCHW) + self.high_classifier(weighed_BCHW)
        return logits
