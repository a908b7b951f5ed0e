"""Mask files become class indices, each checked as it is read."""

import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_data import mask, save
from PIL import Image

from segmentation.data.masks import ColourMask, IndexMask, LabelMask
from segmentation.errors import UserError
from segmentation.types import Classes, voc_palette

FOUR = Classes(("ground", "tree", "road", "car"))
BORDER = (224, 224, 192)


def reader(classes: Classes = FOUR, ignore: tuple[int, ...] = (), coloured: bool = True) -> LabelMask:
    return LabelMask(IndexMask(classes, ignore), ColourMask(classes, (BORDER,)) if coloured else None)


def palette_png(path: Path, labels: np.ndarray) -> Path:
    picture = Image.fromarray(labels)
    picture.putpalette([part for colour in voc_palette(256) for part in colour])
    picture.save(path)
    return path


@pytest.mark.parametrize("kind", ["P", "L", "I;16", "RGB", "RGBA"])
def test_every_kind_of_file_gives_the_same_labels(kind: str, tmp_path: Path) -> None:
    labels, path = mask(0, 1, 2, 3), tmp_path / "a.png"
    colours = np.array(FOUR.palette, np.uint8)[labels]
    if kind == "P":
        palette_png(path, labels)
    elif kind.startswith("RGB"):
        save(path, colours, kind)
    else:
        save(path, labels.astype(np.uint16 if kind == "I;16" else np.uint8))
    decoded = reader().decode(path)
    with Image.open(path) as picture:
        assert picture.mode == kind
    assert (decoded.dtype, decoded.flags.writeable) == (np.uint8, True)
    assert np.array_equal(decoded, labels)


def test_a_gif_holds_indices(tmp_path: Path) -> None:
    labels = mask(0, 1, 2, 3)
    assert np.array_equal(reader().decode(palette_png(tmp_path / "a.gif", labels)), labels)


def test_one_bit(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", mask(0, 255), "1")
    assert np.array_equal(reader().decode(path), mask(0, 1))


@pytest.mark.parametrize("wide", [False, True])
def test_ignored_labels(wide: bool, tmp_path: Path) -> None:
    labels = mask(0, 1, 3, 11, 255).astype(np.uint16)
    ignore: tuple[int, ...] = (3, 11)
    if wide:
        labels[0, 0] = 1000
        ignore = (3, 11, 1000)
    path = save(tmp_path / "a.png", labels if wide else labels.astype(np.uint8))
    expected = np.where(labels > 1, 255, labels)
    assert np.array_equal(reader(ignore=ignore).decode(path), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_values_are_mapped_to_classes(dtype: type, tmp_path: Path) -> None:
    labels = ((0, 3), (1, 0), (7, 2), (255, 1)) + (((1000, 1),) if dtype == np.uint16 else ())
    values = mask(0, 1, 7, 255, 9).astype(dtype)
    if dtype == np.uint16:
        values[values == 255] = 1000
    decoder = LabelMask(IndexMask(FOUR, (9,), labels), None)
    assert np.array_equal(decoder.decode(save(tmp_path / "a.png", values)), mask(3, 0, 2, 1, 255))


def grey_png(path: Path, values: np.ndarray, bits: int) -> Path:
    """A grey PNG of 1, 2 or 4 bits a pixel, as pypng and MATLAB write them; Pillow writes none of 2 and 4."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    bit = np.unpackbits(values[..., None], axis=2)[..., -bits:].reshape(len(values), -1)
    rows = b"".join(b"\0" + row.tobytes() for row in np.packbits(bit, axis=1))
    header = struct.pack(">IIBBBBB", values.shape[1], len(values), bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks))
    return path


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_of_few_bits_holds_indices(bits: int, tmp_path: Path) -> None:
    values = mask(*range(2**bits), width=19)
    classes = Classes(tuple(f"c{number}" for number in range(16)))
    path = grey_png(tmp_path / "a.png", values, bits)
    assert np.array_equal(reader(classes).decode(path), values)
    decoder = LabelMask(IndexMask(classes), None, eight_bits=True)
    with pytest.raises(UserError, match=rf"a\.png is grey with {bits} bit.*Save all masks with 8 bits"):
        decoder.decode(path)
    assert not decoder.decode(grey_png(path, 0 * values, bits)).any()  # 0 is 0 in any case


def test_rgb_with_equal_channels_is_grey_where_classes_have_no_colours(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", mask(0, 1, 2), "RGB")
    assert np.array_equal(reader(coloured=False).decode(path), mask(0, 1, 2))


def test_ignored_colours(tmp_path: Path) -> None:
    labels = mask(0, 3, 255)
    table = np.zeros((256, 3), np.uint8)
    table[:4], table[255] = FOUR.palette, BORDER
    assert np.array_equal(reader().decode(save(tmp_path / "a.png", table[labels])), labels)


@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_any_palette_is_inverted(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    colour = st.tuples(*[st.integers(0, 255)] * 3)
    palette = data.draw(st.lists(colour, min_size=2, max_size=20, unique=True))
    classes = Classes(tuple(f"c{number}" for number in range(len(palette))), tuple(palette))
    labels = np.resize(np.arange(len(palette), dtype=np.uint8), (5, 7))
    path = save(tmp_path_factory.mktemp("any") / "a.png", np.array(palette, np.uint8)[labels])
    decoder = LabelMask(IndexMask(classes), ColourMask(classes))
    assert np.array_equal(decoder.decode(path), labels)


def test_large_masks_are_looked_up_in_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segmentation.data.masks._STRIP", 30)
    labels = mask(0, 1, 2, 3, height=9, width=12)
    path = save(tmp_path / "a.png", np.array(FOUR.palette, np.uint8)[labels])
    assert np.array_equal(reader().decode(path), labels)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (mask(0, 4), "label 4, but the 4 classes are 0..3"),
        (mask(*range(9)), "label 4, 5, 6, ..."),
        (mask(0, 1).astype(np.uint16) * 300, "label 300"),
    ],
)
def test_labels_outside_the_classes(labels: np.ndarray, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        reader().decode(save(tmp_path / "a.png", labels))
    assert "a.png" in str(caught.value)
    assert words in str(caught.value)


def test_ids_of_cityscapes_are_known_by_their_name(tmp_path: Path) -> None:
    path = save(tmp_path / "x_gtFine_instanceIds.png", mask(0, 1).astype(np.uint16) * 26001)
    with pytest.raises(
        UserError, match="label 26001, an id of Cityscapes: use the files that end in _labelTrainIds"
    ):
        reader().decode(path)


def test_a_colour_of_no_class(tmp_path: Path) -> None:
    colours = np.zeros((4, 4, 3), np.uint8)
    colours[2, 3] = (127, 1, 0)
    with pytest.raises(UserError, match=r"a\.png holds the colour \(127, 1, 0\).* \(128, 0, 0\), 'tree'"):
        reader().decode(save(tmp_path / "a.png", colours))


def test_packed_colours_are_read_by_their_palette(tmp_path: Path) -> None:
    labels = mask(3, 0, 1)
    packed = Image.fromarray(np.array(FOUR.palette, np.uint8)[labels]).quantize(16)
    packed.save(tmp_path / "a.png")
    assert not np.array_equal(np.array(packed), labels)
    assert np.array_equal(reader().decode(tmp_path / "a.png"), labels)


@pytest.mark.parametrize("void", [(0, 0, 0), (128, 0, 0), (224, 224, 192), (9, 9, 9)])
def test_void_of_any_colour_stays_void(void: tuple[int, int, int], tmp_path: Path) -> None:
    picture = Image.fromarray(mask(1, 2, 255))
    picture.putpalette([part for colour in [*voc_palette(255), void] for part in colour])
    picture.save(tmp_path / "a.png")
    assert np.array_equal(reader().decode(tmp_path / "a.png"), mask(1, 2, 255))


def test_unknown_colours_are_told_all_at_once(tmp_path: Path) -> None:
    colours = np.zeros((4, 8, 3), np.uint8)
    colours[0, :7, 0] = range(1, 8)
    with pytest.raises(
        UserError, match=r"7 colours that are no classes \(\(1, 0, 0\), \(2, 0, 0\), .*, \.\.\.\)"
    ):
        reader().decode(save(tmp_path / "a.png", colours))


def test_a_jpeg_is_known_by_its_contents(tmp_path: Path) -> None:
    Image.fromarray(mask(0, 1)).save(tmp_path / "a.png", format="JPEG")
    with pytest.raises(UserError, match=r"a\.png is a JPEG.*PNG"):
        reader().decode(tmp_path / "a.png")


def test_other_modes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mode LA: save the mask"):
        reader().decode(save(tmp_path / "a.png", mask(0, 1), "LA"))


def test_colours_must_differ() -> None:
    with pytest.raises(UserError, match=r"'ground' and 'ignore' have the same colour \(0, 0, 0\)"):
        ColourMask(FOUR, ((0, 0, 0),))


def test_workers_are_not_sent_the_table(tmp_path: Path) -> None:
    decoder = reader()
    decoder.decode(save(tmp_path / "a.png", np.array(FOUR.palette, np.uint8)[mask(0, 1)]))
    assert len(pickle.dumps(decoder)) < 2000
