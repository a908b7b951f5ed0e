"""Grey PNGs decoded the quick way are those that Pillow decodes; the others are left to it."""

import random
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from segmentation.data import image_io
from segmentation.data.image_io import open_picture


def labels(height: int = 37, width: int = 53) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width), dtype=np.uint8)


def encoded(picture: Image.Image, **how: object) -> bytes:
    file = BytesIO()
    picture.save(file, "PNG", **how)
    return file.getvalue()


def with_chunk(data: bytes, kind: bytes, content: bytes) -> bytes:
    """The file with one more chunk behind its header."""
    chunk = kind + content
    whole = struct.pack(">I", len(content)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return data[:33] + whole + data[33:]


@pytest.mark.parametrize("size", [(37, 53), (1, 1), (300, 2)])
@pytest.mark.parametrize("how", [{}, {"compress_level": 0}, {"optimize": True}, {"dpi": (72, 72)}])
def test_as_it_was_saved(size: tuple[int, int], how: dict[str, object]) -> None:
    found = image_io.decode_grey_png(encoded(Image.fromarray(labels(*size)), **how))
    assert found is not None
    assert (found == labels(*size)).all()


def test_gamma_changes_no_value() -> None:
    data = with_chunk(encoded(Image.fromarray(labels())), b"gAMA", struct.pack(">I", 100000))
    found = image_io.decode_grey_png(data)
    assert found is not None
    assert (found == labels()).all()


@pytest.mark.parametrize("mode", ["1", "LA", "P", "RGB", "RGBA", "I;16"])
def test_other_kinds_are_left_to_pillow(mode: str) -> None:
    values = labels().astype(np.uint16) if mode == "I;16" else labels()
    picture = Image.fromarray(values)
    assert image_io.decode_grey_png(encoded(picture if mode == "I;16" else picture.convert(mode))) is None


def test_what_may_turn_the_picture_is_left_to_pillow(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(labels()), exif=exif)
    assert image_io.decode_grey_png(data) is None
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", "drawn by hand")
    assert image_io.decode_grey_png(encoded(Image.fromarray(labels()), pnginfo=texts)) is None
    (tmp_path / "a.png").write_bytes(data)
    assert (np.array(open_picture(tmp_path / "a.png")) == np.rot90(labels(), -1)).all()


def test_a_transparent_value_and_frames_are_left_to_pillow() -> None:
    data = encoded(Image.fromarray(labels()))
    assert image_io.decode_grey_png(with_chunk(data, b"tRNS", b"\0\7")) is None
    second = Image.fromarray(255 - labels())
    assert (
        image_io.decode_grey_png(encoded(Image.fromarray(labels()), save_all=True, append_images=[second]))
        is None
    )


@pytest.mark.parametrize("side", [0, 1_000_001, 2**31 - 1])
def test_sizes_that_opencv_refuses_are_left_to_pillow(side: int) -> None:
    data = bytearray(encoded(Image.fromarray(labels())))
    data[16:20] = struct.pack(">I", side)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    assert image_io.decode_grey_png(bytes(data)) is None


def test_no_damage_goes_by() -> None:
    """Whatever byte is wrong or missing, the values are the right ones or Pillow is asked."""
    data, draw = encoded(Image.fromarray(labels())), random.Random(0)
    answers = 0
    for _ in range(2000):
        damaged = bytearray(data[: draw.choice([len(data), draw.randrange(len(data))])])
        for _ in range(draw.randrange(3)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        found = image_io.decode_grey_png(bytes(damaged)) if damaged else None
        if found is not None:
            assert (found == labels()).all()
            answers += 1
    assert 0 < answers < 1000
