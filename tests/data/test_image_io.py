"""Image files of every kind: colours, photographs, masks, and any number of bands."""

import random
import struct
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
from made_data import flat, image, mask, save
from PIL import EpsImagePlugin, Image, ImageFile, PngImagePlugin

from segmentation.data import create_dataset, image_io, open_dataset, opening
from segmentation.data.datamodule import resized
from segmentation.data.image_io import (
    open_picture,
    present_values,
    read_grey_png,
    read_image,
    read_size,
    read_sized,
    to_bytes,
)
from segmentation.data.tiff import is_tiff
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
    with pytest.raises(UserError, match=r"a\.tif holds int32 pixels, whose range is unknown"):
        read_image(save(tmp_path / "a.tif", np.array([[0, 200]], np.int32)))


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


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", ["Raw profile type exif", "XML:com.adobe.xmp"])
def test_orientation_in_the_texts_of_a_png(kind: str, depth: type, tmp_path: Path) -> None:
    """As ImageMagick and photo editors write it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = f"\nexif\n{len(exif.tobytes()):8}\n{exif.tobytes().hex()}"
    text = profile if kind.startswith("Raw") else '<rdf:Description tiff:Orientation="6"/>'
    chunk = b"tEXt" + f"{kind}\0{text}".encode()
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.zeros((4, 8, 3), depth))
    header, pixels = path.read_bytes()[:33], path.read_bytes()[33:]
    path.write_bytes(
        header + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + pixels
    )
    assert read_image(path).shape[:2] == read_size(path) == (8, 4)


@pytest.mark.parametrize("stored", [np.zeros((3, 5)), np.zeros((3, 5, 2)), np.zeros(3), None])
def test_the_size_of_an_array_is_in_its_header(stored: np.ndarray | None, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(b"damaged") if stored is None else np.save(path, stored)
    assert read_size(path) == ((0, 0) if stored is None or stored.ndim == 1 else (3, 5))


@pytest.mark.parametrize("exif", [b"no such thing", b"II*\0\x08\0\0\0\xff\xff"])
def test_odd_metadata_is_no_error(exif: bytes, tmp_path: Path) -> None:
    assert read_image(save(tmp_path / "a.jpg", image(), exif=b"Exif\0\0" + exif)).shape == (8, 12, 3)


def test_large_pictures_open_up_to_our_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Image.new("1", (20_000, 10_000)).save(path)  # 200 megapixels: Pillow's own guard would raise
    assert image_io.open_picture(path).size == (20_000, 10_000)
    monkeypatch.setattr(opening, "MAX_PIXELS", 10**8)
    with pytest.raises(UserError, match=r"a\.png has 20000x10000 pixels, more than 100000000: cut it"):
        image_io.open_picture(path)


@pytest.mark.parametrize(
    ("path", "words"),
    [("nowhere.png", "cannot be read: there is no such file"), (".", "is a folder: give a picture")],
)
def test_no_file(path: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        read_image(tmp_path / path)


@pytest.mark.parametrize("compressed", [False, True])
def test_long_texts_are_no_damage(compressed: bool, tmp_path: Path) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", "x" * 2_000_000, zip=compressed)
    texts.add_itxt("XML:com.adobe.xmp", "x" * 2_000_000, zip=True)
    limit = PngImagePlugin.MAX_TEXT_CHUNK
    path = save(tmp_path / "a.png", image(), pnginfo=texts, icc_profile=bytes(2_000_000))
    assert (read_image(path) == 90).all()
    assert limit == PngImagePlugin.MAX_TEXT_CHUNK


def test_the_order_of_axes_is_asked_for(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 40, 60), np.uint8))
    with pytest.raises(
        UserError, match=r"a\.npy has the shape \(3, 40, 60\): give its axes as \(height, width, bands\)"
    ):
        read_image(tmp_path / "a.npy")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_present_values(dtype: type) -> None:
    assert present_values(np.array([[3, 0], [255, 3]], dtype)) == [0, 3, 255]


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
    pixels, full = read_sized(path)
    assert full == pixels.shape[:2] == ((90, 130) if orientation < 5 else (130, 90))
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    # Both stand on libjpeg-turbo; other builds of it may round otherwise.
    assert np.abs(pixels.astype(int) - by_pillow(path)).max() <= 1


def test_metadata_of_other_kinds_is_passed_over(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", scene(), comment=b"x" * 900, icc_profile=b"y" * 70_000, dpi=(72, 72))
    assert np.abs(read_image(path).astype(int) - by_pillow(path)).max() <= 1


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colours_are_left_to_pillow(mode: str, tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", scene(), mode)
    assert np.array_equal(read_image(path), by_pillow(path))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("length", [3, 30, 400, -300, -2, -1])
def test_a_jpeg_cut_short_is_an_error(length: int, channels: int, tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", scene())
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match=r"a\.jpg cannot be read: .+\. Repair it"):
        read_image(path, channels)


@pytest.mark.parametrize("filler", [b"", b"\xff\xff"])
@pytest.mark.parametrize("decodes_anything", [False, True], ids=["pillow", "lenient decoder"])
def test_the_end_mark_of_a_thumbnail_does_not_count(
    decodes_anything: bool, filler: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.jpg", scene())
    start, end, rest = (data := path.read_bytes())[:2], data[-2:], data[2:-2]
    thumbnail = b"\xff\xe3" + (2 + 4).to_bytes(2) + start + end
    path.write_bytes(start + thumbnail + filler + rest)
    if decodes_anything:  # as some versions of Pillow are with a file that lacks only its end mark
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(UserError, match=r"a\.jpg cannot be read: "):
        read_image(path)
    path.write_bytes(start + thumbnail + filler + rest + end + b"more")
    assert np.array_equal(read_image(path), by_pillow(path))


def test_more_after_the_end_is_left_to_pillow(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", scene())
    whole = by_pillow(path)
    path.write_bytes(path.read_bytes() + b"more")
    assert np.array_equal(read_image(path), whole)


@pytest.mark.parametrize(
    ("min_size", "factor"),
    [((24, 32), 2), ((25, 32), 1), ((24, 33), 1), ((12, 16), 4), ((6, 8), 8), ((1, 1), 8), ((200, 10), 1)],
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_reduced_but_never_below_twice_the_size(
    min_size: tuple[int, int], factor: int, orientation: int, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.jpg", scene(96, 128), exif=exif, quality=95, subsampling=0)
    min_size = min_size if orientation == 1 else min_size[::-1]
    pixels, full = read_sized(path, min_size=min_size)
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


def labels(height: int = 37, width: int = 53) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width), dtype=np.uint8)


def encoded(picture: Image.Image, **how: object) -> bytes:
    file = BytesIO()
    picture.save(file, "PNG", **how)
    return file.getvalue()


def with_chunk(data: bytes, kind: bytes, content: bytes, *, last: bool = False) -> bytes:
    """The file with one more chunk behind its header, or before its end."""
    chunk = kind + content
    place = len(data) - 12 if last else 33
    return (
        data[:place]
        + struct.pack(">I", len(content))
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + data[place:]
    )


@pytest.fixture
def png(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(data: bytes) -> Path:
        (tmp_path / "a.png").write_bytes(data)
        return tmp_path / "a.png"

    return write


Png = Callable[[bytes], Path]


@pytest.mark.parametrize("size", [(37, 53), (1, 1), (300, 2)])
@pytest.mark.parametrize("how", [{}, {"compress_level": 0}, {"optimize": True}, {"dpi": (72, 72)}])
def test_grey_png_as_it_was_saved(size: tuple[int, int], how: dict[str, object], png: Png) -> None:
    found = read_grey_png(png(encoded(Image.fromarray(labels(*size)), **how)))
    assert found is not None
    assert (found == labels(*size)).all()


def test_gamma_changes_no_value(png: Png) -> None:
    data = with_chunk(encoded(Image.fromarray(labels())), b"gAMA", struct.pack(">I", 100000))
    found = read_grey_png(png(data))
    assert found is not None
    assert (found == labels()).all()


@pytest.mark.parametrize("mode", ["1", "LA", "P", "RGB", "RGBA", "I;16"])
def test_other_kinds_of_png_are_left_to_pillow(mode: str, png: Png) -> None:
    values = labels().astype(np.uint16) if mode == "I;16" else labels()
    picture = Image.fromarray(values)
    assert read_grey_png(png(encoded(picture if mode == "I;16" else picture.convert(mode)))) is None


def test_what_may_turn_a_png_is_left_to_pillow(png: Png) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", "drawn by hand")
    plain = encoded(Image.fromarray(labels()))
    for data in (
        encoded(Image.fromarray(labels()), pnginfo=texts),
        with_chunk(plain, b"eXIf", exif.tobytes()[6:], last=True),
        encoded(Image.fromarray(labels()), exif=exif),
    ):
        assert read_grey_png(png(data)) is None
    assert (np.array(open_picture(png(data))) == np.rot90(labels(), -1)).all()


def test_a_transparent_value_and_frames_are_left_to_pillow(png: Png) -> None:
    picture, second = Image.fromarray(labels()), Image.fromarray(255 - labels())
    assert read_grey_png(png(with_chunk(encoded(picture), b"tRNS", b"\0\7"))) is None
    assert read_grey_png(png(encoded(picture, save_all=True, append_images=[second]))) is None


@pytest.mark.parametrize("side", [0, 1_000_001, 2**31 - 1])
def test_sizes_that_opencv_refuses_are_left_to_pillow(side: int, png: Png) -> None:
    data = bytearray(encoded(Image.fromarray(labels())))
    data[16:20] = struct.pack(">I", side)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    assert read_grey_png(png(bytes(data))) is None


def test_no_damage_goes_by(png: Png) -> None:
    """Whatever byte is wrong or missing, the values are the right ones or Pillow is asked."""
    data, draw = encoded(Image.fromarray(labels())), random.Random(0)
    answers = 0
    for _ in range(2000):
        damaged = bytearray(data[: draw.choice([len(data), draw.randrange(len(data))])])
        for _ in range(draw.randrange(3)):
            if damaged:
                damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        found = read_grey_png(png(bytes(damaged)))
        if found is not None:
            assert (found == labels()).all()
            answers += 1
    assert 0 < answers < 1000


CHANNELS = [1, 2, 3, 4, 5, 8]
WHOLE = {np.uint8: 256, np.uint16: 65536}


def noise(channels: int, dtype: type = np.uint8, height: int = 8, width: int = 12) -> np.ndarray:
    return np.random.default_rng(channels).integers(0, WHOLE[dtype], (height, width, channels)).astype(dtype)


@pytest.fixture
def silent(capfd: pytest.CaptureFixture[str]) -> Any:
    """The libraries' own complaints would stand between the lines of a run."""
    yield
    assert capfd.readouterr() == ("", "")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def write_tiff(path: Path, values: np.ndarray, **options: Any) -> Path:
    height, width, count = values.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    form = {"height": height, "width": width, "count": count, "dtype": values.dtype}
    with rasterio.open(
        path, "w", driver="GTiff", transform=rasterio.Affine.scale(2), **form, **options
    ) as file:
        file.write(values.transpose(2, 0, 1))
    return path


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"photometric": "RGB", "alpha": "unspecified"},
        {"photometric": "minisblack"},
        {"interleave": "band"},
        {"compress": "lzw", "predictor": 2},
        {"compress": "zstd"},
        {"tiled": True, "blockxsize": 16, "blockysize": 16},
        {"BIGTIFF": "YES"},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.usefixtures("silent")
def test_tiff(channels: int, dtype: type, options: dict[str, Any], tmp_path: Path) -> None:
    if "RGB" in options.values() and channels < 3:
        options = {}
    values = noise(channels, dtype)
    read = read_image(write_tiff(tmp_path / "a.tif", values, **options), channels)
    assert (read.shape, read.dtype, read.flags.c_contiguous) == ((8, 12, channels), np.uint8, True)
    # Pillow takes the upper byte of 16 bits where we round.
    assert np.abs(read.astype(int) - to_bytes(values)).max() <= (dtype is np.uint16)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.dtype(">u2")])
@pytest.mark.parametrize("channels", CHANNELS)
def test_array(channels: int, dtype: Any, tmp_path: Path) -> None:
    values = noise(channels, np.uint8 if dtype is np.uint8 else np.uint16)
    np.save(tmp_path / "a.npy", values.astype(dtype))
    read = read_image(tmp_path / "a.npy", channels)
    assert (read.dtype, read.flags.writeable) == (np.uint8, True)
    assert np.array_equal(read, to_bytes(values))


def test_array_without_axis_for_its_one_band(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", noise(1)[:, :, 0])
    assert np.array_equal(read_image(tmp_path / "a.npy", 1), noise(1))
    assert np.array_equal(read_image(tmp_path / "a.npy"), np.repeat(noise(1), 3, axis=2))


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("LA", 2), ("RGB", 3), ("RGBA", 4)])
def test_png_as_it_is(mode: str, channels: int, tmp_path: Path) -> None:
    values = noise(channels)
    Image.fromarray(values.squeeze()).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == mode
    assert np.array_equal(read_image(tmp_path / "a.png", channels), values)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_one_channel_is_luminance(mode: str, tmp_path: Path) -> None:
    colours = image()
    colours[:] = (255, 0, 0)
    picture = Image.fromarray(colours).convert(mode)
    picture.save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png", 1)
    assert read.shape == (8, 12, 1)
    if mode != "1":
        assert np.unique(read).tolist() == [76]  # 0.299 of red


def test_luminance_is_the_same_from_any_file(tmp_path: Path) -> None:
    values = noise(3)
    np.save(tmp_path / "a.npy", values)
    picture = save(tmp_path / "a.png", values)
    assert np.array_equal(read_image(tmp_path / "a.npy", 1), read_image(picture, 1))


@pytest.mark.parametrize("options", [{}, {"compress": "zstd"}, {"interleave": "band"}], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_of_tiff_is_dropped_for_colours_alone(dtype: type, options: Any, tmp_path: Path) -> None:
    values = noise(4, dtype)
    path = write_tiff(tmp_path / "a.tif", values, photometric="RGB", alpha="YES", **options)
    assert np.abs(read_image(path).astype(int) - to_bytes(values[:, :, :3])).max() <= (dtype is np.uint16)
    assert read_image(path, 1).shape == (8, 12, 1)


def test_near_infrared_is_no_alpha(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", noise(4), photometric="RGB", alpha="unspecified")
    for channels in (1, 3):
        with pytest.raises(
            UserError, match=rf"a\.tif holds 4 bands, .* {channels}: train with data\.channels=4"
        ):
            read_image(path, channels)


@pytest.mark.parametrize(
    ("mode", "channels", "found"),
    [("L", 4, 1), ("RGB", 4, 3), ("RGBA", 5, 4), ("LA", 4, 2), ("P", 4, 3), ("RGB", 2, 3)],
)
def test_another_number_of_bands(mode: str, channels: int, found: int, tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", image(), mode)
    with pytest.raises(
        UserError, match=rf"a\.png holds {found} bands, .*data\.channels={found}, .*with {channels}\."
    ):
        read_image(path, channels)


@pytest.mark.parametrize("ending", ["jpg", "tif"])
def test_inks_are_no_bands(ending: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"a.{ending}", image(), "CMYK")
    with pytest.raises(UserError, match=rf"a\.{ending} is CMYK: save it as RGB"):
        read_image(path, 4)
    assert np.abs(read_image(path).astype(int) - 90).max() <= 4


def test_inks_and_places_in_a_palette_by_the_other_reader(tmp_path: Path) -> None:
    inks = write_tiff(tmp_path / "a.tif", noise(4, np.uint16), photometric="CMYK", interleave="band")
    with pytest.raises(UserError, match=r"a\.tif holds cyan values"):
        read_image(inks, 4)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("ending", ["npy", "tif"])
def test_other_numbers(ending: str, dtype: type, tmp_path: Path) -> None:
    values, path = noise(5).astype(dtype), tmp_path / f"a.{ending}"
    np.save(path, values) if ending == "npy" else write_tiff(path, values)
    with pytest.raises(UserError, match=rf"a\.{ending} holds {dtype.__name__} pixels, .* 8 or 16 bits"):
        read_image(path, 5)


@pytest.mark.parametrize("shape", [(5,), (1, 8, 12, 5), (0, 12, 5)])
def test_other_shapes(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    with pytest.raises(UserError, match=r"a\.npy has the shape \(.*\(height, width, bands\)"):
        read_image(tmp_path / "a.npy", 5)


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_an_array_runs_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([_Touch(tmp_path / "canary")]), allow_pickle=True)
    with pytest.raises(UserError, match="does not hold a plain array"):
        read_image(tmp_path / "a.npy", 5)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("kept", [0, 3, 40, 200])
@pytest.mark.parametrize("ending", ["npy", "tif"])
@pytest.mark.usefixtures("silent")
def test_damaged(ending: str, kept: int, tmp_path: Path) -> None:
    path = tmp_path / f"a.{ending}"
    np.save(path, noise(5)) if ending == "npy" else write_tiff(path, noise(5))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=rf"a\.{ending} cannot be read: it is (damaged|empty)"):
        read_image(path, 5)


@pytest.mark.parametrize("name", ["a.npy", "a.tif"])
def test_no_file_of_bands(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{name} cannot be read: .*[Nn]o such file"):
        read_image(tmp_path / name, 5)


def test_a_tiff_is_known_by_its_contents(tmp_path: Path) -> None:
    # GDAL opens many formats; some of them name further files and addresses to read from.
    (tmp_path / "a.tif").write_text("<VRTDataset rasterXSize='8' rasterYSize='8'></VRTDataset>")
    assert not is_tiff(tmp_path / "a.tif")
    with pytest.raises(UserError, match="damaged or not an image"):
        read_image(tmp_path / "a.tif", 5)


LOOP = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n{} loop\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("read", [read_image, open_picture, read_grey_png, partial(read_image, channels=5)])
def test_other_formats_are_not_opened_whatever_their_name(
    read: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pillow would start Ghostscript, a program of its own, which would never end.
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given, **options: pytest.fail("started"))
    (tmp_path / "eps.png").write_text(LOOP)
    Image.init()
    monkeypatch.setattr(Image, "EXTENSION", Image.EXTENSION.copy())  # saving as SPIDER registers the ending
    tried = 0
    for kind in sorted(set(Image.SAVE) - {*opening.FORMATS, "MPO", "PDF"}):
        with suppress(Exception):
            Image.fromarray(image()).save(tmp_path / f"{kind}.png", kind)
            tried += 1
    assert tried > 5
    for path in tmp_path.glob("*.png"):
        if read is read_grey_png:
            assert read(path) is None
            continue
        with pytest.raises(UserError, match=r"damaged or not an image \(PNG, JPEG, TIFF, BMP, WebP, GIF\)"):
            read(path)


@pytest.mark.parametrize("kind", [*opening.FORMATS, "MPO"])
def test_our_formats_are_opened_whatever_their_name(kind: str, tmp_path: Path) -> None:
    Image.fromarray(image()).save(tmp_path / "a.bin", kind)
    assert read_image(tmp_path / "a.bin").shape == image().shape


def test_large_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", noise(5))
    write_tiff(tmp_path / "a.tif", noise(5))
    monkeypatch.setattr(opening, "MAX_PIXELS", 95)
    for name in ("a.npy", "a.tif"):
        with pytest.raises(UserError, match=rf"{name} has 12x8 pixels, more than 95"):
            read_image(tmp_path / name, 5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compress", ["none", "lzw", "deflate"])
def test_four_bands_need_no_rasterio_and_more_name_it(
    dtype: type, compress: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    four = write_tiff(
        tmp_path / "a.tif", noise(4, dtype), photometric="RGB", alpha="unspecified", compress=compress
    )
    five = write_tiff(tmp_path / "b.tif", noise(5, dtype), compress=compress)
    monkeypatch.setitem(sys.modules, "rasterio", None)
    assert np.array_equal(read_image(four, 4), to_bytes(noise(4, dtype)))
    with pytest.raises(UserError, match=r"b\.tif .*needs rasterio: pip install '\.\[geo\]'"):
        read_image(five, 5)


@pytest.mark.parametrize("channels", CHANNELS)
def test_data_sets_read_their_images_so(channels: int, tmp_path: Path) -> None:
    options = flat(tmp_path)
    for path in sorted((tmp_path / "images").iterdir()):
        path.unlink()
        np.save(path.with_suffix(".npy"), noise(channels))
    dataset = open_dataset(channels, **options)
    assert dataset.channels == channels
    assert all(np.array_equal(samples[0]["image"], noise(channels)) for samples in dataset.splits().values())


def test_the_first_look_names_the_file(tmp_path: Path) -> None:
    options = flat(tmp_path)
    with pytest.raises(
        UserError, match=r"images/p\d\.png holds 3 bands, but the model takes 4: train with data\.ch"
    ):
        open_dataset(4, **options)


def test_the_number_is_no_option_of_a_data_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no option 'dataset\.channels'"):
        open_dataset(3, **flat(tmp_path), channels=4)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_more_bands_than_any_model_takes_are_refused_before_they_are_read(tmp_path: Path) -> None:
    shape = {"height": 16, "width": 16, "count": 65535, "dtype": "uint8", "sparse_ok": True, "tiled": True}
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", blockxsize=16, blockysize=16, **shape):
        pass
    with pytest.raises(UserError, match="holds 65535 bands, more than 256"):
        read_image(tmp_path / "a.tif")
