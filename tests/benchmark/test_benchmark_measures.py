"""Benchmark measurements against numbers counted by hand."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segmentation.benchmark.measure import (
    Workload,
    count_flops,
    count_parameters,
    held_bytes,
    peak_memory,
)
from segmentation.benchmark.results import read_scores, score_of
from segmentation.errors import UserError
from segmentation.losses import create_loss
from segmentation.models import create_segmenter
from segmentation.optim import create_optimizer

CPU = torch.device("cpu")


def test_operations_and_parameters_of_a_small_net() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # 10 x 20 cells of 3 * 9 multiply-adds for each of 8
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),  # 9 for each of 8
        nn.Flatten(),
        nn.Linear(8 * 10 * 20, 5),
    )
    multiply_adds = 10 * 20 * (27 * 8 + 9 * 8) + 8 * 10 * 20 * 5
    assert count_flops(net, (1, 3, 20, 40)) == 2 * multiply_adds
    assert count_flops(net, (4, 3, 20, 40)) == 4 * 2 * multiply_adds
    assert count_parameters(net) == (27 * 8 + 8) + 16 + 9 * 8 + (8 * 10 * 20 * 5 + 5)
    assert net.training and {value.device for value in net.parameters()} == {CPU}


def test_peak_memory_counts_tensors_that_exist_at_once() -> None:
    weights = torch.zeros(250_000)
    views = [weights, weights[:10], weights.reshape(500, 500)]
    assert held_bytes(views) == 1_000_000
    state: list[Tensor] = []

    def step() -> None:
        if not state:
            state.append(torch.empty(500_000))  # 2 MB that stay
        first = torch.empty(1_000_000)
        second = torch.empty(2_000_000)  # 4 + 8 MB at a time
        del first, second
        torch.empty(2_500_000)  # 10 MB, alone

    assert peak_memory(step, views, CPU) == pytest.approx(1e6 + 2e6 + 12e6, abs=2000)
    # What is there already by the time of the measurement is not seen unless it is named.
    assert peak_memory(step, [*views, *state], CPU) == pytest.approx(1e6 + 2e6 + 12e6, abs=2000)


def test_peak_memory_on_a_gpu_excludes_other_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    held = torch.zeros(1000)  # 4,000 bytes, and 6,000 of an earlier model
    device = {"now": 10_000, "peak": 10_000, "steps": 0}

    def step() -> None:
        device["steps"] += 1
        state = 8_000 if device["steps"] == 1 else 0  # gradients, made once
        search = 90_000 if device["steps"] == 1 else 0
        device["now"] += state
        device["peak"] = max(device["peak"], device["now"] + 5_000 + search)

    fakes: dict[str, Callable[[], Any]] = {
        "memory_allocated": lambda: device["now"],
        "max_memory_allocated": lambda: device["peak"],
        "reset_peak_memory_stats": lambda: device.update(peak=device["now"]),
        "synchronize": lambda: None,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    assert peak_memory(step, [held], torch.device("cuda")) == 4_000 + 8_000 + 5_000


def workload(precision: str, *, aux: bool = False) -> Workload:
    model = create_segmenter(
        backbone={"source": "timm", "name": "test_resnet"},
        head={"name": "lraspp"},
        outputs=3,
        channels=4,
        aux=aux,
    )
    return Workload(
        model,
        loss=create_loss("cross_entropy", binary=False, classes=3),
        optimizer=partial(create_optimizer, "adamw", lr=0.01),
        aux_weight=0.4,
        classes=3,
        shape=(4, 17, 19),
        precision=precision,
        device=CPU,
    )


@pytest.mark.parametrize(("precision", "aux"), [("32-true", True), ("bf16-mixed", False)])
def test_training_changes_weights_and_inference_does_not(precision: str, aux: bool) -> None:
    work = workload(precision, aux=aux)
    before = [value.detach().clone() for value in work.model.parameters()]

    step, resident = work.inference(2)
    peak = peak_memory(step, resident, CPU)
    weights = held_bytes(work.model.state_dict().values())
    assert weights < peak < 2.5 * weights
    assert not work.model.training
    assert all(torch.equal(one, other) for one, other in zip(before, work.model.parameters(), strict=True))

    step, resident = work.training(2)
    peak = peak_memory(step, resident, CPU)
    assert work.model.training
    for earlier, parameter in zip(before, work.model.parameters(), strict=True):
        assert parameter.grad is not None
        # A bias behind activations that are all cut off has nothing to learn from this batch.
        assert not (parameter.grad.any() and torch.equal(earlier, parameter))
    # Weights, gradients and both of Adam's moments, and the features that the backward pass needs.
    assert 4 * weights < peak < 8 * weights


def report(folder: Path, backbone: str, miou: float | None, data: str = "camvid", stride: int = 16) -> None:
    (folder / "checkpoints").mkdir(parents=True)
    content = {
        "metrics": {"test/miou": miou},
        "model": {"backbone": {"name": backbone}, "head": {"name": "fcn"}, "output_stride": stride},
        "data": {"name": data},
    }
    (folder / "report.json").write_text(json.dumps(content))


def test_scores_come_from_runs_of_the_same_model(tmp_path: Path) -> None:
    report(tmp_path / "sweep" / "a", "resnet18", 0.25)
    report(tmp_path / "sweep" / "b", "resnet18", 0.75)
    report(tmp_path / "sweep" / "c", "resnet18", 0.9, stride=8)
    report(tmp_path / "d", "resnet50", None)
    reports = read_scores([str(tmp_path / "sweep"), str(tmp_path / "d")])
    model = {"backbone": {"name": "resnet18", "norm_momentum": 0.1}, "head": {"name": "fcn"}}
    twice = read_scores([str(tmp_path), str(tmp_path / "sweep")])
    score = score_of({**model, "output_stride": 16}, twice)
    assert score == {"metric": "test/miou", "mean": 0.5, "runs": 2, "data": "camvid"}
    assert score_of({**model, "output_stride": 32}, reports) is None
    assert score_of({**model, "output_stride": 16, "channels": 4}, reports) is None
    timms = {**model, "backbone": {"source": "timm", "name": "resnet18"}, "output_stride": 16}
    assert score_of(timms, reports) is None
    assert score_of({**model, "backbone": {"name": "resnet50"}, "output_stride": 16}, reports) is None


def test_missing_or_damaged_reports_raise_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished run"):
        read_scores([str(tmp_path)])
    report(tmp_path / "a", "resnet18", 0.5)
    report(tmp_path / "b", "resnet18", 0.5, data="voc")
    with pytest.raises(UserError, match="name=camvid; name=voc"):
        read_scores([str(tmp_path)])
    good = json.loads((tmp_path / "a" / "report.json").read_text())
    bad = ["[1", "[]", json.dumps({**good, "model": {**good["model"], "backbone": "resnet50"}})]
    for text in [*bad, json.dumps({**good, "metrics": {"test/miou": "0.5"}})]:
        (tmp_path / "b" / "report.json").write_text(text)
        with pytest.raises(UserError, match=r"b/report\.json is damaged"):
            read_scores([str(tmp_path)])


def test_folds_of_one_folder_are_one_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for fold, root in enumerate(("data", str(tmp_path / "data"))):
        report(tmp_path / str(fold), "resnet18", 0.5)
        path = tmp_path / str(fold) / "report.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "data": {**content["data"], "root": root, "fold": fold}}))
    assert len(read_scores([str(tmp_path)])) == 2


def test_the_report_of_an_evaluation_does_not_count_as_a_run(tmp_path: Path) -> None:
    report(tmp_path / "a", "resnet18", 0.5)
    report(tmp_path / "a" / "evaluation", "resnet18", 0.1)
    (tmp_path / "a" / "evaluation" / "checkpoints").rmdir()
    assert len(read_scores([str(tmp_path)])) == 1
