"""Several checkpoints side by side, where their numbers were taken in one way."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segmentation.errors import UserError
from segmentation.report.evaluation import Evaluation
from segmentation.report.page import render_comparison
from segmentation.report.text import cell, facts, grid, number, unprefixed, write_json, write_text

OWN = frozenset({"input", "threshold", "checkpoint", "checkpoint_sha256"})
"""Entries of a protocol that are part of a model rather than of how it is judged."""


def refuse_different(protocols: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises `UserError` where checkpoints, by their paths, are judged by other rules or on other images."""
    first, *others = protocols
    for other in others:
        for key in {**protocols[first], **protocols[other]}:
            one, two = protocols[first].get(key), protocols[other].get(key)
            if key not in OWN and one != two:
                raise UserError(
                    f"{first} and {other} cannot be compared: their {key} differ ({one} and {two}). "
                    "Judge them apart, or give dataset=NAME dataset.root=PATH for all."
                )


def write_comparison(folder: Path, evaluations: Mapping[str, Evaluation]) -> None:
    """`report.json`, `report.md` and `report.html` over evaluations by the names of their folders."""
    first = next(iter(evaluations.values()))
    table = scores_by_name(evaluations)
    classes = {
        name: {
            folder: evaluation.report["per_class"][name]["iou"] for folder, evaluation in evaluations.items()
        }
        for name in first.classes.names
    }
    shared = {key: value for key, value in first.report["protocol"].items() if key not in OWN}
    checkpoints = {
        name: {key: value for key, value in evaluation.report["protocol"].items() if key in OWN}
        for name, evaluation in evaluations.items()
    }
    content = {"metrics": table, "per_class_iou": classes, "protocol": shared, "checkpoints": checkpoints}
    write_json(folder / "report.json", content)
    write_text(folder / "report.md", _markdown(content, list(evaluations)))
    write_text(folder / "report.html", render_comparison(evaluations, content))


def scores_by_name(evaluations: Mapping[str, Evaluation]) -> dict[str, dict[str, float]]:
    """Metric -> folder -> value."""
    columns = {
        name: unprefixed(evaluation.report["metrics"], evaluation.split)
        for name, evaluation in evaluations.items()
    }
    return {
        metric: {name: column[metric] for name, column in columns.items()}
        for metric in next(iter(columns.values()))
    }


def _markdown(content: Mapping[str, Any], names: list[str]) -> str:
    def rows(table: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
        return [[cell(key), *(number(values[name]) for name in names)] for key, values in table.items()]

    heads = [cell(name) for name in names]
    lines = ["# Side by side", "", *grid(["metric", *heads], rows(content["metrics"]))]
    lines += ["", "## IoU by class", "", *grid(["class", *heads], rows(content["per_class_iou"]))]
    lines += ["", "## Protocol", "", *facts(content["protocol"])]
    for name, own in content["checkpoints"].items():
        lines += ["", f"## {cell(name)}", "", *facts(own)]
    return "\n".join(lines) + "\n"
