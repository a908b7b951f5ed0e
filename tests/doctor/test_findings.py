"""A planted fault of each kind is found, with its file and a cure; clean data give no finding."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, composed
from made_data import MAKERS
from made_faults import COUNT, PLANTED, Options, Planted, clean, clean_binary

from segmentation.cli import compose
from segmentation.config import read_inspection_settings
from segmentation.data.findings import KINDS
from segmentation.doctor import examine
from segmentation.doctor.report import Inspection, as_json, as_text


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
    text = (ROOT / "docs" / "data.md").read_text()
    for each, (severity, meaning) in KINDS.items():
        assert f"| `{each}` | {severity} | {meaning} |" in text


@pytest.mark.parametrize("build", [clean, clean_binary])
def test_clean_data_have_no_findings(build: Callable[[Path], Options], tmp_path: Path) -> None:
    inspection = inspected(build(tmp_path))
    assert [finding.message for finding in inspection.findings] == []
    assert inspection.status == 0
    assert sum(len(scan.samples) for scan in inspection.scans) == COUNT


@pytest.mark.parametrize("planted", PLANTED, ids=lambda each: each.id)
def test_a_planted_fault_is_found_and_no_other(planted: Planted, tmp_path: Path) -> None:
    options, file = planted.plant(tmp_path)
    inspection = inspected(options, data=planted.data)
    found = {finding.id: finding for finding in inspection.findings}
    assert set(found) == {planted.id} | planted.beside
    finding = found[planted.id]
    assert any(file in each for each in (*finding.files, finding.text))
    assert inspection.status == (2 if finding.severity == "error" or planted.beside & _ERRORS else 0)
    assert inspected(options, data=planted.data, skip=[planted.id, *planted.beside]).status == 0
    assert finding.id in as_text(inspection)
    assert as_json(inspection)["findings"]


@pytest.mark.parametrize("layout", MAKERS)
def test_clean_data_of_every_layout_have_no_fault(layout: str, tmp_path: Path) -> None:
    MAKERS[layout](tmp_path)
    inspection = inspected({"name": "csv" if layout == "csv" else "auto", "root": str(tmp_path)})
    # Public data sets have more classes than these few masks show, and their objects are of 8 pixels.
    found = {finding.id for finding in inspection.findings if finding.severity != "note"} - {"absent-class"}
    assert found == set(), as_text(inspection)
    assert inspection.status == 0


_ERRORS = {name for name, (severity, _) in KINDS.items() if severity == "error"}
