"""The files of an evaluation, also with unusual names of images and classes."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from made_evaluation import Noise, make_evaluation
from PIL import Image

from segmentation.errors import UserError
from segmentation.metrics import ObjectMetrics, ObjectRules
from segmentation.report.evaluation import ImageScores
from segmentation.report.html import write_comparison, write_evaluation
from segmentation.report.objects import ObjectTable, object_cards
from segmentation.report.protocol import refuse_different
from segmentation.report.report import best, cell, markdown, table
from segmentation.types import Area, Classes, Sample

CLASSES = Classes(("sky", "a|b, c <i>", "$x^", "天空"))
NAMES = ("plain", "with, comma", "odd\udcff byte", '"quoted"')


def test_odd_names_survive_in_every_file(tmp_path: Path) -> None:
    evaluation, read_image = make_evaluation(tmp_path, NAMES, CLASSES, objects=ObjectRules())
    page = write_evaluation(tmp_path, evaluation, read_image)
    assert "a|b, c &lt;i&gt;" in page.read_text()
    with (tmp_path / "per_image.csv").open(newline="", errors="surrogateescape") as file:
        assert sorted(row["name"] for row in csv.DictReader(file)) == sorted(NAMES)
    with (tmp_path / "confusion.csv").open(newline="") as file:
        assert tuple(next(csv.reader(file))[1:]) == CLASSES.names
    assert set(json.loads((tmp_path / "report.json").read_text())["per_class"]) == set(CLASSES.names)
    table = [line for line in (tmp_path / "report.md").read_text().splitlines() if line.startswith("| a")]
    assert len(table) == 3  # pixels, objects, and the objects of all classes
    assert table[0].startswith("| a\\|b, c &lt;i> | ")
    for path in tmp_path.glob("*.png"):
        with Image.open(path) as picture:
            picture.verify()


@pytest.mark.parametrize("classes", [CLASSES, Classes(("background", "crack"), binary=True)])
def test_a_split_without_a_valid_pixel_has_no_scores(
    classes: Classes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Noise.__getitem__

    def ignored(self: Noise, index: int) -> Sample:
        sample = read(self, index)
        return {**sample, "mask": np.full_like(sample["mask"], 255)}

    monkeypatch.setattr(Noise, "__getitem__", ignored)
    evaluation, read_image = make_evaluation(tmp_path, ["a", "b"], classes, objects=ObjectRules())
    page = write_evaluation(tmp_path, evaluation, read_image)
    assert object_cards(evaluation, read_image) == []
    assert json.loads((tmp_path / "report.json").read_text())["objects"]["all_classes"]["f1"] is None
    assert {f"{name}.png" for name in ("roc", "pr", "reliability")} <= {
        path.name for path in tmp_path.iterdir()
    }
    assert ">nan<" not in page.read_text().lower()


def test_the_table_of_objects_joins_the_parts_of_processes(tmp_path: Path) -> None:
    samples = Noise(NAMES, len(CLASSES))
    for folder, processes in ((tmp_path / "one", 1), (tmp_path / "three", 3)):
        folder.mkdir()
        counts = [ObjectMetrics(CLASSES, ObjectRules()) for _ in range(processes)]
        tables = [ObjectTable(folder, process, own) for process, own in enumerate(counts)]
        for process, part in enumerate(tables):
            with part:
                for index in range(process, len(NAMES), processes):
                    part.add(
                        index, NAMES[index], samples[index]["mask"], samples[(index + 1) % len(NAMES)]["mask"]
                    )
        assert tables[-1].join([], [])[0].found.sum() == 0  # no process but the first
        found = tables[0].join([table.part for table in tables], [])[0].found
        assert [path.name for path in folder.iterdir()] == ["objects.csv"]
    content = (tmp_path / "one" / "objects.csv").read_bytes()
    assert content == (tmp_path / "three" / "objects.csv").read_bytes()
    with (tmp_path / "one" / "objects.csv").open(newline="", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    assert list(dict.fromkeys(row["image"] for row in rows)) == list(NAMES)
    assert len(rows) == found[:, 0].sum()
    with pytest.raises(ZeroDivisionError), ObjectTable(tmp_path, 0, counts[0]):
        _ = 1 / 0
    assert not list(tmp_path.glob("objects.csv*"))


@pytest.mark.parametrize("processes", [1, 2])
def test_an_object_across_images_of_a_scene_is_one_row_of_the_image_with_most_of_it(
    processes: int, tmp_path: Path
) -> None:
    roofs = Classes(("background", "roof"), binary=True)
    truth = np.zeros((40, 60), np.uint8)
    truth[10:20, 25:40] = 1
    areas = [Area(7, 0, 0, 40, 30), None, Area(7, 0, 30, 40, 60), Area(8, 0, 0, 40, 60)]
    shown = [truth[:, :30], truth, truth[:, 30:], truth]
    tables = [
        ObjectTable(tmp_path, process, ObjectMetrics(roofs, ObjectRules()), areas)
        for process in range(processes)
    ]
    images = []
    for process, part in enumerate(tables):
        with part:
            for index in range(process, len(areas), processes):
                counts = part.add(index, f"i{index}", shown[index], shown[index])
                images.append(ImageScores(f"i{index}", index, {}, np.zeros(2), counts))
    found, images = tables[0].join([each.part for each in tables], images)
    assert found.found[1, 0].tolist() == [3, 0, 0]
    assert {image.name: image.objects["matches"] for image in images} == {"i0": 0, "i1": 1, "i2": 1, "i3": 1}
    with (tmp_path / "objects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["i1", "i2", "i3"]
    assert [(row["left"], row["top"], row["width"], row["x"]) for row in rows[:2]] == [
        ("25", "10", "15", "32.00"),
        ("-5", "10", "15", "2.00"),
    ]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a|b", "a\\|b"),
        ("<b>", "&lt;b>"),
        ("a\nb", "a b"),
        ("a\\|", "a\\\\\\|"),
        ("![](http://a.b/c.png)", "!\\[](http://a.b/c.png)"),
    ],
)
def test_names_do_not_break_markdown(name: str, shown: str) -> None:
    assert cell(name) == shown


def test_a_training_report_keeps_its_columns() -> None:
    row = {"iou": 0.5, "dice": 0.6, "precision": 0.7, "recall": float("nan"), "pixels": 12.0}
    metrics = {"train/miou": 0.9, "val/miou": 0.4, "test/miou": 0.5, "test/loss": 1.25, "val/loss": 1.5}
    metrics["test/classes_counted"] = 21.0
    sections = {
        "protocol": {"threshold": None, "ignore_index": 255},
        "model": {},
        "data": {},
        "environment": {},
    }
    report = {"metrics": metrics, "per_class": {"sky": row}, **sections}
    page = markdown(report)
    assert "| metric | val | test |" in page
    assert "| miou | 0.4000 | 0.5000 |" in page
    assert "| loss | 1.5000 | 1.2500 |" in page
    assert "| sky | 0.5000 | 0.7000 | - | 12 |" in page
    assert "- ignore_index: 255" in page
    assert "threshold" not in page
    assert "| classes_counted | - | 21 |" in markdown(report, complete=True)


def test_markdown_shows_the_pictures_that_there_are(tmp_path: Path) -> None:
    evaluation, read_image = make_evaluation(tmp_path, ["a", "b"], CLASSES)
    (tmp_path / "predictions.png").touch()
    write_evaluation(tmp_path, evaluation, read_image)
    text = (tmp_path / "report.md").read_text()
    shown = ("predictions", "confusion", "roc", "pr", "reliability")
    assert [line for line in text.splitlines() if line.startswith("![")] == [
        f"![{x}]({x}.png)" for x in shown
    ]


@pytest.mark.parametrize("constant", [False, True])
def test_a_model_that_predicts_one_class_is_named_beside_the_trivial_baseline(
    constant: bool, tmp_path: Path
) -> None:
    evaluation, read_image = make_evaluation(
        tmp_path, ["a", "b"], Classes(("background", "crack"), binary=True)
    )
    report = evaluation.report
    report["baseline"].update(
        metrics={"iou": 0.775, "miou": 0.3875, "dice": 0.8732},
        model_predicts_only="crack" if constant else None,
    )
    (tmp_path / "both").mkdir()
    write_comparison(tmp_path / "both", {"1_a": evaluation, "2_b": evaluation})
    told = [
        write_evaluation(tmp_path, evaluation, read_image).read_text(),
        (tmp_path / "report.md").read_text(),
        table(report, splits=("test",)),
        *((tmp_path / "both" / f"report.{ending}").read_text() for ending in ("md", "html")),
    ]
    for text in told:
        assert "Trivial baseline, crack everywhere: IoU 0.7750, mIoU 0.3875, Dice 0.8732." in text
        assert ("predicts only crack" in text) == constant
    headlines = told[0].partition('class="tiles"')[2].partition("</section>")[0]
    assert headlines.index(">IoU<") < headlines.index(">mIoU<")


@pytest.mark.parametrize(
    ("metric", "values", "winners"),
    [
        ("miou", {"a": 0.1, "b": 0.2}, {"b"}),
        ("brier", {"a": 0.1, "b": 0.2}, {"a"}),
        ("miou", {"a": 0.2, "b": 0.2}, set()),
        ("iou", {"a": float("nan"), "b": 0.2, "c": 0.1}, {"b"}),
        ("best_threshold_f1", {"a": 0.1, "b": 0.2}, set()),
    ],
)
def test_the_best_of_a_row(metric: str, values: dict[str, float], winners: set[str]) -> None:
    assert best(metric, values) == winners


@pytest.mark.parametrize("key", ["split_sha256", "test_time_augmentation", "dataset", "classes", "scored_at"])
def test_the_entry_that_differs_is_named(key: str) -> None:
    one = {
        "scored_at": "x",
        "split_sha256": "x",
        "test_time_augmentation": "none",
        "dataset": {},
        "classes": ["a"],
    }
    own = {"input": "resized to 2x2", "threshold": 0.4, "checkpoint": "b", "checkpoint_sha256": "y"}
    refuse_different({"a.ckpt": one, "b.ckpt": {**one, **own}})
    with pytest.raises(UserError, match=rf"a\.ckpt and b\.ckpt cannot be compared: their {key}"):
        refuse_different({"a.ckpt": one, "b.ckpt": {**one, key: "other"}})
