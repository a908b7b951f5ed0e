"""Windows: which part of an image a sample shows, read without the rest."""

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_data import save

from segmentation.data import create_dataset
from segmentation.data.augmentation import resize_image, resize_mask, training_transform
from segmentation.data.cache import cached
from segmentation.data.raster import without_georeference_warning
from segmentation.data.windows import Span, draw_window, random_pixel, read_part, zoom_and_crop
from segmentation.types import IGNORE_INDEX, Sample

FILL = 255
sides = st.integers(1, 70)
two_sides = st.tuples(sides, sides)


@given(shape=two_sides, size=two_sides, zoom=st.floats(0.01, 40.0), seed=st.integers(0, 1000))
def test_it_shows_as_much_as_there_is(
    shape: tuple[int, int], size: tuple[int, int], zoom: float, seed: int
) -> None:
    window = draw_window(shape, size, (zoom, zoom), Random(seed))
    seen = zoom_and_crop(window, np.zeros(shape, np.uint8), resize_mask, fill=FILL)
    assert seen.shape == size
    for span, side, length, axis in zip((window.rows, window.columns), shape, size, (0, 1), strict=True):
        inside = np.flatnonzero((seen == 0).any(axis=1 - axis))
        assert inside.size == min(length, max(1, round(side * zoom)))
        assert np.ptp(inside) == inside.size - 1
        assert 0 <= span.taken.start < span.taken.stop <= side


@given(side=st.integers(2, 300), length=sides, zoom=st.floats(0.1, 40.0), seed=st.integers(0, 1000))
def test_its_zoom_is_the_one_drawn(side: int, length: int, zoom: float, seed: int) -> None:
    span = draw_window((side, side), (length, length), (zoom, zoom), Random(seed)).rows
    taken = span.taken.stop - span.taken.start
    # To half a zoomed pixel here, and to half a one of the whole picture.
    assert abs(span.zoomed - taken * zoom) <= 0.5 + 0.5 * taken / side or side * zoom < 1
    # No more is zoomed than the window shows, and the rest of the pixels at its ends.
    assert span.zoomed <= length + 2 * max(zoom, 1) + 2


def test_unzoomed_it_is_a_crop() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    window = draw_window(picture.shape, (16, 60), (1.0, 1.0), Random(0))
    seen = zoom_and_crop(window, picture, resize_image, fill=FILL)
    columns = window.columns.filled
    assert np.array_equal(seen[:, columns], picture[window.rows.taken])
    assert (np.delete(seen, columns, axis=1) == FILL).all()


def places(spans: list[Span]) -> np.ndarray:
    """Where the window begins on the zoomed picture, in pixels of the picture."""
    return np.array(
        [
            span.taken.start + span.kept.start * (span.taken.stop - span.taken.start) / span.zoomed
            for span in spans
        ]
    )


def test_every_zoom_and_every_place_is_as_likely() -> None:
    drawn = [draw_window((60, 64), (24, 24), (0.8, 2.0), Random(seed)) for seed in range(3000)]
    zooms = np.array([w.rows.zoomed / (w.rows.taken.stop - w.rows.taken.start) for w in drawn])
    assert abs(zooms.mean() - 1.4) < 0.03
    assert abs(zooms.std() - 1.2 / 12**0.5) < 0.03
    # From 0 to what is left beside the window, evenly.
    shares = places([w.rows for w in drawn]) / (60 - 24 / zooms)
    counts, _ = np.histogram(shares, bins=5, range=(-0.02, 1.02))
    assert counts.min() > 500
    assert {
        place.start
        for place in (draw_window((9, 9), (20, 20), (1, 1), Random(s)).rows.filled for s in range(200))
    } == set(range(12))


def test_a_high_zoom_reaches_between_the_pixels() -> None:
    drawn = [draw_window((5, 5), (8, 8), (10, 10), Random(seed)).rows for seed in range(500)]
    assert {round(10 * place) for place in places(drawn)} == set(range(50 - 8 + 1))


@pytest.mark.parametrize("zoom", [0.7, 1.0, 1.7, 3.0, 12.0])
def test_pictures_move_as_if_they_were_zoomed_whole(zoom: float) -> None:
    # Slopes keep their slope: what lies where in the window can be read off its values, along both axes.
    rows, columns = np.mgrid[0:120, 0:120].astype(np.uint8) * 2
    picture = np.stack([rows, columns, rows], axis=2)
    for seed in range(20):
        window = draw_window(picture.shape, (64, 48), (zoom, zoom), Random(seed))
        seen = zoom_and_crop(window, picture, resize_image, fill=FILL).astype(float) / 2
        for axis, span in enumerate((window.rows, window.columns)):
            cells = np.arange(span.kept.stop - span.kept.start)
            expected = places([span])[0] + (cells + 0.5) / zoom - 0.5
            found = seen[..., axis].mean(axis=1 - axis)[cells]
            inner = (expected > 0) & (expected < 119)
            assert np.abs(found - expected)[inner].max() < 0.5 + 0.6 / zoom


@given(
    shape=two_sides,
    size=two_sides,
    zoom=st.floats(0.1, 10.0),
    seed=st.integers(0, 1000),
    place=st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True)),
)
def test_a_window_shows_the_pixel_that_is_wanted(
    shape: tuple[int, int], size: tuple[int, int], zoom: float, seed: int, place: tuple[float, float]
) -> None:
    row, column = (int(side * share) for side, share in zip(shape, place, strict=True))
    window = draw_window(shape, size, (zoom, zoom), Random(seed), (row, column))
    for span, pixel in ((window.rows, row), (window.columns, column)):
        assert span.taken.start <= pixel < span.taken.stop


class Large:
    """One image whose values say where its pixels lie, of which it counts what is read."""

    names = ("large",)

    def __init__(self, height: int, width: int, label: tuple[int, int] = (0, 0)) -> None:
        self.rows, self.columns = np.mgrid[:height, :width]
        self.labels = np.zeros((height, width), np.uint8)
        self.labels[label] = 1
        self.parts: list[tuple[slice, slice]] = []

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        return self.window(index, slice(0, len(self.rows)), slice(0, self.rows.shape[1]))

    def size(self, index: int) -> tuple[int, int]:
        return self.labels.shape[0], self.labels.shape[1]

    def mask(self, index: int) -> np.ndarray:
        return self.labels

    def window(self, index: int, rows: slice, columns: slice) -> Sample:
        self.parts.append((rows, columns))
        image = np.stack([self.rows, self.columns], axis=2)[rows, columns]
        return {"image": image, "mask": self.labels[rows, columns], "name": "large"}


@pytest.mark.parametrize("reach", [(20, 24), (31, 40)])
def test_parts_of_a_large_image_reach_everywhere_alike(reach: tuple[int, int]) -> None:
    samples, size = Large(100, 130), (20, 24)
    seen = np.zeros((100, 130))
    for seed in range(4000):
        part = read_part(samples, 0, reach, size, seed, None)
        window = draw_window(part["image"].shape, size, (1, 1), Random(seed))
        shown = zoom_and_crop(window, part["image"], resize_image, fill=FILL)
        assert part["image"].shape[0] <= reach[0] and part["image"].shape[1] <= reach[1]
        assert shown.shape == (*size, 2)  # never padded: the image is larger than the window
        seen[shown[0, 0, 0] + 10, shown[0, 0, 1] + 12] += 1
    # Middles of windows: no third of the image is seen much more than the others.
    thirds = np.add.reduceat(np.add.reduceat(seen, [0, 37, 64], 0), [0, 47, 83], 1)
    assert thirds.min() > 0.6 * thirds.max()


@pytest.mark.parametrize("place", [(0, 0), (98, 128), (50, 12), (77, 64)])
@pytest.mark.parametrize(("scale", "rotate"), [((1.0, 1.0), 0.0), ((0.7, 1.6), 0.0), ((0.8, 1.2), 20.0)])
def test_a_wanted_class_is_in_the_window(
    place: tuple[int, int], scale: tuple[float, float], rotate: float
) -> None:
    samples = Large(100, 130, place)
    samples.labels[place[0] : place[0] + 2, place[1] : place[1] + 2] = 1
    transform = training_transform(size=(20, 24), resize=False, scale=scale, rotate=rotate)
    found = 0
    for seed in range(60):
        part = read_part(samples, 0, transform.reach, transform.size, seed, 1)
        image = np.repeat(part["image"][:, :, :1].astype(np.uint8), 3, axis=2)
        shown = transform({**part, "image": image}, seed, 1)
        found += 1 in shown["mask"]
    if (scale, rotate) == ((1.0, 1.0), 0.0):
        assert found == 60
    elif not rotate or place in ((50, 12), (77, 64)):  # a rotation turns a corner out of sight
        assert found > 45  # of an object of four pixels, the border of the window may cut off all


def test_a_random_pixel_of_a_class() -> None:
    mask = np.zeros((3, 4), np.uint8)
    mask[1, 2] = mask[2, 3] = 5
    random = np.random.default_rng(0)
    assert {random_pixel(mask, 5, random) for _ in range(50)} == {(1, 2), (2, 3)}
    assert random_pixel(mask, 6, random) is None


def test_windows_of_files_and_of_their_cache_are_those_of_the_image(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(4):
        save(tmp_path / "images" / f"{number}.png", random.integers(0, 255, (40, 60, 3), dtype=np.uint8))
        save(tmp_path / "masks" / f"{number}.png", random.choice(np.array([0, 255], np.uint8), (40, 60)))
    files = create_dataset(name="binary", root=str(tmp_path)).train
    for samples in (files, cached({"train": files})["train"]):
        whole, rows, columns = samples[1], slice(3, 20), slice(50, 60)
        part = samples.window(1, rows, columns)  # type: ignore[attr-defined]
        for key in ("image", "mask"):
            assert np.array_equal(part[key], whole[key][rows, columns])  # type: ignore[literal-required]
        assert samples.size(1) == (40, 60)  # type: ignore[attr-defined]
        assert np.array_equal(samples.mask(1), whole["mask"])  # type: ignore[attr-defined]
    assert IGNORE_INDEX not in whole["mask"]


@pytest.mark.parametrize(
    ("bands", "dtype", "options"),
    [
        (3, "uint8", {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}),
        (3, "uint8", {"compress": "lzw"}),
        (1, "uint16", {}),
        (4, "uint16", {"interleave": "pixel"}),
    ],
)
def test_windows_of_a_tiff_are_read_without_the_rest(
    bands: int, dtype: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rasterio = pytest.importorskip("rasterio")
    values = np.random.default_rng(0).integers(0, 250, (bands, 48, 64)).astype(dtype)
    (tmp_path / "images").mkdir()
    for number in range(3):
        with (
            without_georeference_warning(),
            rasterio.open(
                tmp_path / "images" / f"{number}.tif",
                "w",
                driver="GTiff",
                height=48,
                width=64,
                count=bands,
                dtype=dtype,
                **options,
            ) as file,
        ):
            file.write(values)
        save(
            tmp_path / "masks" / f"{number}.png", np.pad(np.full((20, 30), 255, np.uint8), ((9, 19), (4, 30)))
        )
    samples = create_dataset(max(bands, 3), name="binary", root=str(tmp_path)).train
    whole, rows, columns = samples[0], slice(5, 30), slice(33, 64)
    monkeypatch.setattr("segmentation.data.dataset.read_sized", None)  # reads whole images
    part = samples.window(0, rows, columns)  # type: ignore[attr-defined]
    assert np.array_equal(part["image"], whole["image"][rows, columns])
    assert np.array_equal(part["mask"], whole["mask"][rows, columns])
