"""Every option of every group composes and builds, so that no config can rot."""

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import CONF, composed
from hydra.errors import MissingConfigException

from segmentation import build
from segmentation.callbacks import History
from segmentation.cli import compose
from segmentation.cli.main import help_text
from segmentation.cli.messages import explain
from segmentation.config import read_training_settings
from segmentation.data import open_dataset
from segmentation.losses import LOSSES
from segmentation.optim import OPTIMIZERS, SCHEDULERS

TABLES: dict[str, Mapping[str, Callable[..., Any]]] = {
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "scheduler": SCHEDULERS,
}

NEEDED = {
    "pairs": ("dataset.images='*.jpg'", "dataset.masks='{stem}_mask.png'"),
    "voc_resnet50_gpu": ("dataset.train_list=train",),  # without SBD's masks
    "geotiff": (
        "dataset.images=image.tif",
        "dataset.labels=roofs.gpkg",
        "dataset.block=128",
        "dataset.buffer=0",
        "data.size=[64,64]",
    ),
}

OTHERS = ("wandb", "mlflow", "trackio")

OPTIONS = sorted(
    (path.parent.name, path.stem)
    for path in CONF.glob("*/[!_]*.yaml")
    if path.parent.name != "hydra" and path.stem not in OTHERS  # packages: tests/callbacks/test_loggers.py
)


def overrides_for(group: str, option: str, roots: dict[str, Path]) -> list[str]:
    data = option
    if group == "experiment":
        data = composed(f"experiment={option}", "dataset.root=anywhere")["dataset"]["name"]
    rooted = [f"dataset.root={roots[data]}"] if group != "logger" and data in roots else []
    if option == "mix":
        rooted = ["dataset.sets=[{name: shapes, train: 2, val: 1, test: 1}, {name: shapes}]"]
    # What these weights start from lies outside: that they load is a test of its own.
    # The built-in data asks for stride 8, which a backbone of windows cannot give.
    stride = ["output_stride=auto"] if group == "backbone" else []
    return [f"{group}={option}", *rooted, *NEEDED.get(option, ()), *stride, "weights=none", "data.workers=0"]


@pytest.mark.parametrize("name", ["binary", "camvid", "folder", "voc"])
def test_a_data_set_changes_the_image_size_but_not_the_recipe(name: str) -> None:
    config = yaml.safe_load((CONF / "dataset" / f"{name}.yaml").read_text())
    assert set(config) <= {"defaults", "dataset", "data", "plan"}
    assert set(config.get("data", ())) <= {"size"}


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda part: part)
def test_every_option_composes_and_builds(
    group: str, option: str, roots: dict[str, Path], tmp_path: Path
) -> None:
    """It builds what its group is for, an experiment all of a run."""
    settings = read_training_settings(composed(*overrides_for(group, option, roots)))
    dataset = open_dataset(**settings.dataset)
    epochs = settings.trainer["max_epochs"]
    if group not in ("augmentation", "callbacks", "logger", "trainer"):
        with torch.device("meta"):  # that they compute is for tests/models
            task = build.build_task(settings, dataset)
        optimizer = task.optimizer(task.model)
        task.scheduler(optimizer, total_steps=10 * epochs, steps_per_epoch=10, epochs=epochs).go_to(10)
    if group in ("augmentation", "dataset", "experiment"):
        batch = next(iter(build.build_data(settings, dataset).train_dataloader()))
        assert batch["image"].shape[2:] == batch["mask"].shape[1:] == settings.data.size
        assert batch["image"].dtype == torch.uint8
    if group in ("callbacks", "experiment", "logger", "trainer"):
        history = History(tmp_path / "metrics.csv")
        assert build.build_trainer(settings, tmp_path, dataset.classes, history).max_epochs == epochs


def test_every_file_says_what_it_is_for() -> None:
    for path in CONF.glob("*/*.yaml"):
        head = path.read_text().splitlines()[:2]
        assert any("# " in line and "@package" not in line for line in head), path


def test_the_recipes_are_those_of_their_sources(roots: dict[str, Path]) -> None:
    config = composed("experiment=binary_resnet50", f"dataset.root={roots['binary']}")
    assert config["backbone"]["name"] == "resnet50"
    assert (config["weights"], config["seed"], config["output_stride"]) == ("coco", 42, 8)
    assert (config["data"]["size"], config["data"]["batch_size"]) == ([256, 256], 8)
    assert (config["optimizer"]["name"], config["optimizer"]["lr"]) == ("adam", 1e-4)
    assert (config["scheduler"]["name"], config["scheduler"]["min_lr"]) == ("cosine", 1e-6)
    assert (config["loss"]["name"], config["trainer"]["max_epochs"]) == ("bce", 100)
    assert config["callbacks"]["early_stopping"]["patience"] == 20

    config = composed("experiment=binary_resnet50_cyclic", f"dataset.root={roots['binary']}")
    assert (config["loss"]["name"], config["scheduler"]["name"]) == ("bce_dice", "cyclic")
    assert (config["optimizer"]["lr"], config["scheduler"]["max_lr"], config["scheduler"]["up_epochs"]) == (
        1e-4,
        1e-3,
        5,
    )
    assert (config["callbacks"]["early_stopping"]["patience"], config["weights"]) == (10, "coco")

    config = composed("experiment=voc_resnet18_aux", f"dataset.root={roots['voc']}")
    assert (config["weights"], config["head"]["aux"], config["data"]["size"]) == (
        "imagenet",
        True,
        [416, 512],
    )
    assert (config["data"]["batch_size"], config["trainer"]["max_epochs"]) == (32, 60)
    assert config["scheduler"]["milestones"] == [45]


def test_what_options_inherit_from_is_no_choice() -> None:
    """`_base.yaml` and the like appear neither in the help nor in the suggestions of an error."""
    assert (CONF / "loss" / "_base.yaml").exists()
    help_groups, _, _ = help_text("train.py", "", CONF, "train").partition("Options (")
    assert "bce_dice" in help_groups
    assert not re.search(r"\s_\w", help_groups)
    with pytest.raises(MissingConfigException) as caught:
        compose("train", "loss=_bas")
    choices = ", ".join(sorted(path.stem for path in (CONF / "loss").glob("[!_]*.yaml")))
    assert (explain(caught.value) or "").endswith(f"Choose from: {choices}.")


@pytest.mark.parametrize("group", ["loss", "optimizer", "scheduler"])
def test_defaults_of_configs_are_those_of_the_code(group: str) -> None:
    for path in (CONF / group).glob("[!_]*.yaml"):
        options = dict(composed(f"{group}={path.stem}")[group])
        parameters = inspect.signature(TABLES[group][options.pop("name")]).parameters
        for name, value in options.items():
            default = parameters[name].default
            if default is not inspect.Parameter.empty:
                default = list(default) if isinstance(default, tuple) else default
                assert value == default, f"{path.stem}: {name}"
