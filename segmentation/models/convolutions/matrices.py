"""The fixed matrices of Winograd's filtering, by Toom and Cook: products of polynomials at points, turned around."""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# How much a tile rounds hangs on where its polynomials are evaluated (Barabasz et al. 2018, arXiv:1803.10986): at these
# points hardly more than a plain convolution, at the usual 0, 1, -1, 2, -2 twice that.
_POINTS = (0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5))


class Matrices(NamedTuple):
    """What brings pixels and weights to the S = n * n places of a tile, and their products to m * m answers."""

    pixels: Tensor  # (S, S)
    weights: Tensor  # (S, 9)
    answers: Tensor  # (m * m, S)


@cache
def matrices_for(side: int, dtype: torch.dtype) -> Matrices:
    """For tiles of `side` x `side` answers from n x n pixels, n = side + 2, with a 3x3 kernel."""
    count = side + 2
    powers = np.zeros((count, count))
    powers[:-1] = np.array(_POINTS[: count - 1])[:, None] ** np.arange(count)
    powers[-1, -1] = 1  # the point at infinity: the highest coefficient
    pixels = np.linalg.inv(powers).T
    lengths = np.linalg.norm(pixels, axis=1, keepdims=True)
    pixels /= lengths  # values keep about their size; the weights take it over
    weights = np.vstack([powers[:-1, :3], np.eye(3)[-1]]) * lengths
    answers = np.vstack([powers[:-1, :side], np.eye(side)[-1]]).T
    both_ways = (np.kron(one, one) for one in (pixels, weights, answers))  # along rows and columns
    return Matrices(*(torch.tensor(matrix, dtype=dtype, device="cpu") for matrix in both_ways))
