"""Images that are the same or nearly the same, in a split and between splits, without comparing each with each."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

BITS = 3
"""Perceptual hashes of nearly the same images differ by at most so many of 64 bits."""

_BANDS = 4  # of 16 bits: two hashes that differ by up to three bits have an equal one (pigeonhole)
_ALL_PAIRS = 256  # members of a bucket; in larger ones each is compared with the next in the hashes' order
_NEXT = 32
_CONTRAST = (
    4.0  # standard deviation of the grey picture below which an image is too plain to be told from others
)
_CORRELATION = 0.98


def equal_keys(keys: np.ndarray) -> list[np.ndarray]:
    """Indices of equal keys (N,), ascending, a group each; 0 is no key."""
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=0, append=0))
    groups = [order[start:end] for start, end in pairwise([*starts.tolist(), len(keys)])]
    return [group for group in groups if len(group) > 1 and keys[group[0]]]


def similar_pairs(looks: np.ndarray, thumbnails: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """(M, 2): indices of images that look alike, the lower one first.

    `looks` uint64 (N,) are perceptual hashes, `thumbnails` uint8 (N, H, W) the grey pictures, which decide, and
    `parts` (N,) numbers of splits. Of many equal hashes each image is paired with the first of each split only, so
    the number of pairs grows with N and not with its square.
    """
    if not len(looks):
        return np.empty((0, 2), int)
    pictures = thumbnails.reshape(len(thumbnails), -1)
    candidates = np.flatnonzero(_contrast(pictures) >= _CONTRAST)
    values, first_of = np.unique(looks[candidates], return_inverse=True)
    order = np.argsort(first_of, kind="stable")
    members = np.split(candidates[order], np.flatnonzero(np.diff(first_of[order])) + 1)
    firsts = (
        [group[np.unique(parts[group], return_index=True)[1]] for group in members] if len(values) else []
    )
    pairs = [_crossed(first, group) for first, group in zip(firsts, members, strict=False) if len(group) > 1]
    pairs += [_crossed(firsts[one], firsts[other]) for one, other in _near(values)]
    if not pairs:
        return np.empty((0, 2), int)
    found = np.concatenate(pairs)
    found = np.unique(np.sort(found[found[:, 0] != found[:, 1]], axis=1), axis=0)
    return found[_correlation(pictures, found) >= _CORRELATION]


def _crossed(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.stack(np.meshgrid(ones, others), axis=-1).reshape(-1, 2)


def _near(values: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of different hashes (sorted) with at most `BITS` different bits: those that share a band are compared."""
    for band in range(_BANDS):
        parts = values >> np.uint64(16 * band) & np.uint64(0xFFFF)
        order = np.argsort(parts, kind="stable")
        for bucket in np.split(order, np.flatnonzero(np.diff(parts[order])) + 1):
            if len(bucket) < 2:
                continue
            steps = len(bucket) if len(bucket) <= _ALL_PAIRS else _NEXT
            for step in range(1, min(steps, len(bucket))):
                ones, others = bucket[:-step], bucket[step:]
                close = np.bitwise_count(values[ones] ^ values[others]) <= BITS
                yield from zip(ones[close].tolist(), others[close].tolist(), strict=True)


def _contrast(pictures: np.ndarray) -> np.ndarray:
    return np.array([picture.std() for picture in pictures])


def _correlation(pictures: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Pearson's correlation of the pictures in each pair."""
    found = np.empty(len(pairs))
    for start in range(0, len(pairs), 4096):
        ones, others = (_standardised(pictures[side]) for side in pairs[start : start + 4096].T)
        found[start : start + 4096] = (ones * others).mean(axis=1)
    return found


def _standardised(pictures: np.ndarray) -> np.ndarray:
    values = pictures - pictures.mean(axis=1, keepdims=True)
    standardised: np.ndarray = values / pictures.std(axis=1, keepdims=True)
    return standardised
