"""A model as a folder for the hub: its weights, its description, and a card with scores, data and licence."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from segmentation import checkpoint, hub
from segmentation.checkpoint import Trained
from segmentation.errors import UserError, one_line
from segmentation.reading import read_json
from segmentation.report.report import CONSOLE_METRICS, cell, facts, grid, number

_NO_PATHS = {"group", "names"}  # a pattern or a class may begin as a path does
_ABSOLUTE = re.compile(r"[\\/~]|[A-Za-z]:[\\/]|\w+://")
_SCORES = ("miou", "iou", "dice", "pixel_accuracy")


def write_hub_folder(folder: Path, source: Path, trained: Trained, *, name: str, licence: str | None) -> None:
    """Writes the checkpoint `source`, loaded as `trained`, as `hub.write_folder` does; without the optimizer's state.

    The card has the scores of the run's test if `source` is the best checkpoint of a finished run, and says so if not.
    Of where the training's data and first weights lay only the last part is told.
    """
    contents = checkpoint.read(source)
    about = dict(contents["segmentation"])
    about["dataset"] = _shortened(about["dataset"])
    weights = about.get("training", {}).get("weights")
    if isinstance(weights, str) and not hub.is_named(weights):
        about["training"] = {**about["training"], "weights": _last_part(weights)}
    if "epoch" in contents:
        about["epoch"] = int(contents["epoch"])
    report = _report(source, contents)
    hub.write_folder(
        folder, checkpoint.model_weights(contents), about, model_card(name, trained, about, report, licence)
    )


def model_card(
    name: str,
    trained: Trained,
    about: Mapping[str, Any],
    report: Mapping[str, Any] | None,
    licence: str | None,
) -> str:
    """Markdown, with the head that the hub reads: licence, task, and the scores of `report`, if there is one."""
    parts = [str(about["model"][part].get("name", "")) for part in ("head", "backbone")]
    data = str(trained.dataset.get("name", "own data"))
    head: dict[str, Any] = {
        "library_name": "segmentation",
        "pipeline_tag": "image-segmentation",
        "tags": ["semantic-segmentation", *parts],
        **({"license": licence} if licence else {}),
    }
    if report:
        head["model-index"] = [{"name": name, "results": [_result(data, report["metrics"])]}]
    height, width = trained.size
    seen = f"resized to {height}x{width}" if trained.resize else "at their own size"
    lines = [
        *("---", yaml.safe_dump(head, sort_keys=False).strip(), "---", "", f"# {cell(name)}", ""),
        f"Semantic segmentation: {cell(parts[0])} on {cell(parts[1])}, {trained.model.weight_count / 1e6:.1f} M"
        f" parameters, for images of {trained.channels} bands, {seen}.",
        *("", "```python", "import segmentation", ""),
        f'mask = segmentation.load("hub:{name}").predict("photo.jpg").mask',
        *("```", "", "## Classes", "", ", ".join(map(cell, trained.classes.names)), ""),
        *(["Binary: the second is the foreground.", ""] if trained.classes.binary else []),
        *("## Scores", ""),
        *(_scores(report) if report else ["Not stated: no report of this model lay beside the checkpoint."]),
        *("", "## Data", "", *facts(about["dataset"])),
        *("", "## Training", "", *facts({**trained.training, **about.get("training", {})})),
        *("", "## Licence", "", _licence(trained, licence), ""),
    ]
    return "\n".join(lines)


def _licence(trained: Trained, licence: str | None) -> str:
    own = (
        f"The model: {cell(one_line(licence))}." if licence else "The maker of this model has not stated one."
    )
    began = trained.training.get("licence")
    return own + (f" The weights that its training began with: {cell(began)}." if began else "")


def _result(data: str, metrics: Mapping[str, float]) -> dict[str, Any]:
    return {
        "task": {"type": "image-segmentation"},
        "dataset": {"name": data, "type": data, "split": "test"},
        "metrics": [
            {"type": score, "value": round(value, 4)}
            for score in _SCORES
            if isinstance(value := metrics.get(f"test/{score}"), float)
        ],
    }


def _scores(report: Mapping[str, Any]) -> list[str]:
    """Of the run's test: the overall scores, those of each class, and the protocol by which they were measured."""
    metrics = report["metrics"]
    rows = [
        [name, *(number(metrics.get(f"{split}/{name}")) for split in ("val", "test"))]
        for name in CONSOLE_METRICS
        if f"test/{name}" in metrics
    ]
    classes = [
        [cell(name), number(row["iou"]), str(int(row["pixels"]))] for name, row in report["per_class"].items()
    ]
    return [
        *grid(["metric", "val", "test"], rows),
        *("", *grid(["class of the test split", "IoU", "pixels"], classes)),
        *("", "How they were measured:", "", *facts(report["protocol"])),
    ]


def _report(source: Path, contents: Mapping[str, Any]) -> dict[str, Any] | None:
    """The report of the run that chose this checkpoint; None where there is none of it."""
    file = source.resolve().parents[1] / "report.json" if source.name == "best.ckpt" else None
    if file is None or not file.is_file():
        return None
    try:
        report: dict[str, Any] = read_json(file)
        protocol, about = report["protocol"], contents["segmentation"]
        chosen = protocol["checkpoint"] == f"best.ckpt, epoch {int(contents['epoch']) + 1}"
        # evaluate.py may have written another threshold into the checkpoint since.
        fits = chosen and protocol.get("threshold") in (None, about["threshold"])
        json.dumps(_scores(report))  # a report that is damaged is none
    except (UserError, LookupError, TypeError, ValueError, AttributeError):
        return None
    return report if fits else None


def _shortened(value: Any, key: str = "") -> Any:
    """The options of a data set with the last part of each path; what is looked for below its root stays."""
    if isinstance(value, Mapping):
        return {name: _shortened(item, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(item, key) for item in value]
    if not isinstance(value, str) or key in _NO_PATHS:
        return value
    return _last_part(value) if key == "root" or _ABSOLUTE.match(value) else value


def _last_part(path: str) -> str:
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]
