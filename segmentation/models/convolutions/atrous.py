"""3x3 convolutions, dilated or not, without the products that a processor can do without."""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from segmentation.models.convolutions.base import Substitute, computes_bf16, keeps_size, processor_dtype
from segmentation.models.convolutions.filtering import Filtered, Tiling, convolve, transform
from segmentation.models.convolutions.taps import InsideTaps, inside

_AVX512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
"""There oneDNN's convolutions compute twice as much at a time; matrix products in float32, on an AMD EPYC, do not."""

# Measured (benchmarks/NOTES.md): beyond these bounds the plain convolution is as quick, or quicker.
_CHANNELS = 96  # in and out: with fewer, moving the values costs what the products save
_SIDES = (3, 4)  # of a tile: whichever covers the map in fewer products
_PRODUCTS = 0.5  # of the plain ones: tiles that reach far beyond a small map spare too few
_TILES = 16  # of a map: with fewer, reading the transformed weights takes longer than computing
_TILES_A_TRANSFORM = 64  # where the weights are transformed anew for them
_VALUES = 2**25  # transformed, of an image: 128 MiB, lest the memory for a large picture grows by half
_INSIDE = 0.4 if _AVX512 else 0.75  # of all taps at all cells
_CELLS = 1024  # of a batch, to pass over taps one by one


class AtrousConv2d(Substitute):
    """A 3x3 convolution that keeps the size: the same values, to rounding, in fewer products.

    On large maps by Winograd's filtering, unless the processor has AVX-512; where the rate comes near the size of the
    map, without the taps that fall beside it and would add zeros. It can be differentiated once.
    """

    def forward(self, values_BCHW: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, c, h, w)."""
        if torch.compiler.is_exporting():  # an exported file takes maps of any size
            return super().forward(values_BCHW)
        if torch.is_grad_enabled():
            return self._learning(values_BCHW)
        tiling = find_tiling(self, values_BCHW, _TILES_A_TRANSFORM)
        if tiling:
            return convolve(values_BCHW, transform(self.weight, tiling), tiling, self.bias)
        return self._shortened(values_BCHW)

    def _learning(self, values_BCHW: Tensor) -> Tensor:
        tiling = find_tiling(self, values_BCHW, max(_TILES, _TILES_A_TRANSFORM // (len(values_BCHW) or 1)))
        if tiling:
            found_BKHW: Tensor = Filtered.apply(values_BCHW, self.weight, tiling)
        elif dtype := _dtype_by_taps(self, values_BCHW):
            found_BKHW = InsideTaps.apply(values_BCHW.to(dtype), self.weight.to(dtype), self.dilation[0])
        else:
            return self._shortened(values_BCHW)
        return found_BKHW if self.bias is None else found_BKHW + self.bias.to(found_BKHW.dtype)[:, None, None]

    def _shortened(self, values_BCHW: Tensor) -> Tensor:
        """Without the rows and columns of taps that fall beside the map wherever they are put."""
        within = [rate < side for rate, side in zip(self.dilation, values_BCHW.shape[-2:], strict=True)]
        if all(within):
            return super().forward(values_BCHW)
        rows, columns = (slice(0, 3) if all_three else slice(1, 2) for all_three in within)
        padding = [rate * all_three for rate, all_three in zip(self.dilation, within, strict=True)]
        weight = self.weight[:, :, rows, columns]
        return conv2d(values_BCHW, weight, self.bias, padding=padding, dilation=self.dilation)


def is_atrous(layer: nn.Conv2d) -> bool:
    """Whether `AtrousConv2d` can take the layer's place, and has anything to gain there."""
    fits = layer.kernel_size == (3, 3) and layer.groups == 1 and keeps_size(layer)
    return fits and (_is_wide(layer) or layer.dilation[0] > 1)


def find_tiling(layer: nn.Conv2d, values_BCHW: Tensor, least: int = _TILES) -> Tiling | None:
    """The tiles, `least` of them or more, for what a layer that `is_atrous` gets; None where they are no quicker.

    They hang on the size of the map and the processor's kernels alone. bf16 has too few digits for them; GPUs have such
    kernels of their own.
    """
    if _AVX512 or processor_dtype(values_BCHW) not in (torch.float32, torch.float64) or not _is_wide(layer):
        return None
    (height, width), rate = values_BCHW.shape[-2:], layer.dilation[0]
    tilings = [Tiling.of((height, width), side, rate) for side in _SIDES]
    best = min(tilings, key=lambda tiling: tiling.products)
    worth = best.tiles >= least and best.products <= _PRODUCTS * inside((height, width), rate)
    large = best.products * (layer.in_channels + layer.out_channels) > _VALUES
    return best if worth and not large else None


def _dtype_by_taps(layer: nn.Conv2d, values_BCHW: Tensor) -> torch.dtype | None:
    """In what to compute without the taps beside the map; None where all of them are as quick."""
    dtype = processor_dtype(values_BCHW)
    known = dtype in (torch.float32, torch.float64) or (dtype == torch.bfloat16 and computes_bf16())
    if not (known and _is_wide(layer)):
        return None
    batch, _, height, width = values_BCHW.shape
    few = inside((height, width), layer.dilation[0]) <= _INSIDE * 9 * height * width
    return dtype if few and batch * height * width >= _CELLS else None


def _is_wide(layer: nn.Conv2d) -> bool:
    return min(layer.in_channels, layer.out_channels) >= _CHANNELS
