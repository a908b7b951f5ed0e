"""`report.html`, of one evaluation or of several side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

from segmentation.classes import IGNORE_COLOUR, hexadecimal
from segmentation.report import cells, drawing
from segmentation.report.charts import charts
from segmentation.report.evaluation import Evaluation
from segmentation.report.gallery import Card, error_colours
from segmentation.report.template import fill
from segmentation.report.text import number, unprefixed
from segmentation.report.words import HEADLINES, meaning, title


def render(evaluation: Evaluation, cards: Sequence[Card]) -> str:
    """The page of one evaluation."""
    report, classes = evaluation.report, evaluation.classes
    scores = unprefixed(report["metrics"], evaluation.split)
    headlines = [name for name in HEADLINES[classes.binary] if name in scores]
    columns = [name for name in next(iter(report["per_class"].values())) if name != "pixels"]
    return fill(
        "report",
        script="report.js",
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
    return fill(
        "comparison",
        script="report.js",
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
