"""The fully convolutional head (Long et al. 2015, arXiv:1411.4038); torchvision's weights fit key by key."""

from torch import Tensor, nn

from segmentation.models.heads.layers import normalised


class FCNHead(nn.Sequential):
    """Two convolutions on the features of one nominal stride: 32 for the main head, 16 for the auxiliary one."""

    def __init__(
        self, stride: int = 32, *, channels: dict[int, int], strides: dict[int, int], outputs: int
    ) -> None:
        inner = channels[stride] // 4
        super().__init__(
            *normalised(nn.Conv2d(channels[stride], inner, 3, padding=1, bias=False), inner),
            nn.Dropout(0.1),
            nn.Conv2d(inner, outputs, 1),
        )
        self._stride = stride

    def forward(self, features: dict[int, Tensor]) -> Tensor:
        """Feature maps by nominal stride -> logits (B, K, h, w) at the stride of the one it uses."""
        logits: Tensor = super().forward(features[self._stride])
        return logits
