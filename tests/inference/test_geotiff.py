"""TIFF by window: the same answers at the same place, in memory that the image's size does not change."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_predictors import REACH, near
from made_room import room_for
from PIL import Image

from segmentation.data.raster import open_raster
from segmentation.errors import UserError
from segmentation.inference import Predictor
from segmentation.inference.geotiff import predict_raster
from segmentation.inference.video import overlays
from segmentation.tiling import Tiling

rasterio = pytest.importorskip("rasterio", reason="needs rasterio, the extra geo")

Answers = dict[str, Path]

PLACE = {"crs": "EPSG:32632", "transform": rasterio.Affine(0.5, 0, 500000, 0, -0.5, 5000000)}


def write_tiff(path: Path, bands_CHW: np.ndarray, **profile: object) -> Path:
    count, height, width = bands_CHW.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=count,
        dtype=bands_CHW.dtype,
        **{**PLACE, **profile},
    ) as file:
        file.write(bands_CHW)
    return path


def noise(*shape: int, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def answers(source: Path, predictor: Predictor, folder: Path, tile: int = 96) -> Answers:
    targets = {kind: folder / f"{kind}.tif" for kind in ("mask", "overlay", "probability")}
    tiling = Tiling(predict=predictor.window_probabilities, tile=tile, overlap=4 * REACH + 3, batch_size=3)
    predict_raster(source, targets, tiling, predictor, alpha=0.5)  # type: ignore[arg-type]
    return targets


@pytest.mark.parametrize("binary", [False, True])
def test_windows_answer_as_the_whole_picture(binary: bool, tmp_path: Path) -> None:
    source = write_tiff(tmp_path / "in.tif", noise(3, 200, 333))
    predictor = near(binary=binary)
    whole = predictor.predict(source)
    found = answers(source, predictor, tmp_path)
    with rasterio.open(source) as original, rasterio.open(found["mask"]) as mask:
        assert (mask.crs, mask.transform) == (original.crs, original.transform)
        assert (
            mask.nodata == (127 if binary else 255)
            and mask.block_shapes == [(256, 256)]
            and mask.compression.value == "DEFLATE"
        )
        assert (mask.read(1) == whole.mask * (255 if binary else 1)).mean() > 0.9999
        if not binary:
            assert mask.colormap(1)[1][:3] == whole.classes.palette[1]
    with rasterio.open(found["probability"]) as file:
        values = file.read().transpose(1, 2, 0) * file.scales[0]
        np.testing.assert_allclose(values, whole.probabilities, atol=1e-5)
        assert file.descriptions == (("thing",) if binary else whole.classes.names)
    with rasterio.open(found["overlay"]) as file:
        assert (file.read().transpose(1, 2, 0) == np.asarray(whole.overlay())).mean() > 0.9999
    assert {path.name for path in tmp_path.iterdir()} == {
        "in.tif",
        "mask.tif",
        "overlay.tif",
        "probability.tif",
    }


def grey(path: Path) -> Path:
    return write_tiff(path, noise(1, 60, 70))


def sixteen(path: Path) -> Path:
    return write_tiff(path, noise(3, 60, 70, dtype="uint16"), photometric="RGB")


def with_alpha(path: Path) -> Path:
    return write_tiff(
        path,
        np.concatenate([noise(3, 60, 70), np.full((1, 60, 70), 255, np.uint8)]),
        photometric="RGB",
        alpha="yes",
    )


def unplaced(path: Path) -> Path:
    Image.fromarray(noise(60, 70, 3)).save(path)
    return path


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
@pytest.mark.parametrize("write", [grey, with_alpha, sixteen, unplaced])
def test_windows_are_read_as_pictures_are(write: Callable[[Path], Path], tmp_path: Path) -> None:
    source = write(tmp_path / "in.tif")
    predictor = near()
    with rasterio.open(answers(source, predictor, tmp_path)["mask"]) as mask:
        # Pillow cuts the lower byte of 16-bit colours off; here they are rounded.
        assert (mask.read(1) == predictor.predict(source).mask).mean() > 0.995


@pytest.mark.parametrize("mixed", [False, True])
def test_the_bands_are_those_of_the_training_in_every_way_of_reading(mixed: bool, tmp_path: Path) -> None:
    bands_CHW = noise(5, 60, 70)
    source = write_tiff(tmp_path / "in.tif", bands_CHW)
    own: dict[str, Any] = {"name": "geotiff", "bands": [5, 1, 2]}
    data = {"name": "mix", "sets": {"a": own, "b": own}} if mixed else own
    predictor = near()
    predictor.trained = replace(predictor.trained, dataset=data)
    expected = predictor.predict(bands_CHW[[4, 0, 1]].transpose(1, 2, 0)).mask
    assert np.array_equal(predictor.predict(source).mask, expected)
    with rasterio.open(answers(source, predictor, tmp_path)["mask"]) as mask:
        assert (mask.read(1) == expected).mean() > 0.9999
    Image.fromarray(noise(60, 70, 3)).save(tmp_path / "in.png")
    with pytest.raises(UserError, match=r"in\.png is no TIFF, and the model takes the bands \[5, 1, 2\]"):
        predictor.predict(tmp_path / "in.png")
    with pytest.raises(UserError, match="A video is no TIFF"):
        overlays(predictor)


def test_where_there_is_no_data_there_is_no_class(tmp_path: Path) -> None:
    bands = noise(3, 60, 70).clip(1)
    bands[:, :20] = 0
    source = write_tiff(tmp_path / "in.tif", bands, nodata=0)
    with rasterio.open(answers(source, near(), tmp_path)["mask"]) as mask:
        labels = mask.read(1)
    assert (labels[:20] == 255).all() and (labels[20:] < 3).all()


def test_pixels_that_are_no_numbers_hold_no_data(tmp_path: Path) -> None:
    bands = noise(4, 40, 50).astype(np.float32)
    bands[1, :20], bands[2, 20:30], bands[3] = np.nan, np.inf, np.nan
    source = write_tiff(tmp_path / "in.tif", bands)
    with open_raster(source, 3, None, [1, 2, 3]) as raster:
        assert np.array_equal(raster.holds(slice(10, 40), slice(0, 50)).all(axis=1), np.arange(10, 40) >= 30)


def test_alpha_beside_four_bands_says_where_there_is_data_as_in_training(tmp_path: Path) -> None:
    bands = noise(5, 40, 50).clip(1)
    bands[4, :20] = 0
    source = write_tiff(tmp_path / "in.tif", bands)
    with rasterio.open(source, "r+") as file:
        file.colorinterp = [*[rasterio.enums.ColorInterp.undefined] * 4, rasterio.enums.ColorInterp.alpha]
    with open_raster(source, 4, None, blank=True) as raster:
        whole = slice(0, 40), slice(0, 50)
        assert np.array_equal(raster.holds(*whole).all(axis=1), np.arange(40) >= 20)
        assert raster.read(*whole).shape == (40, 50, 4)


@pytest.mark.parametrize("empty", [False, True])
def test_maps_find_smaller_versions_and_where_there_is_data(empty: bool, tmp_path: Path) -> None:
    bands = noise(3, 600, 900).clip(1)
    if empty:
        bands[:, :300] = 0
    source = write_tiff(tmp_path / "in.tif", bands, nodata=0)
    found = answers(source, near(), tmp_path, tile=512)
    for path in found.values():
        with rasterio.open(path) as file:
            assert file.overviews(1) == [2, 4]
    with rasterio.open(found["probability"]) as file:
        assert (file.dataset_mask()[:300].any(), file.dataset_mask()[300:].all()) == (not empty, True)
        assert file.read(1, masked=True, out_shape=(300, 450)).mask[:148].all() == empty
    with rasterio.open(found["mask"], overview_level=0) as file:
        assert set(np.unique(file.read(1))) == {0, 1, 2} | ({255} if empty else set())  # no class in between
    whole = write_tiff(tmp_path / "whole.tif", noise(3, 60, 70))
    with rasterio.open(answers(whole, near(), tmp_path)["probability"]) as file:
        assert not file.overviews(1) and file.mask_flag_enums[0][0].name == "all_valid"


def test_a_place_without_a_projection_is_kept(tmp_path: Path) -> None:
    source = write_tiff(tmp_path / "in.tif", noise(3, 60, 70), crs=None)
    for path in answers(source, near(), tmp_path).values():
        with rasterio.open(path) as file:
            assert (file.crs, file.transform) == (None, PLACE["transform"])


@pytest.mark.parametrize("size", [100, 8192, 100_000])
def test_a_full_disk_leaves_no_file_that_looks_whole(size: int, tmp_path: Path) -> None:
    source = write_tiff(tmp_path / "in.tif", noise(3, 300, 300))
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"out.\w+\.tif was not written"), room_for(size):
        answers(source, near(), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def turned(path: Path) -> Path:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(60, 70, 3)).save(path, exif=exif)
    return path


def damaged(path: Path) -> Path:
    write_tiff(path, noise(3, 200, 300))
    path.write_bytes(path.read_bytes()[:60000])
    return path


def text(path: Path) -> Path:
    path.write_text("no picture")
    return path


def floating(path: Path) -> Path:
    return write_tiff(path, np.zeros((3, 60, 70), np.float32))


def many(path: Path) -> Path:
    return write_tiff(path, noise(6, 60, 70))


def elsewhere(path: Path) -> Path:
    # Another format under the ending, that would read a file which it names.
    path.write_text(
        '<VRTDataset rasterXSize="1" rasterYSize="1"><SourceFilename>/etc/passwd</SourceFilename>'
        "</VRTDataset>"
    )
    return path


@pytest.mark.parametrize("write", [turned, damaged, text, floating, many, elsewhere, lambda path: path])
def test_what_cannot_be_read_by_window_leaves_nothing(write: Callable[[Path], Path], tmp_path: Path) -> None:
    source = write(tmp_path / "in.tif")
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"in\.tif"):
        answers(source, near(), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the memory of this process")
def test_memory_depends_on_the_tile_alone(tmp_path: Path) -> None:
    def predict(pictures: list[np.ndarray]) -> np.ndarray:
        images_BCHW = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
        return (images_BCHW / 255).softmax(dim=1).numpy()

    def peak(height: int, width: int) -> int:
        """Megabytes beyond what the process held before."""
        source = tmp_path / "large.tif"
        size = {"height": height, "width": width, "count": 3, "dtype": "uint8"}
        with rasterio.open(source, "w", driver="GTiff", tiled=True, sparse_ok=True, **PLACE, **size):
            pass
        Path("/proc/self/clear_refs").write_text("5")
        before = status("VmRSS")
        predict_raster(
            source,
            {"mask": tmp_path / "mask.tif"},
            Tiling(predict=predict, tile=512, overlap=64),
            near(),
            alpha=0.5,
        )
        return (status("VmHWM") - before) // 1024

    peak(1024, 1024)  # what is loaded once is no matter of size
    small, large = peak(1024, 1024), peak(1024, 32768)
    assert large < small + 192, (small, large)  # the pixels are 96 MiB, their probabilities 384 MiB


def status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))
