"""Pairs of files as a data set."""

from collections.abc import Sequence
from dataclasses import dataclass

from segmentation.data.files import Pairs
from segmentation.data.images import read_image
from segmentation.data.masks import MaskDecoder
from segmentation.errors import UserError
from segmentation.sample import Sample


@dataclass(frozen=True)
class PairDataset:
    """Reads the image, of `channels` bands, and the mask of a pair each time it is asked, and checks them."""

    pairs: Pairs
    decoder: MaskDecoder
    channels: int = 3

    @property
    def names(self) -> Sequence[str]:
        """The stems of the image files, in order."""
        return self.pairs.names

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Raises `UserError` for files that cannot be read, labels of no class and sizes that differ."""
        image_path, mask_path = self.pairs.image_path(index), self.pairs.mask_path(index)
        image, mask = read_image(image_path, self.channels), self.decoder.decode(mask_path)
        (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape
        if (height, width) != (mask_height, mask_width):
            swapped = (height, width) == (mask_width, mask_height)
            cause = " Was the mask drawn without the image's EXIF orientation?" if swapped else ""
            raise UserError(
                f"{image_path} has {width}x{height} pixels, but {mask_path} {mask_width}x{mask_height}: "
                f"make them equal.{cause}"
            )
        return {"image": image, "mask": mask, "name": image_path.stem}
