"""One city trained on as a user does it, another judged and predicted into polygons."""

import json
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
from made_earth import city, on_ground, photo, roofs, write_outlines, write_raster
from scripts import run_script
from shapely import affinity

SMALL = (
    "backbone=mobilenetv3_small",
    "head=lraspp",
    "data.size=[64,64]",
    "data.workers=0",
    "augmentation=none",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=2",
    "trainer.accelerator=cpu",
    "callbacks.grid.images=0",
    "logger=none",
)
SHIFT = 8000.0  # metres between the cities


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a/ and b/, two cities, and run/, trained on a with bands 3, 1 and 2 and tested on b."""
    folder = tmp_path_factory.mktemp("earth")
    city(folder / "a", size=(384, 384), bands=4)
    polygons = roofs(256, 256, seed=1)
    there = rasterio.Affine(0.5, 0, on_ground([(0, 0)])[0][0] + SHIFT, 0, -0.5, on_ground([(0, 0)])[0][1])
    write_raster(
        folder / "b" / "image.tif",
        photo(polygons, 256, 256, seed=1),
        there,
        tiled=True,
        blockxsize=64,
        blockysize=64,
    )
    write_outlines(
        folder / "b" / "roofs.geojson", [affinity.translate(each, SHIFT) for each in polygons], "EPSG:4326"
    )
    done = run_script(
        "train.py",
        "dataset=geotiff",
        "dataset.images=a/*.tif",
        "dataset.labels=a/roofs.gpkg",
        "dataset.test_images=b/*.tif",
        "dataset.test_labels=b/roofs.geojson",
        "dataset.bands=[3,1,2]",
        "dataset.block=128",
        "dataset.buffer=32",
        "hydra.run.dir=run",
        *SMALL,
        folder=folder,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_report_has_both_cities_and_says_so(run: Path) -> None:
    report = json.loads((run / "run" / "report.json").read_text())
    assert {"val/iou", "test/iou"} <= report["metrics"].keys()
    assert any("test is of another place than train: 7." in note for note in report["data"]["notes"])
    assert "dataset.buffer=32 is narrower than a window of 64 pixels" in (run / "run" / "run.log").read_text()


def test_the_other_city_gets_the_same_scores_from_evaluate(run: Path, tmp_path: Path) -> None:
    done = run_script(
        "evaluate.py",
        "checkpoint=run",
        "dataset.images=b/*.tif",
        "dataset.labels=b/roofs.geojson",
        "objects=true",
        f"output={tmp_path}/judged",
        "accelerator=cpu",
        folder=run,
    )
    assert done.returncode == 0, done.stderr
    trained = json.loads((run / "run" / "report.json").read_text())["metrics"]
    judged = json.loads((tmp_path / "judged" / "report.json").read_text())
    for score in ("miou", "iou", "precision"):
        assert judged["metrics"][f"test/{score}"] == pytest.approx(
            trained[f"test/{score}"], abs=1e-6, nan_ok=True
        )
    assert judged["protocol"]["dataset"]["images"] == "b/*.tif"


def test_it_is_predicted_with_the_same_bands_into_polygons(run: Path, tmp_path: Path) -> None:
    done = run_script(
        "predict.py",
        "checkpoint=run",
        "input=b/image.tif",
        f"output={tmp_path}",
        "save=[mask,probability,polygons]",
        "min_area=4",
        "simplify=0.5",
        "accelerator=cpu",
        folder=run,
    )
    assert done.returncode == 0, done.stderr
    with rasterio.open(run / "b" / "image.tif") as scene, rasterio.open(tmp_path / "image.tif") as mask:
        assert (mask.shape, mask.transform, mask.crs) == (scene.shape, scene.transform, scene.crs)
        assert set(np.unique(mask.read())) <= {0, 127, 255}
    info = pyogrio.read_info(tmp_path / "image_polygons.gpkg")
    assert info["crs"] == "EPSG:32633"
    assert {"class", "area_m2", "confidence"} <= set(info["fields"])


def test_other_images_with_other_bands_are_not_called_those_of_the_training(run: Path) -> None:
    write_raster(run / "c" / "two.tif", np.ones((2, 64, 64), np.uint16))
    done = run_script(
        "evaluate.py", "checkpoint=run", "dataset.images=c/two.tif", "dataset.labels=a/roofs.gpkg", folder=run
    )
    assert done.returncode == 2
    assert done.stderr == "error: dataset.bands=[3, 1, 2]: c/two.tif has 2 bands: number them from 1.\n"
