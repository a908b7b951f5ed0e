"""`report.html` of one evaluation or of several side by side, and the other files of an evaluation.

A page is one file that loads nothing from the network.
"""

import base64
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segmentation import __version__
from segmentation.report.colours import BINARY_ERRORS, page_colours
from segmentation.report.evaluation import Evaluation, write_csvs
from segmentation.report.figures import charts, draw_figures
from segmentation.report.gallery import Card, Compared, ReadImage, compared, error_colours, gallery
from segmentation.report.protocol import CHECKPOINT_ENTRIES
from segmentation.report.report import (
    HEADLINE_METRICS,
    OBJECT_AREAS,
    OBJECT_COLUMNS,
    baseline_note,
    best,
    cell,
    constant_note,
    fact,
    facts,
    grid,
    lower_is_better,
    meaning,
    number,
    object_rows,
    object_text,
    present,
    score_text,
    title,
    unprefixed,
    write_report,
)
from segmentation.report.svg import draw
from segmentation.types import IGNORE_COLOUR, hexadecimal
from segmentation.writing import write_json, write_text

if TYPE_CHECKING:
    from segmentation.report.objects import ObjectCard

_TEMPLATES = Path(__file__).parent / "templates"


def render_page(template: str, *, script: str = "", folder: Path = _TEMPLATES, **values: Any) -> str:
    """Render `template`.html.j2 from `folder`, with its script and the style and sorting that all pages share."""
    # Imported here because only the end of a command needs it.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    scripts = [_TEMPLATES / "sort.js", *([folder / script] if script else [])]
    code = "".join(path.read_text(encoding="utf-8") for path in scripts)
    environment = Environment(
        loader=FileSystemLoader([folder, _TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(f"{template}.html.j2").render(
        **values,
        style=Markup(page_colours() + (_TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup(code),
        script_hash=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
        version=__version__,
        date=date.today().isoformat(),
    )


Cell = dict[str, Any]

_MAX_CLASSES = 40
"""With more classes than this the page has no confusion matrix; confusion.csv has it."""
_MAX_MISTAKES = 10


def score_cell(score: float, *, bar: bool = True, turned: bool = False) -> Cell:
    """The table cell of a score, with a bar, `turned` where lower is better; an undefined one is a dash."""
    defined = not math.isnan(score)
    share = min(1.0, max(0.0, 1 - score if turned else score)) if defined else 0.0
    value = f"{score:.6g}" if defined else ""
    return {"text": number(score), "value": value, "share": f"{share:.4f}", "bar": bar and defined}


def class_row(row: Mapping[str, float], columns: Sequence[str]) -> list[Cell]:
    """The table cells of one class; its IoU has a bar, its number of true pixels comes last."""
    pixels = {"text": f"{int(row['pixels']):,}", "value": str(int(row["pixels"])), "share": "0", "bar": False}
    return [*(score_cell(row[name], bar=name == "iou") for name in columns), pixels]


def chips(evaluation: Evaluation) -> list[str]:
    """Short facts on data, protocol and checkpoint for the head of the page."""
    protocol, data = evaluation.report["protocol"], evaluation.report["data"]
    where = f"{data['name']}, {evaluation.split} split {protocol['split_sha256']}"
    return [
        where,
        f"{len(evaluation.images)} images, {len(evaluation.classes)} classes",
        *_model_chips(evaluation.report["model"]),
        f"input {protocol['input']}",
        f"test-time augmentation: {protocol['test_time_augmentation']}",
        *([f"threshold {protocol['threshold']:.4g}"] if protocol["threshold"] is not None else []),
        *([f"temperature {protocol['temperature']:.3g}"] if "temperature" in protocol else []),
        f"checkpoint {protocol['checkpoint_sha256']}",
    ]


def _model_chips(model: Mapping[str, Any]) -> list[str]:
    parts = [str(model[part]["name"]) for part in ("backbone", "head") if "name" in model.get(part, {})]
    if "members" in model:
        own = [_model_chips(member)[0] for member in model["members"]]
        return [f"{len(own)} models, {model['ensemble']}: {'; '.join(dict.fromkeys(own))}"]
    training = model.get("training", {})
    planned = f" of {training['max_epochs']}" if training.get("max_epochs") else ""
    return [
        " + ".join(parts),
        *([f"epoch {training['epoch']}{planned}"] if "epoch" in training else []),
        *([f"loss {training['loss']}"] if training.get("loss") else []),
        *([f"licence of its weights: {training['licence']}"] if training.get("licence") else []),
    ]


def occurring(evaluation: Evaluation) -> list[int]:
    """The labels of the classes that occur in truth or prediction."""
    counts_KK = evaluation.confusion
    found: list[int] = np.flatnonzero(counts_KK.sum(0) + counts_KK.sum(1)).tolist()
    return found


def confusion(evaluation: Evaluation) -> list[list[Cell]]:
    """The confusion matrix of the `occurring` classes, rows in percent of the true class.

    Empty with more than `_MAX_CLASSES` of them.
    """
    labels = occurring(evaluation)
    names = [evaluation.classes.names[label] for label in labels]
    if len(names) > _MAX_CLASSES:
        return []
    counts_KK = evaluation.confusion[np.ix_(labels, labels)]
    totals_K = counts_KK.sum(1)
    shares_KK = counts_KK / np.maximum(totals_K, 1)[:, None]
    return [
        [
            {
                "text": _percent(share) if totals_K[row] else "-",
                "share": round(float(share), 3),
                "right": row == column,
                "title": f"{names[row]} taken for {names[column]}: {counts_KK[row, column]:,} pixels",
            }
            for column, share in enumerate(shares)
        ]
        for row, shares in enumerate(shares_KK)
    ]


def mistakes(evaluation: Evaluation) -> list[Cell]:
    """The pairs of true and predicted class with the most wrong pixels."""
    names, wrong_KK = evaluation.classes.names, evaluation.confusion.copy()
    total = max(1, int(wrong_KK.sum()))
    np.fill_diagonal(wrong_KK, 0)
    order = np.argsort(wrong_KK, axis=None, kind="stable")[::-1][:_MAX_MISTAKES]
    pairs = [np.unravel_index(place, wrong_KK.shape) for place in order]
    return [
        {
            "truth": names[row],
            "prediction": names[column],
            "text": f"{wrong_KK[row, column] / total:.2%} of all pixels",
        }
        for row, column in pairs
        if wrong_KK[row, column]
    ]


def card_values(card: Card, evaluation: Evaluation) -> Cell:
    """An image of the gallery with its scores as text."""
    score = card.scores.scores[evaluation.main]
    return {
        "name": card.scores.name,
        "place": card.place,
        "score": f"{score:.6g}",
        "text": "-" if math.isnan(score) else f"{score:.3f}",
        "iou": " ".join(f"{iou:.4g}" for iou in card.scores.ious),
        **{
            name: getattr(card, name)
            for name in ("width", "height", "photo", "truth", "prediction", "errors")
        },
    }


def fact_rows(sections: Mapping[str, Mapping[str, Any]]) -> list[Cell]:
    """Names and values of each section, without empty ones."""
    return [
        {
            "title": section,
            "facts": [
                {"name": key.replace("_", " "), "text": fact(entry)}
                for key, entry in present(entries).items()
            ],
        }
        for section, entries in sections.items()
    ]


def comparison_rows(table: Mapping[str, Mapping[str, float]], *, named: bool) -> list[Cell]:
    """The rows of a comparison: one for each score with its title if `named`, else the IoU of one class each."""
    rows = []
    for name, values in table.items():
        metric = name if named else "iou"
        winners = best(metric, values)
        bars = not named or name in ("miou", "iou")
        rows.append(
            {
                "title": title(name) if named else name,
                "meaning": meaning(metric),
                "cells": [
                    {
                        **score_cell(score, bar=bars),
                        "text": score_text(name if named else "", score),
                        "best": column in winners,
                    }
                    for column, score in values.items()
                ],
            }
        )
    return rows


def _percent(share: float) -> str:
    return "<1" if 0 < share < 0.005 else f"{100 * share:.0f}"


def object_values(evaluation: Evaluation, cards: "Sequence[ObjectCard]") -> Cell | None:
    """The table of objects, its protocol and the images with the most errors; None where none were evaluated."""
    objects = evaluation.report.get("objects")
    if objects is None:
        return None
    columns = OBJECT_COLUMNS | OBJECT_AREAS
    wrong = sum(image.objects["misses"] + image.objects["false_alarms"] > 0 for image in evaluation.images)
    return {
        "heads": list(columns.values()),
        "rows": [
            {
                "name": name,
                "cells": [
                    {**score_cell(row[column], bar=column == "f1"), "text": object_text(column, row[column])}
                    for column in columns
                ],
            }
            for name, row in object_rows(objects).items()
        ],
        "cards": cards,
        "wrong": wrong,
        "colours": {kind: hexadecimal(colour) for kind, colour in BINARY_ERRORS.items()},
    }


def render(evaluation: Evaluation, cards: Sequence[Card], outlined: "Sequence[ObjectCard]" = ()) -> str:
    """HTML of `report.html` for one evaluation."""
    report, classes = evaluation.report, evaluation.classes
    scores = unprefixed(report["metrics"], evaluation.split)
    headlines = [name for name in HEADLINE_METRICS[classes.binary] if name in scores]
    columns = [name for name in next(iter(report["per_class"].values())) if name != "pixels"]
    labels = occurring(evaluation)
    return render_page(
        "report",
        script="report.js",
        name=evaluation.title,
        main_title=title(evaluation.main),
        main_value=number(scores[evaluation.main]),
        split=evaluation.split,
        images=len(evaluation.images),
        chips=chips(evaluation),
        notes=[*filter(None, [constant_note(report)]), *report["data"]["notes"]],
        baseline=baseline_note(report),
        tiles=[
            {
                "title": title(name),
                "meaning": meaning(name),
                **score_cell(scores[name], turned=lower_is_better(name)),
            }
            for name in headlines
        ],
        columns=[{"title": title(name)} for name in (*columns, "pixels")],
        classes=[
            {
                "index": index,
                "name": name,
                "colour": hexadecimal(classes.palette[index]),
                "cells": class_row(report["per_class"][name], columns),
            }
            for index, name in enumerate(classes.names)
            if index in labels
        ],
        absent=[name for index, name in enumerate(classes.names) if index not in labels],
        command=report["environment"].get("command", ""),
        charts=[draw(chart) for chart in charts(evaluation)],
        confusion=confusion(evaluation),
        mistakes=mistakes(evaluation),
        cards=[card_values(each, evaluation) for each in cards],
        objects=object_values(evaluation, outlined),
        errors=[
            {"text": text, "colour": hexadecimal(colour)}
            for text, colour in error_colours(classes.binary).items()
        ],
        ignore_colour=hexadecimal(IGNORE_COLOUR),
        scores=[
            {"title": title(name), "text": score_text(name, value), "meaning": meaning(name)}
            for name, value in scores.items()
        ],
        facts=fact_rows(
            {section: report[section] for section in ("protocol", "data", "model", "environment")}
            | ({"objects": report["objects"]["protocol"]} if "objects" in report else {})
        ),
    )


def render_comparison(
    evaluations: Mapping[str, Evaluation], content: Mapping[str, Any], images: Sequence[Compared] = ()
) -> str:
    """HTML of the page with evaluations side by side; the columns link to the page of each evaluation."""
    first = next(iter(evaluations.values()))
    return render_page(
        "comparison",
        script="report.js",
        names=list(evaluations),
        split=first.split,
        chips=chips(first)[:2],
        notes=_constant_notes(evaluations),
        baseline=baseline_note(first.report),
        tables=[
            {
                "title": "Scores",
                "head": "score",
                "rows": comparison_rows(content["metrics"], named=True),
                "sortable": False,
            },
            {
                "title": "IoU by class",
                "head": "class",
                "rows": comparison_rows(content["per_class_iou"], named=False),
                "sortable": True,  # scores of different kinds keep their order
            },
        ],
        images=images,
        main_title=title(first.main),
        classes=[
            {"name": name, "colour": hexadecimal(colour)}
            for name, colour in zip(first.classes.names, first.classes.palette, strict=True)
        ],
        facts=fact_rows({"shared by all": content["protocol"], **content["checkpoints"]}),
    )


def _constant_notes(evaluations: Mapping[str, Evaluation]) -> list[str]:
    return [f"{name}: {note}" for name, each in evaluations.items() if (note := constant_note(each.report))]


def write_comparison(
    folder: Path,
    evaluations: Mapping[str, Evaluation],
    open_reader: Callable[[str], ReadImage] | None = None,
) -> None:
    """Write `report.json`, `report.md` and `report.html` that compare evaluations (keys: names of their folders).

    With `open_reader` the page shows the images on which they differ most; see `compared`.
    """
    first = next(iter(evaluations.values()))
    table = scores_by_name(evaluations)
    classes = {
        name: {
            folder: evaluation.report["per_class"][name]["iou"] for folder, evaluation in evaluations.items()
        }
        for name in first.classes.names
    }
    shared = {key: value for key, value in first.report["protocol"].items() if key not in CHECKPOINT_ENTRIES}
    checkpoints = {
        name: {
            key: value for key, value in evaluation.report["protocol"].items() if key in CHECKPOINT_ENTRIES
        }
        for name, evaluation in evaluations.items()
    }
    content = {"metrics": table, "per_class_iou": classes, "protocol": shared, "checkpoints": checkpoints}
    told = [*_constant_notes(evaluations), *filter(None, [baseline_note(first.report)])]
    images = compared(evaluations, open_reader) if open_reader else []
    write_json(folder / "report.json", content)
    write_text(folder / "report.md", _markdown(content, list(evaluations), told))
    write_text(folder / "report.html", render_comparison(evaluations, content, images))


def scores_by_name(evaluations: Mapping[str, Evaluation]) -> dict[str, dict[str, float]]:
    """Values by metric, then by folder; nan where one has no such metric, as without a temperature."""
    columns = {
        name: unprefixed(evaluation.report["metrics"], evaluation.split)
        for name, evaluation in evaluations.items()
    }
    return {
        metric: {name: column.get(metric, math.nan) for name, column in columns.items()}
        for metric in dict.fromkeys(metric for column in columns.values() for metric in column)
    }


def _markdown(content: Mapping[str, Any], names: list[str], told: list[str]) -> str:
    def rows(table: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
        return [
            [cell(key), *(score_text(key, values[name]) for name in names)] for key, values in table.items()
        ]

    heads = [cell(name) for name in names]
    lines = ["# Side by side", "", *grid(["metric", *heads], rows(content["metrics"]))]
    lines += [line for sentence in told for line in ("", cell(sentence))]
    lines += ["", "## IoU by class", "", *grid(["class", *heads], rows(content["per_class_iou"]))]
    lines += ["", "## Protocol", "", *facts(content["protocol"])]
    for name, own in content["checkpoints"].items():
        lines += ["", f"## {cell(name)}", "", *facts(own)]
    return "\n".join(lines) + "\n"


def write_evaluation(folder: Path, evaluation: Evaluation, read_image: ReadImage) -> Path:
    """Write the JSON, Markdown and CSV files, the figures and `report.html`, and return the path of the page.

    `read_image` reads the images again that the page shows.
    """
    from segmentation.report.objects import (
        object_cards,
    )  # imports torch, which the doctor's page does not need

    write_csvs(folder, evaluation)
    draw_figures(folder, evaluation)
    page = folder / "report.html"
    write_text(
        page, render(evaluation, gallery(evaluation, read_image), object_cards(evaluation, read_image))
    )
    write_report(folder, evaluation.report, splits=(evaluation.split,), complete=True)
    return page
