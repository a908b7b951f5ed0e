"""The fully convolutional head (Long et al. 2015, arXiv:1411.4038), here as the auxiliary one."""

from torch import Tensor, nn


class FCNHead(nn.Sequential):
    """Two convolutions on the features of nominal stride 16; keys as in torchvision's `aux_classifier`."""

    def __init__(self, *, channels: dict[int, int], outputs: int) -> None:
        inner = channels[16] // 4
        super().__init__(
            nn.Conv2d(channels[16], inner, 3, padding=1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(inner, outputs, 1),
        )

    def forward(self, features: dict[int, Tensor]) -> Tensor:
        """Feature maps by nominal stride -> logits (B, K, h, w) at the stride of the one it uses."""
        logits: Tensor = super().forward(features[16])
        return logits
