"""How often each class occurs in the training masks, and the class weights that follow from it."""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from segmentation.data.dataset import Samples, read_ahead
from segmentation.data.windows import Windowed
from segmentation.errors import UserError
from segmentation.machine import cores
from segmentation.types import Classes

_READ_AHEAD = 4  # masks per thread


def count_classes(samples: Samples, classes: int) -> np.ndarray:
    """int64 (N, K): the pixels of each class in each mask; ignored ones count nowhere. All masks are read."""

    def count(index: int) -> np.ndarray:
        mask = samples.mask(index) if isinstance(samples, Windowed) else samples[index]["mask"]
        return np.bincount(mask.ravel(), minlength=256)[:classes]

    with ThreadPoolExecutor(cores()) as pool:
        rows = read_ahead(count, range(len(samples)), pool, ahead=_READ_AHEAD * cores())
        hidden = not sys.stderr.isatty()
        found = list(tqdm(rows, desc="counting classes", total=len(samples), leave=False, disable=hidden))
    return np.stack(found).astype(np.int64)


def class_weights(counts_NK: np.ndarray) -> list[float]:
    """Weights of the classes by ENet's formula (Paszke et al. 2016): 1 / ln(1.02 + p), p the class's share of pixels.

    They lie between 1.4 and 50 and are divided by that of the most frequent class; a class that does not occur gets
    the weight of the rarest that does. Raises `UserError` where no pixel is labelled.
    """
    totals = counts_NK.sum(axis=0)
    if not totals.any():
        raise UserError(
            "No training mask holds a labelled pixel, so there are no class weights: correct the masks."
        )
    shares = totals / totals.sum()
    shares[totals == 0] = shares[totals > 0].min()
    weights = 1 / np.log(1.02 + shares)
    return [round(float(weight), 3) for weight in weights / weights.min()]


def described_weights(weights: Sequence[float], classes: Classes) -> str:
    """For the log: `background 1, crack 21.4`."""
    return ", ".join(f"{name} {weight:g}" for name, weight in zip(classes.names, weights, strict=True))
