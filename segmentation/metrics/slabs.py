"""Large images in pieces that stay in the processor's cache: at six megapixels twice as fast."""

from collections.abc import Iterator

from torch import Tensor

_VALUES = 2**18
"""Probabilities in a piece: a megabyte."""


def slabs(probabilities_BKHW: Tensor, *maps_BHW: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same pixels of everything, piece by piece: float32 (B, K, pixels), and (B, pixels) of each map."""
    batch, scores = probabilities_BKHW.shape[:2]
    length = max(_VALUES // (batch * scores), 1)
    pieces = [probabilities_BKHW.flatten(2).split(length, 2)]
    pieces += [map_BHW.flatten(1).split(length, 1) for map_BHW in maps_BHW]
    for piece_BKP, *maps_BP in zip(*pieces, strict=True):
        yield piece_BKP.float(), *maps_BP
