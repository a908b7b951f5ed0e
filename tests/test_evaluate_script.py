"""evaluate.py as a user runs it: what it leaves behind, that its numbers are the training's, and what it refuses."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CONF, composed, make_binary
from made_predictors import write_checkpoint
from PIL import Image
from scripts import run_script, said

import segmentation
from segmentation import build
from segmentation.checkpoint import load
from segmentation.cli.overrides import refuse_training_options
from segmentation.config import read_evaluation_settings as read_evaluation
from segmentation.config import read_training_settings
from segmentation.data import open_dataset
from segmentation.errors import UserError
from segmentation.evaluation import evaluate, evaluate_split, open_context, subfolder_name
from segmentation.inference import Predictor
from segmentation.metrics import EvaluationMetrics
from segmentation.reading import file_hash
from segmentation.report.evaluation import ImageScores
from segmentation.report.protocol import refuse_different

pytestmark = pytest.mark.usefixtures("no_figures")

SMALL = [
    "backbone=mobilenetv3_small",
    "head=lraspp",
    "dataset.size=48",
    "dataset.train=10",
    "dataset.val=3",
    "dataset.test=4",
    "data.size=[48,48]",
    "data.batch_size=4",
    "data.workers=0",
    "precision=32-true",
    "trainer.max_epochs=1",
]

CONTENTS = [
    *(
        "report.json",
        "report.md",
        "report.html",
        "per_image.csv",
        "confusion.csv",
        "confusion.png",
        "run.log",
    ),
    *(f"{curve}.{ending}" for curve in ("roc", "pr", "reliability") for ending in ("csv", "png")),
]

BINNED = ("roc_auc", "pr_auc", "calibration_error")  # of scores counted in bins

OPTIONS: dict[str, Any] = {
    "dataset": {"root": None},
    "split": "test",
    "tta": "none",
    "threshold": "auto",
    "write_threshold": False,
    "save": [],
    "batch_size": 3,
    "workers": 0,
    "precision": "32-true",
    "trainer": {"devices": 1, "num_nodes": "auto"},
    "accelerator": "cpu",
    "compile": False,
    "output": "out",
}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def report(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return content


def make_checkpoint(path: Path, *overrides: str) -> Path:
    """What train.py saves, of a model whose normalisation knows the data and whose weights do not."""
    settings = read_training_settings(composed("backbone=mobilenetv3_small", *overrides))
    torch.manual_seed(settings.seed)
    source = open_dataset(**settings.dataset)
    task = build.build_task(settings, source)
    images = [sample["image"] for sample, _ in zip(source.train, range(4), strict=False)]
    with torch.no_grad():
        for _ in range(8):
            task.model(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))
    # Without a trainer there are no counts of an epoch to keep.
    torch.save({"epoch": 0, "state_dict": task.state_dict(), "segmentation": task._describe()}, path)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "shapes"
    done = run_script("train.py", *SMALL, f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def judged(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("results") / "one, with = and spaces"
    done = run_script(
        "evaluate.py",
        f"checkpoint={trained / 'checkpoints' / 'best.ckpt'}",
        f"output='{folder}'",
        *("save=[masks]", "objects=true", "batch_size=4", "precision=32-true", "workers=0"),
        fresh=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder, done


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("binary")
    root = make_binary(folder / "data")
    return make_checkpoint(
        folder / "binary.ckpt", "dataset=binary", f"dataset.root={root}", "data.size=[32,40]", "loss=bce"
    )


def test_the_folder_holds_what_the_readme_says(judged: tuple[Path, Any]) -> None:
    folder, done = judged
    assert sorted(path.name for path in folder.iterdir()) == sorted([*CONTENTS, "masks", "objects.csv"])
    assert str(folder / "report.html") in done.stdout
    for path in folder.glob("*.png"):
        with Image.open(path) as picture:
            assert min(picture.size) > 200


def test_the_numbers_are_those_of_the_training(trained: Path, judged: tuple[Path, Any]) -> None:
    own, training = report(judged[0]), report(trained)
    for name, value in own["metrics"].items():
        if name in training["metrics"]:
            assert value == training["metrics"][name], name
    assert {"test/miou", "test/fw_iou", "test/boundary_iou", "test/roc_auc", "test/image_miou_median"} <= set(
        own["metrics"]
    )
    assert own["protocol"]["split_sha256"] == training["protocol"]["split_sha256"]["test"]
    assert own["protocol"]["dataset"]["name"] == "shapes"
    assert len(own["protocol"]["checkpoint_sha256"]) == 16
    assert own["data"]["notes"] == []


def test_the_tables_agree_with_the_report(judged: tuple[Path, Any]) -> None:
    folder, _ = judged
    content = report(folder)
    images = rows(folder / "per_image.csv")
    scores = [float(row["miou"]) for row in images]
    assert scores == sorted(scores)
    assert sorted(row["name"] for row in images) == [f"{index:05d}" for index in range(4)]
    assert np.mean(scores) == pytest.approx(content["metrics"]["test/image_miou_mean"], abs=1e-5)

    with (folder / "confusion.csv").open(newline="") as file:
        counts = np.array([row[1:] for row in csv.reader(file)][1:], dtype=np.int64)
    assert counts.sum() == 4 * 48 * 48
    assert counts.trace() / counts.sum() == pytest.approx(content["metrics"]["test/pixel_accuracy"])

    for name, area in (("disc", "roc_auc"), ("cross", "roc_auc")):
        points = [row for row in rows(folder / "roc.csv") if row["class"] == name]
        x, y = (
            np.array([float(row[f"{kind}_positive_rate"]) for row in points]) for kind in ("false", "true")
        )
        assert np.trapezoid(y, x) == pytest.approx(content["per_class"][name][area], abs=1e-3)


def test_the_saved_masks_are_what_was_counted(trained: Path, judged: tuple[Path, Any]) -> None:
    folder, _ = judged
    source = open_dataset(**report(folder)["protocol"]["dataset"])
    right = 0
    for sample in source.test:
        with Image.open(folder / "masks" / f"{sample['name']}.png") as mask:
            assert mask.mode == "P"
            assert tuple(mask.getpalette()[3:6]) == source.classes.palette[1]
            right += int((np.array(mask) == sample["mask"]).sum())
    assert right / (4 * 48 * 48) == pytest.approx(report(folder)["metrics"]["test/pixel_accuracy"])


def test_binary_masks_are_0_and_255(binary: Path, tmp_path: Path) -> None:
    evaluate(
        read_evaluation({**OPTIONS, "checkpoint": str(binary), "save": ["masks"], "split": "val"}), tmp_path
    )
    for path in (masks := sorted((tmp_path / "masks").iterdir())):
        with Image.open(path) as mask:
            assert (mask.mode, mask.size) == ("L", (64, 48))
            assert set(np.unique(mask)) <= {0, 255}
    assert [path.stem for path in masks] == sorted(row["name"] for row in rows(tmp_path / "per_image.csv"))
    assert {"val/iou", "val/brier", "val/best_threshold_f1", "val/pr_auc"} <= set(report(tmp_path)["metrics"])


def judged_with(checkpoint: Path, **options: Any) -> tuple[EvaluationMetrics, list[ImageScores]]:
    settings = read_evaluation({**OPTIONS, "checkpoint": str(checkpoint), **options})
    predictor = Predictor(load(checkpoint), device="cpu", precision="32-true", tta=settings.tta)
    return evaluate_split(predictor, open_context(checkpoint, settings), settings, None)


def test_the_batch_size_changes_no_more_than_rounding(binary: Path) -> None:
    (one, images), (three, others) = (judged_with(binary, split="train", batch_size=size) for size in (1, 3))
    assert one.confusion.compute().count_nonzero() == 4
    # A processor rounds a batch of three in another order than three of one.
    assert one.scores() == pytest.approx(three.scores(), abs=1e-6)
    assert [image.scores for image in images] == [image.scores for image in others]
    assert [image.name for image in images] == [image.name for image in others]


def test_objects_are_the_same_for_any_batch_size_and_all_in_the_table(binary: Path, tmp_path: Path) -> None:
    for size in (1, 3):
        options = {"checkpoint": str(binary), "split": "train", "batch_size": size, "watershed": True}
        evaluate(
            read_evaluation({**OPTIONS, **options, "objects": True, "min_area": 2}), tmp_path / str(size)
        )
    one, three = tmp_path / "1", tmp_path / "3"
    assert (one / "objects.csv").read_bytes() == (three / "objects.csv").read_bytes()
    found = report(one)["objects"]
    assert found == report(three)["objects"]
    assert (found["protocol"]["min_area"], list(found["per_class"])) == (2, ["foreground"])
    total, objects, images = found["all_classes"], rows(one / "objects.csv"), rows(one / "per_image.csv")
    assert total["true_objects"] > 0 < total["predicted_objects"]
    for kind, name in (("match", "matches"), ("miss", "misses"), ("false_alarm", "false_alarms")):
        assert sum(row["kind"] == kind for row in objects) == total[name]
        for image in images:
            own = [row for row in objects if row["image"] == image["name"]]
            assert sum(row["kind"] == kind for row in own) == int(image[name])
    for name in ("true_area", "predicted_area"):
        assert (
            sum(int(row[name] or 0) for row in objects)
            == total[name]
            == sum(int(row[name]) for row in images)
        )
    assert report(one)["metrics"]["train/object_f1"] == total["f1"]
    assert "| foreground |" in (one / "report.md").read_text().partition("## Objects")[2]
    assert 'id="objects"' in (one / "report.html").read_text()


def test_flipped_views_are_averaged_and_said(binary: Path) -> None:
    plain, flipped = (judged_with(binary, tta=tta)[0].scores() for tta in ("none", "flip"))
    assert plain["brier"] != flipped["brier"]
    settings = read_evaluation({**OPTIONS, "checkpoint": str(binary), "tta": "flip"})
    assert "flip" in open_context(binary, settings).protocol["test_time_augmentation"]


def test_several_stand_side_by_side(trained: Path, judged: tuple[Path, Any], tmp_path: Path) -> None:
    paths = [trained / "checkpoints" / name for name in ("best.ckpt", "last.ckpt")]
    result = evaluate(read_evaluation({**OPTIONS, "checkpoint": [str(path) for path in paths]}), tmp_path)
    folders = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert folders == ["1_shapes_best", "2_shapes_last"]
    content = report(tmp_path)
    assert content["metrics"]["miou"]["1_shapes_best"] == result == report(judged[0])["metrics"]["test/miou"]
    for folder in folders:
        assert report(tmp_path / folder)["metrics"]["test/dice"] == content["metrics"]["dice"][folder]
        assert f"{folder}/report.html" in (tmp_path / "report.html").read_text()
    assert "| miou |" in (tmp_path / "report.md").read_text()


def test_the_model_is_compiled_where_that_is_wanted(
    binary: Path, tmp_path: Path, compiled: list[Any]
) -> None:
    for name, wanted in (("plain", False), ("out", True)):
        evaluate(read_evaluation({**OPTIONS, "checkpoint": str(binary), "compile": wanted}), tmp_path / name)
        assert len(compiled) == 2 * wanted  # the first try, and the whole model
    plain, found = (report(tmp_path / name)["metrics"] for name in ("plain", "out"))
    assert found == pytest.approx(plain, abs=1e-4, nan_ok=True)


def test_processes_count_what_one_does(trained: Path, judged: tuple[Path, Any], tmp_path: Path) -> None:
    # Two batches, three processes: one of them has nothing to do.
    paths = ",".join(str(trained / "checkpoints" / name) for name in ("best.ckpt", "last.ckpt"))
    done = run_script(
        *("evaluate.py", f"checkpoint=[{paths}]", f"output={tmp_path / 'out'}"),
        *("save=[masks]", "objects=true", "batch_size=4", "precision=32-true", "workers=0"),
        *("trainer=ddp", "trainer.devices=3"),
        environment={"FIGURES": "1"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("The report:") == 2  # the first process alone speaks
    assert done.stdout.count("Side by side:") == 1
    alone, together = judged[0], tmp_path / "out" / "1_shapes_best"
    for path in files(alone):
        if path.name in ("confusion.csv", "per_image.csv", "objects.csv") or path.parent.name == "masks":
            assert (together / path.relative_to(alone)).read_bytes() == path.read_bytes(), path
    expected, found = report(alone), report(together)
    assert found["environment"].pop("processes") == 3
    for part in ("protocol", "data", "model", "objects"):
        assert found[part] == expected[part]
    # The masks are the same to the pixel; a process of other threads may round a probability into the next of a
    # curve's bins, and each such pixel of these few thousand is worth 1e-5 of an area.
    assert found["per_class"].keys() == expected["per_class"].keys()
    rows = [(expected["metrics"], found["metrics"])]
    rows += [(row, found["per_class"][name]) for name, row in expected["per_class"].items()]
    for row, other in rows:
        assert row.keys() == other.keys()
        for name, value in row.items():
            limit = 1e-4 if name.endswith(BINNED) else 1e-6
            assert other[name] == (value if value is None else pytest.approx(value, abs=limit)), name
    assert {path.name for path in files(together)} == {path.name for path in files(alone)} - {"run.log"}


@pytest.mark.parametrize(
    "options", [{"threshold": 0.5}, {"threshold": "best"}, {"write_threshold": True, "split": "val"}]
)
def test_several_classes_have_no_threshold(options: dict[str, Any], trained: Path, tmp_path: Path) -> None:
    path = trained / "checkpoints" / "best.ckpt"
    with pytest.raises(UserError, match="several classes"):
        evaluate(read_evaluation({**OPTIONS, "checkpoint": str(path), **options}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_different_protocols_are_not_compared(trained: Path, tmp_path: Path) -> None:
    other = make_checkpoint(
        tmp_path / "other.ckpt", "dataset.seed=5", *(option for option in SMALL if "dataset" in option)
    )
    paths = [str(trained / "checkpoints" / "best.ckpt"), str(other)]
    with pytest.raises(UserError, match=r"cannot be compared.*dataset.*dataset=NAME"):
        evaluate(read_evaluation({**OPTIONS, "checkpoint": paths}), tmp_path / "out")
    assert not (tmp_path / "out" / "report.json").exists()
    same = {"name": "shapes", "root": None, "size": 48, "train": 10, "val": 3, "test": 2}
    settings = read_evaluation({**OPTIONS, "checkpoint": paths, "dataset": same})
    contexts = [open_context(Path(path), settings) for path in paths]
    refuse_different({context.name: context.protocol for context in contexts})
    assert any("not the one of the training" in note for note in contexts[0].notes)


@pytest.mark.parametrize("ensemble", ["mean", "weights"])
def test_several_checkpoints_are_evaluated_as_one(ensemble: str, trained: Path, tmp_path: Path) -> None:
    paths = [str(trained / "checkpoints" / f"{name}.ckpt") for name in ("best", "last")]
    folder = tmp_path / "out"
    evaluate(read_evaluation({**OPTIONS, "checkpoint": paths, "ensemble": ensemble}), folder)
    found, alone = report(folder), tmp_path / "alone"
    evaluate(read_evaluation({**OPTIONS, "checkpoint": paths[0]}), alone)
    # After one epoch both are the same.
    assert found["metrics"] == pytest.approx(report(alone)["metrics"], abs=1e-4, nan_ok=True)
    assert found["protocol"]["checkpoint"] == ", ".join(paths)
    assert len(found["model"].get("members", [])) == (2 if ensemble == "mean" else 0)
    assert any("were averaged" in note for note in found["data"]["notes"]) == (ensemble == "weights")
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in alone.iterdir())
    with pytest.raises(UserError, match=f"ensemble={ensemble} is for several"):
        read_evaluation({**OPTIONS, "checkpoint": paths[0], "ensemble": ensemble})


def evaluate_binary(checkpoint: Path, folder: Path, **options: Any) -> dict[str, Any]:
    """The report of an evaluation with these options."""
    evaluate(read_evaluation({**OPTIONS, "checkpoint": str(checkpoint), **options}), folder)
    return report(folder)


def test_threshold_option_decides_the_labels(binary: Path, tmp_path: Path) -> None:
    own, low, high = (
        evaluate_binary(binary, tmp_path / str(value), threshold=value, save=["masks"])
        for value in ("auto", 0.0, 1.0)
    )
    assert low["metrics"]["test/recall"] == 1
    assert high["metrics"]["test/recall"] == 0
    assert own["metrics"]["test/roc_auc"] == low["metrics"]["test/roc_auc"]
    assert [found["protocol"]["threshold"] for found in (own, low, high)] == [0.5, 0, 1]
    assert own["protocol"]["threshold_source"] == "the checkpoint's, as trained"
    assert low["protocol"]["threshold_source"] == "given as an option"
    assert any("threshold=0.0 was given" in note for note in low["data"]["notes"])
    assert not any("threshold" in note for note in own["data"]["notes"])
    for path in (tmp_path / "0.0" / "masks").iterdir():
        assert (np.array(Image.open(path)) == 255).all()


def test_best_threshold_is_written_into_the_checkpoint(binary: Path, tmp_path: Path) -> None:
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    path.parent.mkdir(parents=True)
    path.write_bytes(binary.read_bytes())
    found = evaluate_binary(path, tmp_path / "val", split="val", write_threshold=True)
    best = found["metrics"]["val/best_threshold_f1"]
    assert best != 0.5
    assert [file.name for file in path.parent.iterdir()] == ["best.ckpt"]

    before, after = (torch.load(file, weights_only=True) for file in (binary, path))
    assert after["segmentation"].pop("threshold") == best
    source = after["segmentation"].pop("threshold_source")
    del before["segmentation"]["threshold"]
    assert after["segmentation"] == before["segmentation"]
    assert after["state_dict"].keys() == before["state_dict"].keys()
    assert all(torch.equal(after["state_dict"][name], value) for name, value in before["state_dict"].items())
    assert {key: value for key, value in after.items() if key not in ("state_dict", "segmentation")} == {
        key: value for key, value in before.items() if key not in ("state_dict", "segmentation")
    }

    again = evaluate_binary(path, tmp_path / "again", split="val")
    assert again["metrics"]["val/f1"] == found["metrics"]["val/best_f1"] > found["metrics"]["val/f1"]
    assert any("chosen on a val split" in note for note in again["data"]["notes"])
    written, typed = (
        evaluate_binary(checkpoint, tmp_path / name, threshold=threshold)
        for name, checkpoint, threshold in (("written", path, "best"), ("typed", binary, best))
    )
    assert written["metrics"] == typed["metrics"]
    assert written["protocol"]["threshold_source"] == source
    assert source.startswith("the checkpoint's, best F1 and IoU on the val split")


@pytest.mark.parametrize("kind", ["binary", "trained"])
def test_a_temperature_is_fitted_and_kept(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    given: Path = request.getfixturevalue(kind)
    source = given if given.is_file() else given / "checkpoints" / "best.ckpt"
    path = tmp_path / "model.ckpt"
    path.write_bytes(source.read_bytes())
    plain = evaluate_binary(path, tmp_path / "plain", split="val")
    fitted = evaluate_binary(path, tmp_path / "fitted", split="val", calibrate=True)
    temperature = fitted["protocol"]["temperature"]
    assert segmentation.load(path).trained.decision.temperature == temperature != 1
    assert fitted["metrics"]["val/miou"] == plain["metrics"]["val/miou"]
    assert fitted["metrics"]["val/brier_before"] == pytest.approx(plain["metrics"]["val/brier"], abs=1e-6)
    test = evaluate_binary(path, tmp_path / "test")
    assert test["protocol"]["temperature"] == temperature
    assert test["metrics"]["test/brier"] != test["metrics"]["test/brier_before"]
    header = (tmp_path / "test" / "reliability.csv").read_text().partition("\n")[0]
    assert header.endswith("pixels,confidence_before,accuracy_before,pixels_before")
    evaluate(read_evaluation({**OPTIONS, "checkpoint": [str(path), str(source)]}), tmp_path / "both")
    assert list(report(tmp_path / "both")["metrics"]["brier_before"].values())[1] is None
    assert f"temperature {temperature:.3g}" in (tmp_path / "test" / "report.html").read_text()
    assert fitted["protocol"]["checkpoint_sha256"] == file_hash(path)  # it was written into it
    again = evaluate_binary(path, tmp_path / "again", split="val", calibrate=True)  # from the logits
    assert again["protocol"]["temperature"] == pytest.approx(temperature, rel=1e-3)


def test_best_threshold_comes_from_the_report_of_the_validation(
    binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    evaluate_binary(binary, Path("outputs/evaluations/test"))  # the split that must not choose
    with pytest.raises(UserError, match=r"no evaluation of .*split=val write_threshold=true"):
        evaluate_binary(binary, tmp_path / "none", threshold="best")
    best = evaluate_binary(binary, Path("outputs/evaluations/val"), split="val")["metrics"]
    found = evaluate_binary(binary, tmp_path / "best", threshold="best")
    assert found["protocol"]["threshold"] == best["val/best_threshold_f1"]
    assert "report.json" in found["protocol"]["threshold_source"]
    assert (
        segmentation.load(binary, threshold="best").trained.decision.threshold
        == best["val/best_threshold_f1"]
    )
    other = tmp_path / "other.ckpt"
    torch.save({**torch.load(binary, weights_only=True), "epoch": 1}, other)
    with pytest.raises(UserError, match="no evaluation of"):
        segmentation.load(other, threshold="best")


Change = Callable[[Path, Path], dict[str, Any]]

REFUSED: list[tuple[str, Change, str]] = [
    ("no file", lambda binary, _: {"checkpoint": "nowhere.ckpt"}, r"nowhere\.ckpt.*best\.ckpt"),
    ("twice", lambda binary, _: {"checkpoint": [str(binary)] * 2}, "twice"),
    ("no checkpoint", lambda binary, _: {"checkpoint": str(CONF / "train.yaml")}, "train.yaml"),
    ("split", lambda binary, _: {"split": "tests"}, "split=tests"),
    ("batch size", lambda binary, _: {"batch_size": 0}, "batch_size=0"),
    ("save", lambda binary, _: {"save": ["overlay"]}, "save"),
    ("tta", lambda binary, _: {"tta": "flop"}, "tta=flop.*flip"),
    ("precision", lambda binary, _: {"precision": "fp8"}, "precision=fp8"),
    ("kind of data", lambda binary, _: {"dataset": {"name": "shapes", "root": None}}, "binary.*several"),
    (
        "classes",
        lambda binary, _: {"dataset": {"name": "shapes", "binary": True, "root": None}},
        "lack foreground.*disc",
    ),
    (
        "moved data",
        lambda binary, _: {"dataset": {"root": "/nowhere"}},
        "/nowhere.*trained on.*dataset.root=PATH",
    ),
    ("no root", lambda binary, _: {"dataset": {"name": "voc", "root": None}}, "dataset.root is missing"),
    ("threshold", lambda binary, _: {"threshold": 1.5}, "threshold=1.5.*0 to 1"),
    ("threshold's word", lambda binary, _: {"threshold": "beste"}, "threshold=beste.*best"),
    ("threshold of test", lambda binary, _: {"write_threshold": True}, "split=val.*test split"),
    (
        "threshold of train",
        lambda binary, _: {"write_threshold": True, "split": "train"},
        "split=val.*train split",
    ),
    ("temperature of test", lambda binary, _: {"calibrate": True}, "calibrate=true.*split=val"),
    (
        "temperature of views",
        lambda binary, _: {"calibrate": True, "split": "val", "tta": "flip"},
        "calibrate=true.*tta=none",
    ),
    (
        "temperature of another threshold",
        lambda binary, _: {"calibrate": True, "split": "val", "threshold": 0.3},
        "calibrate=true needs threshold=auto",
    ),
    ("objects alone", lambda binary, _: {"min_area": 3}, "objects=true"),
    ("least area", lambda binary, _: {"objects": True, "min_area": -1}, "min_area=-1"),
    ("unknown option", lambda binary, _: {"tile": 3}, "no option 'tile'.*tta"),
]


@pytest.mark.parametrize(
    ("change", "words"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_what_is_wrong_is_said(change: Change, words: str, binary: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"(?s){words}") as caught:
        evaluate(
            read_evaluation({**OPTIONS, "checkpoint": str(binary), **change(binary, tmp_path)}), tmp_path
        )
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("left", ["report.json", "report.md", "confusion.csv", "pr.png", "masks"])
def test_results_of_one_among_several_are_kept(left: str, binary: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.ckpt"
    other.write_bytes(binary.read_bytes())
    earlier = tmp_path / "out" / subfolder_name(2, f"{tmp_path.name}/other") / left
    earlier.parent.mkdir(parents=True)
    earlier.write_text("earlier")
    settings = read_evaluation({**OPTIONS, "checkpoint": [str(binary), str(other)]})
    with pytest.raises(UserError, match=rf"2_.*already holds {left}"):
        evaluate(settings, tmp_path / "out")
    assert files(tmp_path / "out") == [earlier]
    assert earlier.read_text() == "earlier"


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_one_root_is_the_same_however_it_is_typed(
    binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = binary.parent / "data"
    monkeypatch.chdir(root.parent)
    (tmp_path / "link").symlink_to(root)
    protocols = {}
    for typed in ("data", "./data/../data", str(root), str(tmp_path / "link")):
        settings = read_evaluation(
            {**OPTIONS, "checkpoint": str(binary), "dataset": {"name": "binary", "root": typed}}
        )
        protocols[typed] = open_context(binary, settings).protocol
    refuse_different(protocols)
    assert {protocol["dataset"]["root"] for protocol in protocols.values()} == {str(root.resolve())}


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize(
    ("own", "words"),
    [
        (
            {"name": "geotiff", "images": "https://127.0.0.1:9/a.tif", "labels": "a.gpkg"},
            "no address is opened",
        ),
        ({"name": "voc", "root": "nowhere", "download": True}, "nowhere"),
    ],
)
def test_a_checkpoint_of_mixed_data_uses_no_network(
    own: dict[str, Any], words: str, labelled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchvision.datasets.VOCSegmentation", lambda *_, **__: pytest.fail("downloads"))
    sets = [{"name": "shapes", "train": 2, "val": 1, "test": 1}, own]
    data = {
        "name": "mix",
        "sets": {str(number): each for number, each in enumerate(sets)} if labelled else sets,
    }
    checkpoint = write_checkpoint(tmp_path / "best.ckpt", dataset=data)
    with pytest.raises(UserError, match=words):
        open_context(checkpoint, read_evaluation({**OPTIONS, "checkpoint": str(checkpoint)}))


def test_results_are_not_written_over_others(binary: Path, trained: Path) -> None:
    with pytest.raises(UserError, match=r"already holds report\.json"):
        evaluate(read_evaluation({**OPTIONS, "checkpoint": str(binary)}), trained)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("data.size=[32,32]", "data.size belongs to training"),
        ("output_stride=8", "output_stride belongs to training"),
        ("backbone=resnet18", "backbone belongs to training"),
        ("++trainer.max_epochs=3", "trainer.max_epochs belongs to training"),
        ("trainer=debug", "trainer=debug belongs to training. Choose from: ddp"),
        ("trainer.accelerator=cpu", "Did you mean 'accelerator'"),
        ("data.batch_size=2", "Did you mean 'batch_size'"),
        ("resume=somewhere", "resume belongs to training"),
    ],
)
def test_options_of_training_are_refused(argument: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        refuse_training_options(["dataset=voc", argument], CONF, "evaluate")
    refuse_training_options([argument], CONF, "train")
    refuse_training_options(["trainer=ddp", "trainer.devices=2"], CONF, "evaluate")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["checkpoint={}/my run (1)/a=b, [c].ckpt", "dataset=binary", "dataset.root=my data (1)"],
            "There is no checkpoint {}/my run (1)/a=b, [c].ckpt",
        ),
        (["checkpoint=[{}/one.ckpt,{}/two.ckpt]"], "There is no checkpoint {}/one.ckpt"),
        (["dataset=camvid", "data.size=[9,9]", "checkpoint=no.ckpt"], "data.size belongs to training"),
        # The file of this data set brings values that only training can resolve.
        (["dataset=camvid", "dataset.root=x", "checkpoint=no.ckpt"], "There is no checkpoint no.ckpt"),
    ],
)
def test_a_mistake_ends_in_one_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = [argument.replace("{}", str(tmp_path)) for argument in arguments]
    _, err, status = said(capsys, "evaluate", *typed, f"output={tmp_path / 'out'}")
    assert (status, len(err.splitlines())) == (2, 1), err
    assert err.startswith(f"error: {words.replace('{}', str(tmp_path))}")
