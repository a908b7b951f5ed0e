"""Boundary IoU against the paper's own procedure, a class at a time."""

import math

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from segmentation.metrics import BoundaryCounts, boundary_iou
from segmentation.types import IGNORE_INDEX


def blobs(classes: int, shape: tuple[int, int, int], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(classes, (shape[0], shape[1] // 12 + 1, shape[2] // 12 + 1), generator=generator)
    labels = coarse.repeat_interleave(12, 1).repeat_interleave(12, 2)
    return labels[:, : shape[1], : shape[2]].byte().contiguous()


def paper_band(mask: np.ndarray) -> np.ndarray:
    """The mask less what is left of it after as many erosions as the band is wide; zero beyond the image."""
    width = max(round(0.02 * math.hypot(*mask.shape)), 1)
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)
    return mask - eroded[1:-1, 1:-1]


@pytest.mark.parametrize("shape", [(3, 60, 80), (2, 137, 201), (1, 7, 5), (1, 300, 420)])
@pytest.mark.parametrize("classes", [2, 5, 254])
@pytest.mark.parametrize("ignored", [False, True])
def test_as_in_the_paper(classes: int, shape: tuple[int, int, int], ignored: bool) -> None:
    labels, mask = blobs(classes, shape, 0), blobs(classes, shape, 1)
    mask = torch.where(blobs(3, shape, 2) > 0, labels, mask)  # mostly right
    if ignored:
        mask[blobs(7, shape, 3) == 0] = IGNORE_INDEX
    metric = BoundaryCounts(classes + 1)  # the last one never occurs
    metric.update(labels, mask)
    both, either = np.zeros(classes + 1, int), np.zeros(classes + 1, int)
    for label_HW, mask_HW in zip(labels.numpy(), mask.numpy(), strict=True):
        valid = mask_HW != IGNORE_INDEX
        for label in range(classes):
            truth = paper_band(((mask_HW == label) & valid).astype(np.uint8))
            predicted = paper_band(((label_HW == label) & valid).astype(np.uint8))
            both[label] += (truth & predicted).sum()
            either[label] += (truth | predicted).sum()
    assert metric.compute().tolist() == [both.tolist(), either.tolist()]
    values = boundary_iou(metric.compute())
    assert values[-1].isnan() and (values[:-1].isnan() == torch.tensor(either[:-1] == 0)).all()


def test_a_shifted_disc_loses_more_at_its_boundary_than_inside() -> None:
    rows, columns = np.mgrid[:200, :200]
    truth, shifted = (
        torch.tensor(((rows - 100) ** 2 + (columns - middle) ** 2 < 60**2).astype(np.uint8))[None]
        for middle in (100, 104)
    )
    metric = BoundaryCounts(2)
    metric.update(shifted, truth)
    iou = float((truth & shifted).sum() / (truth | shifted).sum())
    assert 0.2 < float(boundary_iou(metric.compute())[1]) < iou - 0.2
