"""DeepLabV3 (Chen et al. 2017, arXiv:1706.05587); torchvision's weights fit key by key."""

from torch import Tensor, nn

from segmentation.models.heads.layers import normalised
from segmentation.models.heads.pyramid import WIDTH, AtrousPyramid, rates_for


class DeepLabV3Head(nn.Sequential):
    """Pyramid, convolution, classifier on the features of nominal stride 32; `rates` as in `rates_for`."""

    def __init__(
        self,
        *,
        channels: dict[int, int],
        strides: dict[int, int],
        outputs: int,
        rates: list[int] | None = None,
    ) -> None:
        super().__init__(
            AtrousPyramid(channels[32], rates_for(strides[32], rates)),
            *normalised(nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False), WIDTH),
            nn.Conv2d(WIDTH, outputs, 1),
        )

    def forward(self, features: dict[int, Tensor]) -> Tensor:
        """Feature maps by nominal stride -> logits (B, K, h, w) at the stride of the last one."""
        logits: Tensor = super().forward(features[32])
        return logits
