"""The ranges of options: of options that exist, and checked by the settings alone, without torch."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch
import yaml
from conftest import CONF, composed

from segmentation.cli.overrides import compose
from segmentation.config import read_evaluation_settings, read_training_settings
from segmentation.data.augmentation import training_transform
from segmentation.errors import UserError
from segmentation.metrics import scores
from segmentation.options import call
from segmentation.ranges import RANGES


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["loss=focal", "loss.alpha=-1"],
            "loss.alpha=-1 is not right: it should be greater than or equal to 0.",
        ),
        (["loss.class_weights=[1,-1,1,1]"], "loss.class_weights=[1, -1, 1, 1]"),
        (["loss.smooth=nan"], "loss.smooth=nan"),
        (["weights=no/where.pth"], "weights=no/where.pth is no file"),
        (["seed=none"], "seed=none is not right: it should be a whole number."),
        (["channels_last=maybe"], "channels_last=maybe is not right: it should be true or false."),
        (["name=a/../../b"], "name=a/../../b is not right: it leads out of outputs/"),
        (["name=/tmp/b"], "name=/tmp/b is not right: it leads out of outputs/"),
        (["head.rates=[1,2]"], "head.rates=[1, 2] is not right: it should have at least 3 items"),
        (["head.aux_weight=-1"], "head.aux_weight=-1"),
        (["optimizer.lr=0"], "optimizer.lr=0"),
        (["optimizer.betas=[0.9,1]"], "optimizer.betas=[0.9, 1]"),
        (["scheduler.warmup_share=1"], "scheduler.warmup_share=1"),
        (["trainer.accelerator=gpuu"], "trainer.accelerator=gpuu is unknown. Did you mean 'gpu'?"),
        (["trainer=ddp", "trainer.strategy=dpp"], "trainer.strategy=dpp is unknown. Did you mean 'ddp'?"),
        (["trainer.max_epochs=0"], "trainer.max_epochs=0"),
        (["trainer.max_steps=0"], "trainer.max_steps=0 is not right: it should be greater"),
        (["trainer.limit_val_batches=-0.5"], "trainer.limit_val_batches=-0.5"),
        (["+trainer.fast_dev_run=true"], "trainer.fast_dev_run cannot be set"),
        (["callbacks.early_stopping.patience=-1"], "callbacks.early_stopping.patience=-1"),
        (
            ["callbacks.best.monitor=val/mio"],
            "callbacks.best.monitor=val/mio is unknown. Did you mean 'val/miou'?",
        ),
        (["callbacks.ema_decay=1"], "callbacks.ema_decay=1"),
        (["augmentation.flip=2"], "augmentation.flip=2"),
    ],
)
def test_the_settings_refuse_what_is_out_of_range(overrides: list[str], words: str) -> None:
    with pytest.raises(UserError) as caught:
        read_training_settings(composed(*overrides))
    assert str(caught.value).startswith(words)


def test_a_list_is_asked_for_in_words() -> None:
    with pytest.raises(UserError, match=r"augmentation\.scale=3 is not right: it should be a list\."):
        call("augmentation", training_transform, size=(8, 8), resize=True, scale=3)


def test_an_evaluation_has_the_ranges_of_its_trainer(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").touch()
    config = compose("evaluate", f"checkpoint={tmp_path / 'a.ckpt'}")
    read_evaluation_settings(config)
    with pytest.raises(UserError, match=r"trainer\.strategy=dpp"):
        read_evaluation_settings(config | {"trainer": {"strategy": "dpp"}})


def test_settings_do_not_import_torch() -> None:
    code = "import sys, segmentation.config; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("key", RANGES)
def test_every_range_is_that_of_an_option(key: str) -> None:
    group, *path = key.split(".")
    if key == "trainer.val_check_interval":  # Lightning's own, which no file of ours sets
        return
    for file in [*(CONF / group).glob("*.yaml")]:
        content = yaml.safe_load(file.read_text()) or {}
        for step in path:
            content = content.get(step, {}) if isinstance(content, dict) else {}
        if content != {}:
            return
    raise AssertionError(f"no file in conf/{group} has {key}")


def test_the_names_of_scores_are_those_that_are_measured() -> None:
    measured = {name for binary in (False, True) for name in scores(torch.zeros(2, 2), binary=binary)}
    assert set(get_args(RANGES["callbacks.best.monitor"])) == {f"val/{name}" for name in ("loss", *measured)}
