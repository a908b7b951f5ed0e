"""A report names the device that computed it."""

import json
from pathlib import Path

import pytest
import torch
from conftest import composed

from segmentation.cli import compose
from segmentation.config import read_evaluation_settings
from segmentation.data import open_dataset
from segmentation.environment import device_name
from segmentation.evaluate import evaluate
from segmentation.train import train

TINY = [
    *("backbone=mobilenetv3_small", "head=fcn", "dataset.size=48", "dataset.train=2", "dataset.val=1"),
    *("dataset.test=1", "data.size=[32,32]", "data.batch_size=2", "data.workers=0", "precision=32-true"),
    *("trainer.max_epochs=1", "trainer.accelerator=cpu", "callbacks.grid.images=0", "logger=none"),
]


@pytest.fixture
def beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: f"A GPU {device}")


def test_the_name_is_that_of_the_device(beside_a_gpu: None) -> None:
    assert device_name(torch.device("cuda", 1)) == "A GPU cuda:1"
    assert device_name(torch.device("cpu")).endswith(f"{torch.get_num_threads()} threads")


def test_reports_beside_a_gpu_name_the_processor_that_was_used(
    beside_a_gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = composed(*TINY)
    with pytest.MonkeyPatch.context() as without_driver:
        # What asks torch for the GPU's state before it is used.
        without_driver.setattr(torch.cuda, "manual_seed_all", lambda seed: None)
        train(config, open_dataset(**config["dataset"]), tmp_path)
        checkpoint = tmp_path / "checkpoints" / "best.ckpt"
        options = [
            f"checkpoint='{checkpoint}'",
            f"output='{tmp_path / 'out'}'",
            "accelerator=cpu",
            "workers=0",
        ]
        evaluate(read_evaluation_settings(compose("evaluate", *options)), tmp_path / "out")
    for folder in (tmp_path, tmp_path / "out"):
        environment = json.loads((folder / "report.json").read_text())["environment"]
        assert environment["device"].endswith(" threads"), folder
