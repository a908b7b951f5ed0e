"""Areas of scenes as samples: read by window, with labels from outlines or rasters."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from segmentation.data.dataset import Fingerprint
from segmentation.data.files import evenly_spaced
from segmentation.data.geo.labels import SceneLabels
from segmentation.data.geo.scenes import Scene, opened_raster
from segmentation.data.geo.vectors import Burnt
from segmentation.data.image_io import fit_bands
from segmentation.data.pixel_range import PixelRange, to_bytes
from segmentation.types import IGNORE_INDEX, Area, Sample

_LOOKED_AT = 8  # files in which a no-data value is looked for
_SIDE = 256  # pixels: the side of what is looked at
_LEAST_SHARE = 0.01
_HIGHEST = (32767, 65535, 2**31 - 1, 2**32 - 1)
_MEASURED_SIDE = 512  # pixels of an area whose values are measured


def undeclared_no_data(scenes: Sequence[Scene]) -> Iterator[str]:
    """A note on each file, of some, that seems to hold a no-data value which it does not declare.

    Looked at are its corners and its middle: whether a hundredth has one value in all bands, below all others by a
    tenth of their spread; or above, if it is the highest of the type.
    """
    headers = {source.header.name: source.header for scene in scenes for source in scene.sources}
    silent = [header for header in headers.values() if not header.masked]
    for index in evenly_spaced(len(silent), _LOOKED_AT):
        name, (height, width), bands = silent[index].name, silent[index].size, list(silent[index].bands)
        bottom, right = max(0, height - _SIDE), max(0, width - _SIDE)
        with opened_raster(name) as file:
            parts = [
                file.read(bands, window=((top, min(top + _SIDE, height)), (left, min(left + _SIDE, width))))
                for top, left in {*product((0, bottom), (0, right)), (bottom // 2, right // 2)}
            ]
        values_CP = np.concatenate([part_CHW.reshape(len(bands), -1) for part_CHW in parts], axis=1)
        found = _odd_value(values_CP)
        if found is not None:
            yield (
                f"{name}: {found[1]:.0%} of the pixels that were looked at are {found[0]:g} in every band, far from all"
                f" others, and count as data. If there are none: rio edit-info --nodata {found[0]:g} {Path(name).name}"
            )


def _odd_value(values_CP: np.ndarray) -> tuple[float, float] | None:
    """A value that may mean no data, and its share of the pixels."""
    values_CP = values_CP[:, np.isfinite(values_CP).all(axis=0)].astype(np.float64)
    if not values_CP.size:
        return None
    for value in (values_CP.min(), values_CP.max()):
        held_P = (values_CP == value).all(axis=0)
        rest = values_CP[:, ~held_P]
        if held_P.mean() < _LEAST_SHARE or not rest.size:
            continue
        low, high = np.percentile(rest, (1, 99))
        beyond = low - value if value < low else value - high
        if beyond > (high - low) / 10 and (value < low or value in _HIGHEST or value > 1e30):
            return float(value), float(held_P.mean())
    return None


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
        return list(map(self._name, self.areas))

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
        mask_HW = self._mask(area.scene, rows, columns, valid_HW)
        return {"image": image_HWC, "mask": mask_HW, "name": self._name(area)}

    def mask(self, index: int) -> np.ndarray:
        """The whole mask, uint8 (H, W), without reading the bands of whole numbers. Raises `UserError` as `window`."""
        scene, top, left, bottom, right = self.areas[index]
        rows, columns = slice(top, bottom), slice(left, right)
        return self._mask(scene, rows, columns, self.scenes[scene].holds(rows, columns, 1, self.bands))

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

    def _name(self, area: Area) -> str:
        return f"{self.scenes[area.scene].name}/{area.top}_{area.left}"

    def _mask(self, scene: int, rows: slice, columns: slice, valid_HW: np.ndarray) -> np.ndarray:
        mask_HW = self.labels[scene].mask(rows, columns)
        extent = self.extents[scene]
        if extent is not None:
            mask_HW[extent.mask(rows, columns) == 0] = IGNORE_INDEX
        mask_HW[~valid_HW] = IGNORE_INDEX
        return mask_HW
