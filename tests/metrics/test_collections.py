"""The whole of an evaluation: complete, and the same for any batches and processes."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as judge
from torch import Tensor, distributed
from torch.multiprocessing import start_processes

from segmentation.metrics import EvaluationMetrics
from segmentation.types import IGNORE_INDEX

IMAGES = 7
KINDS = {"binary": 2, "multiclass": 5}


def images(classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Seven of one size, one of them ignored as a whole; of several classes the last never occurs."""
    generator = torch.Generator().manual_seed(classes)
    mask = torch.randint(max(classes - 1, 2), (IMAGES, 48, 64), generator=generator).byte()
    noise = torch.randn(IMAGES, 1 if classes == 2 else classes, 48, 64, generator=generator)
    if classes == 2:
        probabilities = (2 * noise + 3 * mask[:, None] - 2).sigmoid()
        labels = probabilities[:, 0] >= 0.5
    else:
        hint = torch.nn.functional.one_hot(mask.long(), classes).movedim(-1, 1)
        probabilities = (2 * noise + 2 * hint).softmax(1)
        labels = probabilities.argmax(1)
    mask[torch.rand(mask.shape, generator=generator) < 0.1] = IGNORE_INDEX
    mask[2] = IGNORE_INDEX
    return probabilities, labels.byte(), mask


def evaluated(classes: int, cuts: list[int]) -> EvaluationMetrics:
    metrics = EvaluationMetrics(classes, binary=classes == 2)
    data = images(classes)
    for start, end in pairwise(cuts):
        metrics.update(*(values[start:end] for values in data))
    return metrics


def everything(metrics: EvaluationMetrics, classes: int) -> Any:
    names = [f"class {index}" for index in range(classes)]
    plain = [metrics.scores(), metrics.per_class(names), metrics.curves()]
    return json.loads(json.dumps(plain), parse_constant=str)  # so that nan equals nan


@pytest.mark.parametrize("classes", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_batches_change_nothing(classes: int, batch: int) -> None:
    metrics = evaluated(classes, [*range(0, IMAGES, batch), IMAGES])
    assert everything(metrics, classes) == everything(evaluated(classes, [0, IMAGES]), classes)


@pytest.mark.parametrize("classes", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_what_is_judged_is_left_as_it_is(classes: int, dtype: torch.dtype) -> None:
    probabilities, labels, mask = images(classes)
    given = probabilities, labels.to(dtype), mask.to(dtype)
    before = [values.clone() for values in given]
    metrics = EvaluationMetrics(classes, binary=classes == 2)
    metrics.update(*given)
    assert all(map(torch.equal, given, before))
    assert everything(metrics, classes) == everything(evaluated(classes, [0, IMAGES]), classes)


def _judge_a_share(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    for classes in KINDS.values():
        metrics = evaluated(classes, [0, 1, 4] if rank == 0 else [4, 6, IMAGES])
        Path(folder, f"{rank}_{classes}.json").write_text(json.dumps(everything(metrics, classes)))
    distributed.destroy_process_group()


def test_two_processes_are_as_good_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    other = start_processes(_judge_a_share, (str(tmp_path),), join=False, daemon=True, start_method="fork")
    _judge_a_share(1, str(tmp_path))
    assert other.join()
    for classes in KINDS.values():
        alone = everything(evaluated(classes, [0, IMAGES]), classes)
        for rank in range(2):
            assert json.loads((tmp_path / f"{rank}_{classes}.json").read_text()) == alone


def test_binary_scores_are_scikit_learns() -> None:
    probabilities, labels, mask = images(2)
    valid = mask != IGNORE_INDEX
    score, label, truth = (values[valid].numpy() for values in (probabilities[:, 0], labels, mask))
    values = evaluated(2, [0, IMAGES]).scores()
    exact = {
        "pixel_accuracy": judge.accuracy_score(truth, label),
        "dice": judge.f1_score(truth, label),
        "iou": judge.jaccard_score(truth, label),
        "brier": judge.brier_score_loss(truth, score),
        "precision": judge.precision_score(truth, label),
        "recall": judge.recall_score(truth, label),
        "f1": judge.f1_score(truth, label),
    }
    assert {name: values[name] for name in exact} == pytest.approx(exact, abs=1e-6)
    areas = {
        "roc_auc": judge.roc_auc_score(truth, score),
        "pr_auc": judge.average_precision_score(truth, score),
        "best_f1": max(judge.f1_score(truth, score >= cut) for cut in np.linspace(0, 1, 101)),
    }
    assert {name: values[name] for name in areas} == pytest.approx(areas, abs=5e-4)
    assert values["roc_auc"] == pytest.approx(areas["roc_auc"], abs=1e-4)
    assert values["pr_auc"] == pytest.approx(areas["pr_auc"], abs=1e-4)
    for name, function in {"f1": judge.f1_score, "iou": judge.jaccard_score}.items():
        chosen = score >= values[f"best_threshold_{name}"]
        assert values[f"best_{name}"] == pytest.approx(function(truth, chosen), abs=1e-6)
    assert 0 <= values["calibration_error"] <= 1 and 0 <= values["boundary_iou"] <= 1


def test_each_of_two_classes_has_its_own_areas() -> None:
    probabilities, _, mask = images(2)
    valid = mask != IGNORE_INDEX
    score, truth = probabilities[:, 0][valid].double().numpy(), mask[valid].numpy()
    rows = evaluated(2, [0, IMAGES]).per_class(["ground", "thing"])
    for label, name in enumerate(rows):
        own = score if label else 1 - score
        assert rows[name]["roc_auc"] == pytest.approx(judge.roc_auc_score(truth == label, own), abs=1e-4)
        assert rows[name]["pr_auc"] == pytest.approx(
            judge.average_precision_score(truth == label, own), abs=1e-4
        )


def test_means_leave_out_the_class_that_does_not_occur() -> None:
    metrics = evaluated(5, [0, IMAGES])
    rows, values = metrics.per_class([*"abcde"]), metrics.scores()
    assert math.isnan(rows["e"]["roc_auc"]) and math.isnan(rows["e"]["pr_auc"])
    for name in ("roc_auc", "pr_auc", "boundary_iou"):
        column = [row[name] for row in rows.values()]
        assert values[name] == pytest.approx(np.nanmean(column))
    curves = metrics.curves()
    assert [len(curves[name]) for name in ("roc", "pr", "reliability")] == [5, 5, 15]
    assert sum(row["pixels"] for row in curves["reliability"]) == int(metrics.confusion.compute().sum())


@pytest.mark.parametrize("classes", KINDS.values(), ids=KINDS)
def test_from_ignored_pixels_nothing_is_known(classes: int) -> None:
    metrics = evaluated(classes, [0, IMAGES])
    metrics.reset()
    metrics.update(*(values[2:3] for values in images(classes)))
    values = metrics.scores()
    assert values.pop("classes_counted") == 0
    assert all(math.isnan(value) for value in values.values())
    assert not any(metrics.curves()["roc"][0].values())
