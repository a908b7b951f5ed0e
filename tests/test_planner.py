"""The plan fits the images, leaves alone what was given, and stands in config.yaml as plain values."""

import json
import math
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import composed
from made_data import save
from scripts import run_script

from segmentation.data import create_dataset, open_dataset
from segmentation.data.dataset import SegmentationDataset
from segmentation.data.survey import Survey, survey
from segmentation.planner import complete, plan


@pytest.fixture(autouse=True)
def _enough_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segmentation.planner.free_memory", lambda: math.inf)


def seen(
    size: tuple[int, int],
    objects: float | None = None,
    images: int = 400,
    shares: tuple[float, ...] = (0.8, 0.2),
    holding: tuple[float, ...] = (1.0, 1.0),
) -> Survey:
    return Survey(
        images,
        np.array([size] * 10),
        np.array(shares),
        np.array(holding),
        np.full(5, objects) if objects else np.empty(0),
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> SegmentationDataset:
    root = tmp_path_factory.mktemp("data")
    for number in range(10):
        save(root / "images" / f"{number}.png", np.zeros((40, 60, 3), np.uint8))
        save(root / "masks" / f"{number}.png", np.pad(np.full((20, 20), 255, np.uint8), ((9, 11), (5, 35))))
    return create_dataset(name="binary", root=str(root))


def planned(survey: Survey, dataset: SegmentationDataset, *given: str, options: tuple[str, ...] = ()) -> Any:
    config = composed("dataset=binary", "dataset.root=x", "trainer.accelerator=cpu", *options)
    choices = plan({**config, "planned": []}, survey, dataset, given)
    return {choice.key: choice.value for choice in choices}


@pytest.mark.parametrize(
    ("survey", "expected"),
    [
        (seen((256, 256), 60), {"data.resize": True, "data.size": [256, 256]}),
        (seen((100, 140), 40), {"data.resize": True, "data.size": [96, 160]}),
        (seen((28, 28), 10), {"data.resize": True, "data.size": [32, 32]}),
        (seen((64, 64), 20), {"data.resize": True, "data.size": [64, 64]}),
        (seen((40, 60), 20), {"data.resize": False, "data.size": [64, 64]}),
        (seen((360, 480), 60), {"data.resize": True, "data.size": [224, 288]}),
        (seen((360, 480), 9), {"data.resize": False, "data.size": [256, 256], "output_stride": 8}),
        (seen((3000, 4000), 500), {"data.resize": False, "data.size": [256, 256]}),
        (seen((64, 4000), 60), {"data.resize": False, "data.size": [64, 256]}),
        (seen((256, 256), 60, images=20), {"data.batch_size": 5, "trainer.max_epochs": 200}),
        (seen((256, 256), 60, images=20_000), {"trainer.max_epochs": 5}),
        (seen((256, 256), 60, images=50), {"augmentation.colour": 0.5}),
        (seen((256, 256), 60, holding=(1.0, 0.1)), {"data.sampler": "balanced"}),
        (seen((3000, 4000), 60, 10, (0.999, 0.001)), {"data.sampler": "balanced", "data.cache": "disk"}),
    ],
)
def test_what_is_planned(survey: Survey, expected: dict[str, Any], dataset: SegmentationDataset) -> None:
    found = planned(survey, dataset)
    assert {key: found.get(key) for key in expected} == expected
    if "data.sampler" not in expected:
        assert "data.sampler" not in found
    height, width = survey.usual_size
    if found["data.resize"]:  # never squashed
        assert height <= 2 * found["data.size"][0] and width <= 2 * found["data.size"][1]


@pytest.mark.parametrize(
    ("large", "free", "writable", "cached"),
    [(0, 20, True, True), (4, 20, True, False), (0, 3, True, False), (0, 20, False, False)],
)
def test_a_cache_is_planned_where_it_has_room(
    large: int,
    free: int,
    writable: bool,
    cached: bool,
    dataset: SegmentationDataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 400 images with 8 MB each, of which some are ten times as large."""
    survey = seen((1000, 2000), 60)
    survey.sizes[:large] = 10_000, 2000
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free * 1e9))
    monkeypatch.setattr("os.access", lambda *_: writable)
    assert planned(survey, dataset).get("data.cache") == ("disk" if cached else None)


@pytest.mark.parametrize(
    ("free", "size", "batch"),
    [(math.inf, [256, 256], None), (5e9, [256, 256], 7), (3e9, [192, 192], 2), (1e9, [32, 32], 2)],
)
def test_the_plan_fits_in_the_free_memory(
    free: float,
    size: list[int],
    batch: int | None,
    dataset: SegmentationDataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("segmentation.planner.free_memory", lambda: free)
    config = composed("dataset=binary", "dataset.root=x", "trainer.accelerator=cpu")
    choices = {
        choice.key: choice for choice in plan({**config, "planned": []}, seen((3000, 4000), 60), dataset)
    }
    assert choices["data.size"].value == size
    assert (f"{free / 1e9:.1f} GB of free memory" in choices["data.size"].reason) is (size != [256, 256])
    assert (choices["data.batch_size"].value if "data.batch_size" in choices else None) == batch
    if batch:
        assert f"{free / 1e9:.1f} GB of free memory" in choices["data.batch_size"].reason


@pytest.mark.parametrize(
    ("loss", "weighs"), [("ce_dice", True), ("bce", True), ("dice", False), ("focal", False)]
)
def test_losses_of_pixels_weigh_rare_classes(loss: str, weighs: bool, dataset: SegmentationDataset) -> None:
    rare = seen((256, 256), 60, shares=(0.995, 0.005))
    found = planned(rare, dataset, options=(f"loss={loss}",))
    assert found.get("loss.class_weights") == ("auto" if weighs else None)
    assert "loss.class_weights" not in planned(seen((256, 256), 60), dataset, options=(f"loss={loss}",))


@pytest.mark.parametrize(
    ("backbone", "stride"),
    [
        (["backbone=densenet121"], 8),
        (["backbone=timm", "backbone.name=densenet121"], None),  # timm cannot dilate it
        (["backbone=timm", "backbone.name=resnet18"], 8),
        (["backbone=swin_t"], None),
    ],
)
def test_a_finer_stride_is_for_backbones_that_can(
    backbone: list[str], stride: int | None, dataset: SegmentationDataset
) -> None:
    assert planned(seen((360, 480), 9), dataset, options=(*backbone,)).get("output_stride") == stride


@pytest.mark.parametrize("given", ["data.size", "data.resize", "data", "trainer.max_epochs", "augmentation"])
def test_what_was_given_stays(given: str, dataset: SegmentationDataset) -> None:
    found = planned(seen((3000, 4000), 20, images=50), dataset, given)
    assert found and not [key for key in found if key == given or key.startswith(f"{given}.")]


def test_windows_follow_from_a_size_that_was_given(dataset: SegmentationDataset) -> None:
    large = seen((3000, 4000), 60)
    found = planned(large, dataset, "data.size", options=("data.size=[512,512]",))
    assert found["trainer.max_epochs"] == 5  # 46 windows an image
    small = planned(seen((266, 320), 60), dataset, "data.size", options=("data.size=[64,64]",))
    assert small["data.resize"] is False  # 64 pixels were asked for, but not to squash the images
    asked = planned(seen((3000, 4000), 60), dataset, "data.resize")
    assert asked["data.size"] == [224, 288]


def test_a_survey_counts_objects_and_classes(dataset: SegmentationDataset) -> None:
    found = survey(dataset)
    assert found is not None
    assert (found.images, found.usual_size, found.longest_side) == (6, (40, 60), 60)
    assert found.small_object == 20
    assert found.shares[1] == pytest.approx(400 / 2400)
    assert found.holding.tolist() == [1, 1]


def test_built_in_data_and_python_configs_are_not_planned(dataset: SegmentationDataset) -> None:
    config = composed("dataset=binary", "dataset.root=x")
    finished, _ = complete(config, dataset)
    assert finished == {**config, "planned": []}
    shapes = composed()
    finished, _ = complete({**shapes, "given": []}, open_dataset(**shapes["dataset"]))
    assert finished == {**shapes, "planned": []}


def test_weights_become_numbers(dataset: SegmentationDataset) -> None:
    config = composed("dataset=binary", "dataset.root=x", "loss.class_weights=auto")
    before = deepcopy(config)
    finished, counted = complete(config, dataset)
    assert config == before
    weights = finished["loss"]["class_weights"]
    assert weights[0] == 1 < weights[1]
    assert counted.counts is not None and counted.counts.shape == (6, 2)
    assert finished["planned"] == ["loss.class_weights"]


def test_what_is_typed_beside_resume_holds_against_the_plan(
    tmp_path: Path, dataset: SegmentationDataset
) -> None:
    options = ("dataset=binary", "dataset.root=x")
    earlier = composed(*options, "trainer.max_epochs=7", "data.batch_size=3", "loss.class_weights=[1,2]")
    earlier["planned"] = ["data.batch_size", "loss.class_weights", "trainer.max_epochs"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(earlier))
    now = composed(*options, "trainer.max_epochs=100", "loss.class_weights=auto")
    given = ["loss.class_weights", "trainer.max_epochs"]
    finished, _ = complete({**now, "resume": str(tmp_path), "given": given}, dataset)
    assert (finished["trainer"]["max_epochs"], finished["data"]["batch_size"]) == (100, 3)
    assert finished["loss"]["class_weights"] == [1, 2]
    assert finished["planned"] == earlier["planned"][:2]


def test_a_run_is_planned_and_its_resume_keeps_the_plan(tmp_path: Path, dataset: SegmentationDataset) -> None:
    root = Path(dataset.train.images.folder).parent  # type: ignore[attr-defined]
    small = ["backbone=mobilenetv3_small", "head=fcn", "callbacks.grid.images=0", "logger=none"]
    command = ["train.py", "dataset=binary", f"dataset.root={root}", "trainer.max_epochs=1", *small]
    run = tmp_path / "run"
    first = run_script(*command, f"hydra.run.dir={run}", folder=tmp_path)
    assert "plan: data.size=[64, 64]" in first.stdout + first.stderr
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["data"]["size"] == [64, 64]
    assert {"data.size", "data.resize", "data.batch_size"} <= set(config["planned"])
    assert "trainer.max_epochs" not in config["planned"]
    assert "given" not in config
    second = run_script("train.py", f"resume={run}", "trainer.max_epochs=2", folder=tmp_path)
    assert "plan:" not in second.stdout + second.stderr
    again = yaml.safe_load((run / "config.yaml").read_text())
    assert (again["data"], again["planned"]) == (config["data"], config["planned"])
    assert json.loads((run / "report.json").read_text())["metrics"]["test/miou"] >= 0
