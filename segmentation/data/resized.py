"""A split at the size that the model sees: the part of the way that is the same in every epoch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from segmentation.data.augmentation import resize_image, resize_mask
from segmentation.data.pairs import PairDataset
from segmentation.data.source import Samples, Trace, traced
from segmentation.sample import Sample


def resized(samples: Samples, size: tuple[int, int], *, masks: bool) -> Samples:
    """Images, and with `masks` their masks too, at `size` (H, W); photographs are decoded no larger than needed."""
    if isinstance(samples, PairDataset):
        samples = replace(samples, least=size)
    return _Resized(samples, size, masks)


@dataclass(frozen=True)
class _Resized:
    samples: Samples
    size: tuple[int, int]
    masks: bool

    @property
    def names(self) -> Sequence[str]:
        """As the samples' own."""
        return self.samples.names

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        sample = self.samples[index]
        mask = resize_mask(sample["mask"], self.size) if self.masks else sample["mask"]
        return {"image": resize_image(sample["image"], self.size), "mask": mask, "name": sample["name"]}

    def trace(self) -> Trace:
        """The samples' own, and the size."""
        what, state = traced(self.samples)
        return Trace(f"{what}\n{self.size} {self.masks}", state)
