"""Images of more than 8 bits: their values fill 0..255, the same in training, evaluation and prediction."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from made_data import mask, save
from made_predictors import write_checkpoint
from PIL import Image

from segmentation.checkpoint import load
from segmentation.data import open_dataset
from segmentation.data.image_io import is_wide, read_image, read_values
from segmentation.data.pixel_range import PixelRange, to_bytes
from segmentation.data.tiff import is_georeferenced
from segmentation.errors import UserError
from segmentation.inference import Predictor
from segmentation.inference.inputs import as_pixels

HEIGHT, WIDTH = 8, 12
PLACE = {"crs": "EPSG:32632", "transform": (0.5, 0, 500000, 0, -0.5, 5000000)}


def scene(dtype: Any, bands: int, low: float = 100, high: float = 1900) -> np.ndarray:
    """(H, W, bands): the values of each band run evenly from `low` to `high`, those of later bands ten times as far."""
    ramp = np.linspace(low, high, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 1)
    return (ramp * np.array([1, 10, 1, 1])[:bands]).astype(dtype)


def write(path: Path, values_HWC: np.ndarray) -> Path:
    """By whatever library writes such values into such a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values_HWC)
    elif path.name == "bands.tif":
        rasterio = pytest.importorskip("rasterio", reason="needs rasterio, the extra geo")
        height, width, count = values_HWC.shape
        size = {"height": height, "width": width, "count": count, "dtype": values_HWC.dtype}
        with rasterio.open(path, "w", driver="GTiff", BIGTIFF="YES", **size, **PLACE) as file:
            file.write(values_HWC.transpose(2, 0, 1))
    elif values_HWC.shape[2] == 1:
        save(path, values_HWC[:, :, 0])
    else:
        cv2.imwrite(str(path), cv2.cvtColor(values_HWC, cv2.COLOR_RGB2BGR))
    return path


FILES = [
    ("a.png", np.uint16, 1),
    ("a.png", np.uint16, 3),
    ("a.tif", np.uint16, 1),
    ("a.tif", np.uint16, 3),
    ("a.tif", np.float32, 1),
    ("a.tif", np.int32, 1),
    ("bands.tif", np.uint16, 3),
    ("bands.tif", np.uint16, 4),
    ("bands.tif", np.int16, 2),
    ("bands.tif", np.float32, 4),
    ("a.npy", np.uint16, 4),
    ("a.npy", np.int16, 2),
    ("a.npy", np.float32, 3),
]


@pytest.mark.parametrize(("name", "dtype", "bands"), FILES)
def test_every_format_keeps_its_values(name: str, dtype: Any, bands: int, tmp_path: Path) -> None:
    values = scene(dtype, bands)
    path = write(tmp_path / name, values)
    assert is_wide(path)
    assert is_georeferenced(path) == (name == "bands.tif")
    assert np.array_equal(read_values(path, bands), values)
    known = PixelRange.measured([values])
    pixels = read_image(path, bands, known)
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert np.ptp(pixels, axis=(0, 1)).tolist() == [255] * bands
    assert np.array_equal(as_pixels(values, bands, known), pixels) or bands in (2, 4)


def test_eight_bits_are_left_alone(tmp_path: Path) -> None:
    values = np.arange(96, dtype=np.uint8).reshape(HEIGHT, WIDTH, 1)
    path = write(tmp_path / "a.png", values)
    assert not is_wide(path)
    assert np.array_equal(read_image(path, 1, PixelRange((5,), (6,))), values)


def test_values_are_spread_evenly_and_clipped() -> None:
    values = np.array([[[-5.0], [0.0], [50.0], [100.0], [1e9], [np.nan]]])
    assert PixelRange((0,), (100,)).to_bytes(values, "x").ravel().tolist() == [0, 0, 128, 255, 255, 0]


@pytest.mark.parametrize("only", [0, 7, 65535])
def test_a_band_of_one_value_spoils_no_other(only: int) -> None:
    values = np.concatenate([scene(np.uint16, 1), np.full((HEIGHT, WIDTH, 1), only, np.uint16)], axis=2)
    pixels = PixelRange.measured([values]).to_bytes(values, "x")
    assert np.ptp(pixels, axis=(0, 1)).tolist() == [255, 0]


def test_a_few_extremes_do_not_decide() -> None:
    values = np.full((100, 100, 1), 500, np.uint16) + np.arange(100, dtype=np.uint16)[:, None, None]
    values[0, :20] = 60000
    assert PixelRange.measured([values]).high[0] < 600


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([5, 5], "empty"),
        ([9, 1], "empty"),
        ([[0, 1], [0, float("nan")]], "empty"),
        ("abc", "give auto"),
        ([1], "give auto"),
        ([1, 2, 3, 4], "give auto"),
    ],
)
def test_ranges_that_are_none(given: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        PixelRange.from_list(given)


def test_another_number_of_bands_is_refused() -> None:
    with pytest.raises(UserError, match="holds 3 bands"):
        to_bytes(np.zeros((2, 2, 3), np.uint16), PixelRange((0, 0), (1, 1)), "a.tif")


def data(root: Path) -> dict[str, Any]:
    for number in range(6):
        write(root / "images" / f"p{number}.tif", scene(np.uint16, 3) + np.uint16(number))
        save(root / "masks" / f"p{number}.png", mask(0, 255))
    return {"name": "binary", "root": str(root)}


def test_training_images_say_what_is_black_and_white(tmp_path: Path) -> None:
    options = data(tmp_path)
    dataset = open_dataset(3, **options)
    assert dataset.pixel_range is not None
    assert any("more than 8 bits" in note for note in dataset.notes)
    image = dataset.test[0]["image"]
    assert image.min() < 5 and image.max() > 250
    assert np.array_equal(open_dataset(3, dataset.pixel_range.to_list(), **options).test[0]["image"], image)
    assert open_dataset(3, "full", **options).test[0]["image"][:, :, 0].max() < 10


def test_pixels_without_data_are_not_measured(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(6):
        values = np.full((8, 12), 300 + number, np.float32)
        values[:2] = -9999
        Image.fromarray(values).save(tmp_path / "images" / f"{number}.tif", tiffinfo={42113: "-9999"})
        save(tmp_path / "masks" / f"{number}.png", mask(0, 255))
    found = open_dataset(1, name="binary", root=str(tmp_path)).pixel_range
    assert found is not None and found.low[0] >= 300


def test_a_checkpoint_keeps_the_range(tmp_path: Path) -> None:
    options = data(tmp_path / "data")
    dataset = open_dataset(3, **options)
    path = write_checkpoint(tmp_path / "a.ckpt", binary=True, pixel_range=dataset.pixel_range)
    trained = load(path)
    assert trained.pixel_range == dataset.pixel_range
    file = tmp_path / "data" / "images" / f"{dataset.test.names[0]}.tif"
    seen = Predictor(trained, device="cpu").predict(file).image
    assert np.array_equal(seen, dataset.test[0]["image"])


@pytest.mark.parametrize("wrong", [[3, 1], [1], ["a", "b"]])
def test_a_wrong_range_is_refused_also_where_none_is_needed(wrong: list[Any]) -> None:
    with pytest.raises(UserError, match="range"):
        open_dataset(3, wrong, name="shapes")
