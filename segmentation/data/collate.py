"""Samples -> batches."""

import numpy as np
import torch

from segmentation.sample import Batch, Sample


def collate_training(samples: list[Sample]) -> Batch:
    """Equal sizes -> images uint8 (B, C, H, W), masks uint8 (B, H, W)."""
    masks = np.stack([sample["mask"] for sample in samples])
    return {**_stack_images(samples), "mask": torch.from_numpy(masks)}


def collate_evaluation(samples: list[Sample]) -> Batch:
    """Images of equal size -> uint8 (B, C, H, W); masks as a list, each uint8 (H, W) at its own size."""
    masks = [torch.from_numpy(np.ascontiguousarray(sample["mask"])) for sample in samples]
    return {**_stack_images(samples), "mask": masks}


def _stack_images(samples: list[Sample]) -> Batch:
    images = np.stack([sample["image"] for sample in samples])
    # As a view, the stack of (H, W, C) pictures already is a channels-last (B, C, H, W) tensor.
    image_BCHW = torch.from_numpy(images).permute(0, 3, 1, 2)
    return {"image": image_BCHW, "mask": [], "name": [sample["name"] for sample in samples]}
