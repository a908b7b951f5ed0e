"""Pictures of any mode become uint8 RGB."""

from pathlib import Path

import numpy as np
import pytest
from made_data import image, save
from PIL import Image

from segmentation.data import image_io
from segmentation.data.image_io import present_values, read_image
from segmentation.errors import UserError

GREY = np.arange(96, dtype=np.uint8).reshape(8, 12) * 2


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "webp", "jpg"])
def test_colours_arrive(ending: str, tmp_path: Path) -> None:
    picture = image()
    picture[:] = (200, 100, 50)
    read = read_image(
        save(tmp_path / f"a.{ending}", picture, quality=95)
        if ending in ("jpg", "webp")
        else save(tmp_path / f"a.{ending}", picture)
    )
    assert (read.shape, read.dtype, read.flags.writeable) == ((8, 12, 3), np.uint8, True)
    assert np.abs(read.astype(int) - (200, 100, 50)).max() <= 4


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("L", (90, 90, 90)),
        ("LA", (90, 90, 90)),
        ("P", (90, 90, 90)),
        ("RGBA", (90, 90, 90)),
        ("1", (0, 0, 0)),
    ],
)
def test_modes(mode: str, expected: tuple[int, int, int], tmp_path: Path) -> None:
    picture = (
        Image.fromarray(image()).convert("L").point(lambda value: 0 if mode == "1" else value).convert(mode)
    )
    picture.save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == expected).all()


def test_cmyk(tmp_path: Path) -> None:
    read = read_image(save(tmp_path / "a.jpg", image(), "CMYK", quality=95))
    assert np.abs(read.astype(int) - 90).max() <= 4


def test_alpha_is_dropped_and_not_blended(tmp_path: Path) -> None:
    picture = np.dstack([image(), np.zeros((8, 12), np.uint8)])
    assert (read_image(save(tmp_path / "a.png", picture)) == 90).all()


def test_transparent_palette_does_not_warn(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1]], np.uint8))
    picture.putpalette([9, 8, 7, 200, 100, 50])
    picture.save(tmp_path / "a.png", transparency=b"\x00\x80")
    assert read_image(tmp_path / "a.png").tolist() == [[[9, 8, 7], [200, 100, 50]]]


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_are_scaled_and_not_clipped(ending: str, tmp_path: Path) -> None:
    wide = GREY.astype(np.uint16) * 257
    read = read_image(save(tmp_path / f"a.{ending}", wide))
    assert np.array_equal(read, np.repeat(GREY[:, :, None], 3, axis=2))


def test_sixteen_bits_round_to_the_nearest(tmp_path: Path) -> None:
    wide = np.array([[0, 128, 129, 385, 386, 65535]], np.uint16)
    assert read_image(save(tmp_path / "a.png", wide))[0, :, 0].tolist() == [0, 0, 1, 1, 2, 255]


def test_integers_beyond_sixteen_bits(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.tif holds values 0\.\.70000"):
        read_image(save(tmp_path / "a.tif", np.array([[0, 70000]], np.int32)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = image()
    upright[0] = 250
    turns = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1]}
    across = upright.transpose(1, 0, 2)
    turns |= {5: across, 6: across[::-1], 7: across[::-1, ::-1], 8: across[:, ::-1]}
    path = save(tmp_path / "a.png", np.ascontiguousarray(turns[orientation]), exif=exif)
    assert np.array_equal(read_image(path), upright)


@pytest.mark.parametrize("exif", [b"no such thing", b"II*\0\x08\0\0\0\xff\xff"])
def test_odd_metadata_is_no_error(exif: bytes, tmp_path: Path) -> None:
    assert read_image(save(tmp_path / "a.jpg", image(), exif=b"Exif\0\0" + exif)).shape == (8, 12, 3)


def test_large_pictures_open_up_to_our_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Image.new("1", (20_000, 10_000)).save(path)  # 200 megapixels: Pillow's own guard would raise
    assert image_io.open_picture(path).size == (20_000, 10_000)
    monkeypatch.setattr(image_io, "MAX_PIXELS", 10**8)
    with pytest.raises(UserError, match=r"a\.png has 20000x10000 pixels, more than 100000000: cut it"):
        image_io.open_picture(path)


@pytest.mark.parametrize("path", ["nowhere.png", "."])
def test_no_file(path: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read: .*(no such file|directory)"):
        read_image(tmp_path / path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_present_values(dtype: type) -> None:
    assert present_values(np.array([[3, 0], [255, 3]], dtype)) == [0, 3, 255]
