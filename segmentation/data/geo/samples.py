"""Areas of scenes as samples: read by window, with labels from outlines or rasters."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segmentation.data.dataset import Fingerprint
from segmentation.data.geo.labels import SceneLabels
from segmentation.data.geo.scenes import Scene
from segmentation.data.geo.vectors import Burnt
from segmentation.data.image_io import fit_bands
from segmentation.data.pixel_range import PixelRange, to_bytes
from segmentation.types import IGNORE_INDEX, Area, Sample

_MEASURED_SIDE = 512  # pixels of an area whose values are measured


@dataclass(frozen=True, eq=False)
class AreaDataset:
    """Areas of scenes as samples, each of `channels` bands, the numbers `bands`; read by window.

    Pixels without data, and those outside the labelled extent, are 0 and ignored.
    """

    scenes: Sequence[Scene]
    labels: Sequence[SceneLabels]
    extents: Sequence[Burnt | None]
    areas: Sequence[Area]
    channels: int
    bands: tuple[int, ...] | None = None
    pixel_range: PixelRange | None = None

    @property
    def names(self) -> list[str]:
        """SCENE/ROW_COLUMN: the scene and the upper left corner."""
        return [f"{self.scenes[area.scene].name}/{area.top}_{area.left}" for area in self.areas]

    def __len__(self) -> int:
        return len(self.areas)

    def __getitem__(self, index: int) -> Sample:
        """Raises `UserError` as `window` does."""
        height, width = self.areas[index].size
        return self.window(index, slice(0, height), slice(0, width))

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) of the area."""
        return self.areas[index].size

    def window(self, index: int, rows: slice, columns: slice) -> Sample:
        """These rows and columns of an area.

        Raises `UserError` for files that cannot be read, for other bands and for labels outside the classes.
        """
        area = self.areas[index]
        rows, columns = (
            slice(side.start + start, side.stop + start)
            for side, start in ((rows, area.top), (columns, area.left))
        )
        scene = self.scenes[area.scene]
        values_CHW, valid_HW = scene.read(rows, columns, self.bands)
        name = scene.sources[0].header.name
        pixels_HWC = to_bytes(values_CHW.transpose(1, 2, 0), self.pixel_range, name)
        if self.pixel_range is not None:
            pixels_HWC[~valid_HW] = 0
        image_HWC = np.ascontiguousarray(fit_bands(pixels_HWC, self.channels, name))
        mask_HW = self._mask(area.scene, rows, columns)
        mask_HW[~valid_HW] = IGNORE_INDEX
        return {"image": image_HWC, "mask": mask_HW, "name": self.names[index]}

    def mask(self, index: int) -> np.ndarray:
        """The whole mask, uint8 (H, W). Raises `UserError` as `window` does."""
        return self[index]["mask"]

    def values(self, index: int) -> np.ndarray | None:
        """The values (H, W, C) in the middle of an area, nan without data; None where they have 8 bits."""
        area = self.areas[index]
        scene = self.scenes[area.scene]
        if all(source.header.types[0] == "uint8" for source in scene.sources):
            return None
        rows, columns = (
            slice(max(start, middle - _MEASURED_SIDE // 2), min(stop, middle + _MEASURED_SIDE // 2))
            for start, stop, middle in (
                (area.top, area.bottom, (area.top + area.bottom) // 2),
                (area.left, area.right, (area.left + area.right) // 2),
            )
        )
        values_CHW, valid_HW = scene.read(rows, columns, self.bands)
        values_CHW = values_CHW.astype(np.float64)
        values_CHW[:, ~valid_HW] = np.nan
        return values_CHW.transpose(1, 2, 0)

    def fingerprint(self) -> Fingerprint:
        """Which areas of which files; the files' sizes and modification times."""
        files = sorted({source.header.name for scene in self.scenes for source in scene.sources})
        states = [Path(name).stat() for name in files if Path(name).exists()]
        labels = hashlib.sha256()
        for index in range(len(self)):
            labels.update(self.mask(index).tobytes())
        what = f"{files} {self.areas} {self.channels} {self.bands} {self.pixel_range} {labels.hexdigest()}"
        return Fingerprint(what, str([(state.st_size, state.st_mtime_ns) for state in states]))

    def _mask(self, scene: int, rows: slice, columns: slice) -> np.ndarray:
        mask_HW = self.labels[scene].mask(rows, columns)
        extent = self.extents[scene]
        if extent is not None:
            mask_HW[extent.mask(rows, columns) == 0] = IGNORE_INDEX
        return mask_HW
