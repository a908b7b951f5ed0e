"""Photographs decoded the quick way are those that Pillow decodes; reduced ones are averages of them."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from made_data import mask, save
from PIL import Image

from segmentation.data import create_dataset, image_io
from segmentation.data.datamodule import resized
from segmentation.data.image_io import open_picture, read_image, read_sized
from segmentation.errors import UserError


def scene(height: int = 90, width: int = 130) -> np.ndarray:
    """Soft blotches in colour: what a JPEG keeps."""
    random = np.random.default_rng(0)
    blotches = random.integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
    return cv2.resize(blotches, (width, height), interpolation=cv2.INTER_CUBIC)


def by_pillow(path: Path) -> np.ndarray:
    return np.array(open_picture(path).convert("RGB"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "options", [{"quality": 60}, {"quality": 95, "subsampling": 0}, {"progressive": True}]
)
def test_as_pillow_decodes_it(orientation: int, options: dict[str, Any], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.jpg", scene(), exif=exif, **options)
    found = image_io.read_jpeg(path)
    assert found is not None
    pixels, full = found
    assert full == pixels.shape[:2] == ((90, 130) if orientation < 5 else (130, 90))
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    # Both stand on libjpeg-turbo; other builds of it may round otherwise.
    assert np.abs(pixels.astype(int) - by_pillow(path)).max() <= 1


def test_metadata_of_other_kinds_is_passed_over(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", scene(), comment=b"x" * 900, icc_profile=b"y" * 70_000, dpi=(72, 72))
    found = image_io.decode_jpeg(path.read_bytes())
    assert found is not None
    assert np.abs(found[0].astype(int) - by_pillow(path)).max() <= 1


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colours_are_left_to_pillow(mode: str, tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", scene(), mode)
    assert image_io.decode_jpeg(path.read_bytes()) is None
    assert np.array_equal(read_image(path), by_pillow(path))


@pytest.mark.parametrize("length", [3, 30, 400, -300, -2])
def test_what_is_cut_short_is_not_filled_with_grey(length: int, tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", scene())
    data = path.read_bytes()[:length]
    assert image_io.decode_jpeg(data) is None
    path.write_bytes(data)
    if length != -2:  # the end mark alone is no loss
        with pytest.raises(UserError, match=r"a\.jpg cannot be read"):
            read_image(path)


def test_more_after_the_end_is_left_to_pillow(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", scene())
    whole = by_pillow(path)
    path.write_bytes(path.read_bytes() + b"more")
    assert np.array_equal(read_image(path), whole)


@pytest.mark.parametrize(
    ("least", "factor"),
    [((24, 32), 2), ((25, 32), 1), ((24, 33), 1), ((12, 16), 4), ((6, 8), 8), ((1, 1), 8), ((200, 10), 1)],
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_reduced_but_never_below_twice_the_least(
    least: tuple[int, int], factor: int, orientation: int, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.jpg", scene(96, 128), exif=exif, quality=95, subsampling=0)
    least = least if orientation == 1 else least[::-1]
    pixels, full = read_sized(path, least=least)
    whole = by_pillow(path)
    assert full == whole.shape[:2]
    assert pixels.shape[:2] == (full[0] // factor, full[1] // factor)
    if factor > 1:
        averaged = cv2.resize(whole, pixels.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(pixels.astype(int) - averaged).mean() < 1


def test_resized_from_less_is_as_resized_from_all(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / "images" / f"p{number}.jpg", scene(480, 640), quality=90)
        save(tmp_path / "masks" / f"p{number}.png", mask(0, 255, height=480, width=640))
    train = create_dataset(name="binary", root=str(tmp_path)).train
    small = resized(train, (100, 120), masks=True)[0]
    everything = cv2.resize(train[0]["image"], (120, 100), interpolation=cv2.INTER_AREA)
    assert small["mask"].shape == (100, 120)
    assert np.abs(small["image"].astype(int) - everything).mean() < 1.5
    assert resized(train, (100, 120), masks=False)[0]["mask"].shape == (480, 640)


def test_sizes_are_compared_as_the_files_have_them(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / "images" / f"p{number}.jpg", scene(81, 120))
        save(tmp_path / "masks" / f"p{number}.png", mask(0, 255, height=82, width=120))
    train = create_dataset(name="binary", root=str(tmp_path)).train
    with pytest.raises(UserError, match=r"has 120x81 pixels, but .* 120x82"):
        resized(train, (20, 30), masks=True)[0]
