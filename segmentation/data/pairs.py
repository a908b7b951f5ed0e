"""Pairs of files as a data set."""

import hashlib
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from segmentation.data.files import Pairs
from segmentation.data.images import read_sized
from segmentation.data.masks import MaskDecoder
from segmentation.data.source import Trace
from segmentation.errors import UserError
from segmentation.sample import Sample


@dataclass(frozen=True)
class PairDataset:
    """Reads the image, of `channels` bands, and the mask of a pair each time it is asked, and checks them.

    With `least` (H, W), the size that they are brought to, photographs may come smaller than their files have
    them, but no smaller than twice that: see `segmentation.data.jpeg`.
    """

    pairs: Pairs
    decoder: MaskDecoder
    channels: int = 3
    least: tuple[int, int] | None = None

    @property
    def names(self) -> Sequence[str]:
        """The stems of the image files, in order."""
        return self.pairs.names

    def trace(self) -> Trace:
        """Which files, read how; and their sizes and times of change."""
        files, state = hashlib.sha256(), array("q")
        for index in range(len(self)):
            for path in (self.pairs.image_path(index), self.pairs.mask_path(index)):
                files.update(os.fsencode(f"{path.name}\0"))
                try:
                    status = path.stat()
                except OSError:  # reading it will say why
                    continue
                state.extend((status.st_size, status.st_mtime_ns))
        folders = f"{self.pairs.images.resolve()}\0{self.pairs.masks.resolve()}"
        how = f"{self.decoder!r} {self.channels} {self.least}"
        return Trace(f"{folders}\0{files.hexdigest()}\0{how}", hashlib.sha256(state).hexdigest())

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Raises `UserError` for files that cannot be read, labels of no class and sizes that differ."""
        image_path, mask_path = self.pairs.image_path(index), self.pairs.mask_path(index)
        image, (height, width) = read_sized(image_path, self.channels, self.least)
        mask = self.decoder.decode(mask_path)
        mask_height, mask_width = mask.shape
        if (height, width) != (mask_height, mask_width):
            swapped = (height, width) == (mask_width, mask_height)
            cause = " Was the mask drawn without the image's EXIF orientation?" if swapped else ""
            raise UserError(
                f"{image_path} has {width}x{height} pixels, but {mask_path} {mask_width}x{mask_height}: "
                f"make them equal.{cause}"
            )
        return {"image": image, "mask": mask, "name": self.pairs.names[index]}
