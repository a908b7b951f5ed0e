"""Images of any number of bands, from every kind of file that can hold them."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from made_data import flat, image, save
from PIL import Image

from segmentation.data import image_io, open_dataset
from segmentation.data.image_io import is_tiff, read_image, to_bytes
from segmentation.errors import UserError

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
    with pytest.raises(UserError, match="no plain array"):
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
def test_no_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{name} cannot be read: .*[Nn]o such file"):
        read_image(tmp_path / name, 5)


def test_a_tiff_is_known_by_its_contents(tmp_path: Path) -> None:
    # GDAL opens many formats; some of them name further files and addresses to read from.
    (tmp_path / "a.tif").write_text("<VRTDataset rasterXSize='8' rasterYSize='8'></VRTDataset>")
    assert not is_tiff(tmp_path / "a.tif")
    with pytest.raises(UserError, match="damaged or no picture"):
        read_image(tmp_path / "a.tif", 5)


def test_large_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", noise(5))
    write_tiff(tmp_path / "a.tif", noise(5))
    monkeypatch.setattr(image_io, "MAX_PIXELS", 95)
    monkeypatch.setattr(image_io, "MAX_PIXELS", 95)
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
    with pytest.raises(UserError, match=r"b\.tif .*needs rasterio: pip install 'segmentation\[geo\]'"):
        read_image(five, 5)


@pytest.mark.parametrize("channels", CHANNELS)
def test_data_sets_read_their_images_so(channels: int, tmp_path: Path) -> None:
    options = flat(tmp_path)
    for path in sorted((tmp_path / "images").iterdir()):
        path.unlink()
        np.save(path.with_suffix(".npy"), noise(channels))
    source = open_dataset(channels, **options)
    assert source.channels == channels
    assert all(np.array_equal(samples[0]["image"], noise(channels)) for samples in source.splits().values())


def test_the_first_look_names_the_file(tmp_path: Path) -> None:
    options = flat(tmp_path)
    with pytest.raises(
        UserError, match=r"images/p\d\.png holds 3 bands, but the model takes 4: train with data\.ch"
    ):
        open_dataset(4, **options)


def test_the_number_is_no_option_of_a_data_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no option 'dataset\.channels'"):
        open_dataset(3, **flat(tmp_path), channels=4)
