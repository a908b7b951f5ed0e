"""DeepLabV3+ (Chen et al. 2018, arXiv:1802.02611): the pyramid, and a decoder that brings back the outlines."""

import torch
from torch import Tensor, nn

from segmentation.functional import resize
from segmentation.models.heads.layers import normalised, separable
from segmentation.models.heads.pyramid import WIDTH, AtrousPyramid, rates_for

_DETAIL = 48  # channels of the fine features: few, lest they outweigh the pyramid (the paper's table 1)


class DeepLabV3PlusHead(nn.Module):
    """A pyramid of separable convolutions, joined with the stride-4 features; `rates` as in `rates_for`."""

    def __init__(
        self,
        *,
        channels: dict[int, int],
        strides: dict[int, int],
        outputs: int,
        rates: list[int] | None = None,
    ) -> None:
        super().__init__()
        self.pyramid = AtrousPyramid(channels[32], rates_for(strides[32], rates), separable)
        self.detail = nn.Sequential(*normalised(nn.Conv2d(channels[4], _DETAIL, 1, bias=False), _DETAIL))
        self.decoder = nn.Sequential(
            *normalised(separable(WIDTH + _DETAIL, WIDTH), WIDTH),
            *normalised(separable(WIDTH, WIDTH), WIDTH),
            nn.Dropout(0.1),
            nn.Conv2d(WIDTH, outputs, 1),
        )

    def forward(self, features: dict[int, Tensor]) -> Tensor:
        """Feature maps by nominal stride -> logits (B, K, h, w) at stride 4."""
        detail_BCHW = self.detail(features[4])
        height, width = detail_BCHW.shape[-2:]
        context_BCHW = resize(self.pyramid(features[32]), (height, width))
        logits: Tensor = self.decoder(torch.cat([context_BCHW, detail_BCHW], dim=1))
        return logits
