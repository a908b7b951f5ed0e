"""Near duplicates are those that comparing all pairs finds, in time that does not grow with the square."""

import cv2
import numpy as np
import pytest
from made_faults import texture

from segmentation.doctor.duplicates import BITS, equal_keys, similar_pairs
from segmentation.doctor.scan import THUMBNAIL, _thumbnail, perceptual_hash


def looks_of(thumbnails: np.ndarray) -> np.ndarray:
    return np.array([perceptual_hash(each) for each in thumbnails], np.uint64)


def test_groups_of_equal_keys() -> None:
    keys = np.array([5, 0, 7, 5, 0, 9, 7, 7], np.uint64)  # 0 is no key
    assert [group.tolist() for group in equal_keys(keys)] == [[0, 3], [2, 6, 7]]
    assert equal_keys(np.zeros(0, np.uint64)) == []


@pytest.mark.parametrize("change", ["brighter", "noisy", "smaller"])
def test_pairs_are_those_of_all_comparisons(change: str) -> None:
    random = np.random.default_rng(0)
    pictures = [texture(seed) for seed in range(40)]
    for index in (3, 8, 20):
        again = pictures[index].astype(int) + (9 if change == "brighter" else 0)
        if change == "noisy":
            again += random.integers(-3, 4, again.shape)
        again = again.clip(0, 255).astype(np.uint8)
        size = (40, 40) if change == "smaller" else (64, 64)
        pictures.append(cv2.resize(again, size, interpolation=cv2.INTER_AREA))
    thumbnails = np.stack([_thumbnail(picture) for picture in pictures])
    looks = looks_of(thumbnails)
    pairs = similar_pairs(looks, thumbnails, np.zeros(len(looks), int))
    assert pairs.tolist() == [[3, 40], [8, 41], [20, 42]]
    differences = np.bitwise_count(looks[:, None] ^ looks)
    ones, others = np.nonzero(np.triu(differences <= BITS, 1))
    assert set(zip(ones.tolist(), others.tolist(), strict=True)) >= set(map(tuple, pairs.tolist()))


def test_plain_pictures_are_not_alike() -> None:
    plain = np.full((5, *THUMBNAIL), 90, np.uint8)
    assert len(similar_pairs(looks_of(plain), plain, np.zeros(5, int))) == 0
    assert len(similar_pairs(looks_of(plain[:0]), plain[:0], np.zeros(0, int))) == 0


def test_many_equal_pictures_give_few_pairs_and_every_split_is_told() -> None:
    thumbnails = np.stack([_thumbnail(texture(1))] * 3000)
    parts = np.repeat([0, 1, 2], 1000)
    pairs = similar_pairs(looks_of(thumbnails[:1]).repeat(3000), thumbnails, parts)
    assert len(pairs) < 3 * 3000
    crossing = pairs[parts[pairs[:, 0]] != parts[pairs[:, 1]]]
    assert set(crossing.ravel().tolist()) == set(range(3000))
