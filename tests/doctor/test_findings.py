"""A planted fault of each kind is found, with its file and a cure; clean data give no finding."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import made_annotations
import made_data
import numpy as np
import pytest
from conftest import ROOT, composed
from made_data import save
from made_faults import COUNT, PLANTED, SIDE, Options, Planted, clean, clean_binary, texture
from malformed import MALFORMED, Malformed
from PIL import Image

from segmentation.cli import compose
from segmentation.config import read_inspection_settings
from segmentation.data import create_dataset, open_dataset
from segmentation.data.dataset import FileDataset
from segmentation.data.findings import KINDS
from segmentation.doctor import examine
from segmentation.doctor.page import render
from segmentation.doctor.report import Inspection, as_json, as_text
from segmentation.errors import UserError


@cache
def configs() -> tuple[dict[str, Any], dict[str, Any]]:
    return compose("inspect", "output=unused"), composed()


def inspected(dataset: Options, **options: Any) -> Inspection:
    inspection, training = configs()
    data = {**inspection["data"], **options.pop("data", {})}
    config = {**inspection, "dataset": dataset, "data": data, "workers": 1, **options}
    return examine(read_inspection_settings(config, KINDS), training)


def test_every_kind_is_planted() -> None:
    assert {each.id for each in PLANTED} == set(KINDS)


def test_the_document_lists_every_kind() -> None:
    text = (ROOT / "docs" / "doctor.md").read_text()
    for each, (severity, meaning) in KINDS.items():
        assert f"| `{each}` | {severity} | {meaning} |" in text


@pytest.mark.parametrize("build", [clean, clean_binary])
def test_clean_data_have_no_findings(build: Callable[[Path], Options], tmp_path: Path) -> None:
    inspection = inspected(build(tmp_path))
    assert [finding.message for finding in inspection.findings] == []
    assert inspection.status == 0
    assert sum(len(scan.samples) for scan in inspection.scans) == COUNT


def test_a_fault_is_said_once_where_the_layout_is_recognised(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / f"{number}.jpg", texture(number))
        save(tmp_path / f"{number}_mask.png", texture(number)[..., 0] // 200)
    save(tmp_path / "4.jpg", texture(4))
    inspection = inspected({"name": "auto", "root": str(tmp_path)})
    assert [finding.id for finding in inspection.findings].count("missing-partner") == 1


def test_the_text_names_an_image_of_each_split(tmp_path: Path) -> None:
    options = clean(tmp_path)
    for path in (tmp_path / "images").iterdir():
        save(path, texture(0))
    found = {finding.id: finding for finding in inspected(options).findings}
    assert all(f"({split})" in found["duplicate-across-splits"].text for split in ("train", "val", "test"))
    assert {split for split, _ in found["duplicate-across-splits"].samples[:2]} == {"train", "val"}


def test_two_classes_of_which_one_is_nowhere(tmp_path: Path) -> None:
    options = clean_binary(tmp_path)
    for path in (tmp_path / "masks").iterdir():
        save(path, np.full((SIDE, SIDE), 255, np.uint8))
    cures = [finding.cure for finding in inspected(options).findings if finding.id == "absent-class"]
    assert cures and all("correct the masks" in cure[0] for cure in cures)


def test_a_class_that_is_nowhere_is_not_to_be_divided(tmp_path: Path) -> None:
    options = {**clean(tmp_path), "names": ["background", "thing", "ghost"]}
    cures = [finding.cure[0] for finding in inspected(options).findings if finding.id == "absent-class"]
    assert cures == ["leave the class out of dataset.names"] * 3
    for path in sorted((tmp_path / "masks").iterdir())[:1]:
        save(path, np.full((SIDE, SIDE), 2, np.uint8))
    cures = [finding.cure[0] for finding in inspected(options).findings if finding.id == "absent-class"]
    assert cures and all(cure.startswith("dataset.stratify=classes") for cure in cures)


def test_one_kind_of_fault_in_many_files_is_one_finding(tmp_path: Path) -> None:
    options = clean_binary(tmp_path)
    for path in (tmp_path / "masks").iterdir():
        save(path, np.full((SIDE, SIDE), 60000, np.uint16))
    (finding,) = inspected(options).findings
    assert (finding.id, len(finding.files)) == ("mask-values", COUNT)
    assert f"60000: save the mask with 8 bits. {COUNT - 1} more files alike" in finding.text


def test_a_mask_of_many_values_is_not_to_be_ignored_value_by_value(tmp_path: Path) -> None:
    options = clean(tmp_path)
    save(tmp_path / "masks/p00.png", np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE))
    (finding,) = inspected(options).findings
    assert finding.id == "label-range" and "so many values" in finding.cure[0]


def test_labels_from_one_on_may_be_one_class_too_many(tmp_path: Path) -> None:
    """Of masks that cannot be read it is not known whether they hold 0."""
    options = clean(tmp_path)
    names = options["names"]
    for path in (tmp_path / "masks").iterdir():
        save(path, np.kron(np.eye(2, dtype=np.uint8) * len(names), np.ones((SIDE // 2, SIDE // 2), np.uint8)))
    (finding,) = inspected(options).findings
    assert finding.id == "label-range" and "dataset.labels={1: " in finding.cure[0]
    assert "one more name" in finding.cure[1]


def test_mixed_data_are_read_as_one(tmp_path: Path) -> None:
    sets = {"one": clean(tmp_path / "one"), "other": clean(tmp_path / "other", first=COUNT)}
    assert [finding.message for finding in inspected({"name": "mix", "sets": sets}).findings] == []
    sets["other"] = {**sets["one"], "seed": 5}
    found = {finding.id for finding in inspected({"name": "mix", "sets": sets}).findings}
    assert "duplicate-across-splits" in found


@pytest.mark.parametrize("planted", PLANTED, ids=lambda each: each.id)
def test_a_planted_fault_is_found_and_no_other(planted: Planted, tmp_path: Path) -> None:
    options, file = planted.plant(tmp_path)
    inspection = inspected(options, data=planted.data)
    found = {finding.id: finding for finding in inspection.findings}
    assert set(found) == {planted.id} | planted.beside
    finding = found[planted.id]
    assert finding.cure
    assert any(file in each for each in (*finding.files, finding.text))
    assert inspection.status == (2 if finding.severity == "error" or planted.beside & _ERRORS else 0)
    assert inspected(options, data=planted.data, skip=[planted.id, *planted.beside]).status == 0
    assert finding.id in as_text(inspection)
    assert as_json(inspection)["findings"]


LAYOUTS: dict[str, Callable[[Path], Options | None]] = {
    **made_data.MAKERS,
    **{maker.__name__: maker for maker in (*made_annotations.MAKERS, made_annotations.regions)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_clean_data_of_every_layout_have_no_fault(layout: str, tmp_path: Path) -> None:
    name = "csv" if layout == "csv" else "auto"
    options = LAYOUTS[layout](tmp_path) or {"name": name, "root": str(tmp_path)}
    for number, path in enumerate(_images(options)):
        with Image.open(path) as picture:
            size = picture.size
        save(path, cv2.resize(texture(number), size, interpolation=cv2.INTER_AREA), quality=95)
    inspection = inspected(options)
    # Public data sets have more classes than these few masks show, and their objects are of 8 pixels.
    found = {finding.id for finding in inspection.findings if finding.severity != "note"} - {"absent-class"}
    assert found == set(), as_text(inspection)
    assert inspection.status == 0


@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: case.id)
def test_what_a_training_refuses_is_an_error_here_too(
    case: Malformed, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = dict(case.make(tmp_path))
    try:
        open_dataset(**options)
        return  # floating-point images, which data.pixel_range=auto scales
    except UserError as error:
        if error.kind == "option":
            return
    inspection = inspected(options)
    assert inspection.status == 2, as_text(inspection)
    said = " ".join(finding.text for finding in inspection.findings if finding.severity == "error")
    assert any(word in said for word in case.words), said
    assert capfd.readouterr() == ("", ""), "a library spoke as well"
    render(inspection)


def _images(options: Options) -> list[Path]:
    splits = create_dataset(**options).splits().values()
    files = [samples for samples in splits if isinstance(samples, FileDataset)]
    return list(dict.fromkeys(each.images.path(index) for each in files for index in range(len(each))))


_ERRORS = {name for name, (severity, _) in KINDS.items() if severity == "error"}
