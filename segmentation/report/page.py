"""`report.html`: one file that shows everything and asks no network for anything.

Names of classes and files may hold anything: the templates escape whatever they insert, and the page's own
security policy lets no script run but the one written here.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from markupsafe import Markup

from segmentation import __version__
from segmentation.classes import IGNORE_COLOUR, Colour
from segmentation.report import cells, drawing
from segmentation.report.charts import charts
from segmentation.report.evaluation import Evaluation
from segmentation.report.gallery import Card, error_colours
from segmentation.report.text import number, unprefixed
from segmentation.report.words import HEADLINES, meaning, title

_TEMPLATES = Path(__file__).parent / "templates"


def render(evaluation: Evaluation, cards: Sequence[Card]) -> str:
    """The page of one evaluation."""
    report, classes = evaluation.report, evaluation.classes
    scores = unprefixed(report["metrics"], evaluation.split)
    headlines = [name for name in HEADLINES[classes.binary] if name in scores]
    columns = [name for name in next(iter(report["per_class"].values())) if name != "pixels"]
    return _fill(
        "report",
        name=evaluation.title,
        main_title=title(evaluation.main),
        main_value=number(scores[evaluation.main]),
        split=evaluation.split,
        images=len(evaluation.images),
        chips=cells.chips(evaluation),
        notes=report["data"]["notes"],
        tiles=[
            {"title": title(name), "meaning": meaning(name), **cells.value(scores[name])}
            for name in headlines
        ],
        columns=[{"title": title(name)} for name in (*columns, "pixels")],
        classes=[
            {
                "index": index,
                "name": name,
                "colour": hexadecimal(classes.palette[index]),
                "cells": cells.class_row(report["per_class"][name], columns),
            }
            for index, name in enumerate(classes.names)
        ],
        charts=[drawing.drawn(chart) for chart in charts(evaluation)],
        ticks=drawing.TICKS,
        confusion=cells.confusion(evaluation),
        mistakes=cells.mistakes(evaluation),
        cards=[cells.card(card, evaluation) for card in cards],
        errors=[
            {"text": text, "colour": hexadecimal(colour)}
            for text, colour in error_colours(classes.binary).items()
        ],
        ignore_colour=hexadecimal(IGNORE_COLOUR),
        scores=[
            {"title": title(name), "text": cells.shown(name, value), "meaning": meaning(name)}
            for name, value in scores.items()
        ],
        facts=cells.facts(
            {section: report[section] for section in ("protocol", "data", "model", "environment")}
        ),
    )


def render_comparison(evaluations: Mapping[str, Evaluation], content: Mapping[str, Any]) -> str:
    """The page that puts evaluations side by side; its columns lead to their own pages."""
    first = next(iter(evaluations.values()))
    return _fill(
        "comparison",
        names=list(evaluations),
        split=first.split,
        chips=cells.chips(first)[:2],
        tables=[
            {"title": "Scores", "head": "score", "rows": cells.compared(content["metrics"], named=True)},
            {
                "title": "IoU by class",
                "head": "class",
                "rows": cells.compared(content["per_class_iou"], named=False),
            },
        ],
        facts=cells.facts({"shared by all": content["protocol"], **content["checkpoints"]}),
        ticks=drawing.TICKS,
    )


def hexadecimal(colour: Colour) -> str:
    """#rrggbb."""
    return "#" + bytes(colour).hex()


def _fill(template: str, **values: Any) -> str:
    # Imported here: only the end of an evaluation needs it.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(f"{template}.html.j2").render(
        **values,
        style=Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=__version__,
        date=date.today().isoformat(),
    )
