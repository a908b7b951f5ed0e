"""A look at a data set before a run spends time on it."""

from segmentation.data.dataset import Samples, SegmentationDataset
from segmentation.data.files import LOOKS, evenly_spaced
from segmentation.data.image_io import present_values
from segmentation.errors import UserError
from segmentation.types import IGNORE_INDEX


def check_samples(source: SegmentationDataset) -> None:
    """Reads samples spread over each split, so that what is wrong with the data shows before the first step.

    The data sets check each file as they read it, its number of bands included, now as later. Beyond that,
    raises `UserError` for an empty split, for a split whose masks are ignored entirely, and for masks of 0/255
    in data of several classes.
    """
    looked_at: list[Samples] = []
    for split, samples in source.splits().items():
        if not len(samples):
            raise UserError(f"The {split} split holds no images: every split needs at least one.")
        if samples not in looked_at:  # val may serve as test
            looked_at.append(samples)
            _check_labels(split, samples, binary=source.classes.binary)


def _check_labels(split: str, samples: Samples, *, binary: bool) -> None:
    seen: set[int] = set()
    places = evenly_spaced(len(samples), LOOKS)
    for index in places:
        seen |= set(present_values(samples[index]["mask"]))
    if seen == {IGNORE_INDEX}:
        raise UserError(
            f"All pixels of the {len(places)} {split} masks looked at are ignored: "
            "mend the masks or dataset.ignore."
        )
    if seen == {0, IGNORE_INDEX} and not binary:
        raise UserError(
            f"The {len(places)} {split} masks looked at hold only 0 and 255, and 255 is ignored: "
            "use dataset=binary for masks of 0/255."
        )
