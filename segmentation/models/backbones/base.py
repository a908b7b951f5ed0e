"""What heads and weights know of a backbone."""

from abc import abstractmethod

from torch import Tensor, nn

from segmentation.errors import UserError

STRIDES = (4, 8, 16, 32)
"""The nominal strides: those that the trunk of a classifier has before any dilation."""

OUTPUT_STRIDES = (8, 16, 32)
"""The strides at which the last feature map may come."""


class Backbone(nn.Module):
    """Feature maps at four nominal strides.

    `channels` and `strides` say for each nominal stride (4, 8, 16, 32) how many channels its feature map has,
    and at what stride it really comes, which dilation makes smaller.
    """

    channels: dict[int, int]
    strides: dict[int, int]

    @abstractmethod
    def forward(self, image_BCHW: Tensor) -> dict[int, Tensor]:
        """Normalised images (B, C, H, W) -> feature maps (B, c, h, w) by nominal stride."""

    @abstractmethod
    def key(self, key: str) -> str:
        """The name here of a tensor that the whole classifier calls `key`."""

    @abstractmethod
    def blocks(self) -> tuple[str, ...]:
        """The modules that tensors of a trunk belong to; a classifier's other tensors only classify."""


def choose_stride(name: str, output_stride: int | None, possible: tuple[int, ...]) -> int:
    """`output_stride`; for None the usual 16 where it is possible, else the finest.

    Raises `UserError` where it is not among the possible ones.
    """
    if output_stride is None:
        return 16 if 16 in possible else min(possible)
    if output_stride not in possible:
        able = ", ".join(map(str, possible))
        usual = choose_stride(name, None, possible)
        raise UserError(
            f"output_stride={output_stride} is not possible with {name}: it can do {able}."
            f" Give output_stride={usual}, or auto."
        )
    return output_stride
