"""A value that is not right is named with its option before anything is trained."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import Config, composed

from segmentation import build
from segmentation.callbacks import History
from segmentation.config import read_training_settings
from segmentation.data import open_dataset
from segmentation.errors import UserError

SMALL = ("backbone=mobilenetv3_small", "dataset.train=2", "dataset.val=1", "dataset.test=1")


def changed(config: Config, override: str) -> None:
    """Sets a value as Hydra would, without composing all anew."""
    key, _, value = override.lstrip("+~").partition("=")
    *sections, name = key.split(".")
    for section in sections:
        config = config[section]
    if override.startswith("~"):
        del config[name]
    else:
        config[name] = yaml.safe_load(value)


def build_all(folder: Path, *overrides: str) -> None:
    """Everything that a run builds before its first step."""
    groups = [override for override in overrides if override.startswith("trainer=")]
    config = composed(*SMALL, *groups)
    for override in overrides:
        if override not in groups:
            changed(config, override)
    settings = read_training_settings(config)
    dataset = open_dataset(**settings.dataset)
    task = build.build_task(settings, dataset)
    build.build_data(settings, dataset)
    build.build_trainer(settings, folder, dataset.classes, History(folder / "metrics.csv"))
    optimizer = task.optimizer(task.model)
    epochs = settings.trainer["max_epochs"]
    task.scheduler(optimizer, total_steps=2 * epochs, steps_per_epoch=2, epochs=epochs)


def test_good_options_pass(tmp_path: Path, compiled: list[Any]) -> None:
    build_all(tmp_path)
    assert not compiled
    build_all(tmp_path, "compile=true", "head.aux=true")
    assert len(compiled) == 4  # the first try, the backbone, two heads


def test_deterministic_runs_choose_no_algorithms_by_their_speed(tmp_path: Path) -> None:
    try:
        build_all(tmp_path, "trainer.deterministic=true")
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("output_stride=12", ["output_stride=12", "8, 16, 32"]),
        ("output_stride=four", ["output_stride=four", "a whole number"]),
        ("head.rates=[1,2]", ["head.rates"]),
        ("head.rates=[0,2,4]", ["head.rates"]),
        ("head.aux=perhaps", ["aux"]),
        ("head.aux_weight=-1", ["head.aux_weight=-1"]),
        ("head.aux_weight=x", ["head.aux_weight=x"]),
        ("~head.aux", ["head.aux is missing"]),
        ("~loss.name", ["loss.name is missing"]),
        ("trainer.accumulate_grad_batches=0", ["trainer.accumulate_grad_batches=0"]),
        ("trainer.log_every_n_steps=0", ["trainer.log_every_n_steps=0"]),
        ("trainer.check_val_every_n_epoch=0", ["trainer.check_val_every_n_epoch=0"]),
        ("backbone.norm_momentum=2", ["norm_momentum=2"]),
        ("weights=coco", ["weights=coco", "resnet50"]),
        ("weights=nowhere.pth", ["nowhere.pth"]),
        ("loss.label_smoothing=2", ["loss.label_smoothing=2"]),
        ("loss.class_weights=[1,2]", ["loss.class_weights", "4"]),
        ("loss.class_weights=heavy", ["loss.class_weights=heavy"]),
        ("optimizer.lr=0", ["optimizer.lr=0"]),
        ("optimizer.lr=fast", ["optimizer.lr=fast"]),
        ("optimizer.betas=[0.9]", ["optimizer.betas"]),
        ("scheduler.warmup_share=1.5", ["scheduler.warmup_share=1.5"]),
        ("scheduler.warmup_epochs=99", ["scheduler.warmup_epochs=99"]),
        ("augmentation.flip=2", ["augmentation.flip=2"]),
        ("augmentation.scale=[2,1]", ["augmentation.scale"]),
        ("data.size=[96]", ["data.size=[96]"]),
        ("data.size=96", ["data.size=96", "it should be a list."]),
        ("data.size=[96,96,3]", ["data.size=[96, 96, 3]", "it has too many values."]),
        ("data.size=[96,0]", ["data.size"]),
        ("data.size=[8,8]", ["data.size", "output_stride"]),
        ("data.batch_size=0", ["data.batch_size=0"]),
        ("data.batch_size=many", ["data.batch_size=many"]),
        ("data.workers=-1", ["data.workers=-1"]),
        ("data.resize=sometimes", ["data.resize=sometimes"]),
        ("precision=bf17", ["precision=bf17", "bf16-mixed"]),
        ("seed=-1", ["seed=-1"]),
        ("seed=abc", ["seed=abc"]),
        ("compile=perhaps", ["compile=perhaps"]),
        ("channels_last=perhaps", ["channels_last=perhaps"]),
        ("trainer.max_epochs=0", ["trainer.max_epochs=0"]),
        ("trainer.max_epochs=many", ["trainer.max_epochs=many"]),
        ("trainer.limit_val_batches=0", ["trainer.limit_val_batches=0"]),
        ("+trainer.val_check_interval=0", ["trainer.val_check_interval=0"]),
        ("+trainer.val_check_interval=1.5", ["trainer", "val_check_interval"]),
        ("+trainer.overfit_batches=-1", ["trainer", "overfit_batches"]),
        ("+trainer.gradient_clip_algorithm=x", ["trainer", "gradient_clip_algorithm"]),
        ("+trainer.profiler=x", ["trainer", "profiler"]),
        ("+trainer.fast_dev_run=true", ["trainer.fast_dev_run", "trainer=debug"]),
        ("+trainer.barebones=true", ["trainer.barebones"]),
        ("+trainer.enable_checkpointing=false", ["trainer.enable_checkpointing"]),
        ("+trainer.enable_model_summary=true", ["trainer.enable_model_summary", "benchmark.py"]),
        ("+trainer.num_sanity_val_steps=2", ["trainer.num_sanity_val_steps"]),
        ("+trainer.limit_predict_batches=2", ["trainer.limit_predict_batches"]),
        ("+trainer.precision=16", ["trainer.precision", "precision="]),
        ("+trainer.logger=false", ["trainer.logger", "logger=OPTION"]),
        ("+trainer.default_root_dir=x", ["trainer.default_root_dir", "hydra.run.dir"]),
        ("trainer.limit_train_batches=-3", ["trainer", "limit_train_batches"]),
        ("trainer.accelerator=abacus", ["trainer", "abacus"]),
        ("trainer.accelerator=tpu", ["trainer"]),
        ("trainer.accelerator=mps", ["trainer"]),
        pytest.param(
            *("trainer.accelerator=gpu", ["accelerator=gpu", "no GPU here"]),
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        ("trainer.accelerator=3", ["trainer.accelerator=3"]),
        ("trainer.accelerator=null", ["trainer.accelerator=None"]),
        ("trainer.accelerator=[cpu]", ["trainer.accelerator"]),
        ("trainer.gradient_clip_val=tight", ["trainer", "tight"]),
        ("callbacks.best.monitor=val/mio", ["val/mio", "val/miou"]),
        ("callbacks.best.mode=up", ["callbacks.best.mode=up"]),
        ("callbacks.best.mode=min", ["callbacks.best.mode=min", "val/miou"]),
        ("callbacks.early_stopping.mode=max", ["callbacks.early_stopping.mode=max", "val/loss"]),
        ("callbacks.early_stopping.patience=0", ["patience"]),
        ("callbacks.early_stopping.monitor=loss", ["early_stopping.monitor=loss", "val/loss"]),
        ("callbacks.grid.images=-1", ["callbacks.grid"]),
        ("callbacks.ema_decay=1.5", ["callbacks.ema_decay=1.5"]),
        ("callbacks.freeze_backbone_epochs=-1", ["freeze_backbone_epochs=-1"]),
        ("logger.tensorboard=maybe", ["logger.tensorboard=maybe"]),
        ("dataset.size=10", ["dataset.size=10"]),
        ("data=3", ["data=3", "it should be a dictionary."]),
        ("+colour=red", ["colour"]),
        ("+loss.gamma=2", ["gamma"]),
        ("+trainer.max_epoch=2", ["max_epoch", "max_epochs"]),
        ("+trainer.limit_predict_batch=1", ["Did you mean 'limit_test_batches'?"]),
        # What the run itself sets is no option, and none that can be chosen.
        ("+callbacks.folder=x", ["no option 'callbacks.folder'"]),
        ("+callbacks.best.metrics=[a]", ["no option 'callbacks.best.metrics'"]),
        ("+augmentation.size=[8,8]", ["no option 'augmentation.size'"]),
        ("+head.channels=3", ["no option 'head.channels'."]),
        ("+loss.classes=3", ["no option 'loss.classes'"]),
        ("+optimizer.model=3", ["no option 'optimizer.model'"]),
        ("+scheduler.epochs=4", ["no option 'scheduler.epochs'"]),
        ("~callbacks.best.monitor", ["callbacks.best.monitor is missing"]),
    ],
)
def test_wrong_values_are_named(override: str, words: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        build_all(tmp_path, override)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "option",
    ["callbacks.ema_decay=0.9", "callbacks.freeze_backbone_epochs=1", "trainer.sync_batchnorm=true"],
)
def test_what_needs_whole_weights_is_refused_where_they_are_cut_up(option: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        build_all(tmp_path, "trainer=fsdp", option)
    assert f"{option.replace('true', 'True')} needs the weights in one piece" in str(caught.value)
