"""Numbers and names as the page's templates take them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segmentation.report.evaluation import Evaluation
from segmentation.report.gallery import Card
from segmentation.report.text import fact, number, there
from segmentation.report.words import LOWER_IS_BETTER, best, meaning, title

Cell = dict[str, Any]

_MANY = 40
"""Classes beyond which no table shows their confusion: confusion.csv does."""
_MISTAKES = 10


def value(score: float, *, bar: bool = True) -> Cell:
    """A score with its bar; what is not defined has neither."""
    there = not math.isnan(score)
    share = min(1.0, max(0.0, score)) if there else 0.0
    return {"text": number(score), "value": f"{score:.6g}", "share": f"{share:.4f}", "bar": bar and there}


def shown(name: str, score: float) -> str:
    """A score by its name: counts are whole."""
    return f"{score:.0f}" if name == "classes_counted" else number(score)


def class_row(row: Mapping[str, float], columns: Sequence[str]) -> list[Cell]:
    """The cells of one class, its true pixels last; the IoU has a bar."""
    pixels = {"text": f"{int(row['pixels']):,}", "value": str(int(row["pixels"])), "share": "0", "bar": False}
    return [*(value(row[name], bar=name == "iou") for name in columns), pixels]


def chips(evaluation: Evaluation) -> list[str]:
    """The protocol in a line."""
    protocol, data = evaluation.report["protocol"], evaluation.report["data"]
    where = f"{data['name']}, {evaluation.split} split {protocol['split_sha256']}"
    return [
        where,
        f"{len(evaluation.images)} images, {len(evaluation.classes)} classes",
        f"input {protocol['input']}",
        f"test-time augmentation: {protocol['test_time_augmentation']}",
        *([f"threshold {protocol['threshold']}"] if protocol["threshold"] is not None else []),
        f"checkpoint {protocol['checkpoint_sha256']}",
    ]


def confusion(evaluation: Evaluation) -> list[list[Cell]]:
    """The rows of the confusion matrix in percent of the true class; none for very many classes."""
    counts_KK, names = evaluation.confusion, evaluation.classes.names
    if len(names) > _MANY:
        return []
    shares_KK = counts_KK / np.maximum(counts_KK.sum(1, keepdims=True), 1)
    return [
        [
            {
                "text": _percent(share),
                "share": round(float(share), 3),
                "right": row == column,
                "title": f"{names[row]} taken for {names[column]}: {counts_KK[row, column]:,} pixels",
            }
            for column, share in enumerate(shares)
        ]
        for row, shares in enumerate(shares_KK)
    ]


def mistakes(evaluation: Evaluation) -> list[Cell]:
    """The pairs of classes that cost most pixels."""
    names, wrong_KK = evaluation.classes.names, evaluation.confusion.copy()
    total = max(1, int(wrong_KK.sum()))
    np.fill_diagonal(wrong_KK, 0)
    order = np.argsort(wrong_KK, axis=None, kind="stable")[::-1][:_MISTAKES]
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


def card(card: Card, evaluation: Evaluation) -> Cell:
    """A card with its scores as text."""
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


def facts(sections: Mapping[str, Mapping[str, Any]]) -> list[Cell]:
    """Names and values of each section, without those that are empty."""
    return [
        {
            "title": section,
            "facts": [
                {"name": key.replace("_", " "), "text": fact(entry)} for key, entry in there(entries).items()
            ],
        }
        for section, entries in sections.items()
    ]


def compared(table: Mapping[str, Mapping[str, float]], *, named: bool) -> list[Cell]:
    """The rows of a comparison; `named` says that they are scores, whose names people know otherwise."""
    rows = []
    for name, values in table.items():
        metric = name if named else "iou"
        winners = best(metric, values)
        bars = not named or (name in ("miou", "iou") and name not in LOWER_IS_BETTER)
        rows.append(
            {
                "title": title(name) if named else name,
                "meaning": meaning(metric),
                "cells": [
                    {
                        **value(score, bar=bars),
                        "text": shown(name if named else "", score),
                        "best": column in winners,
                    }
                    for column, score in values.items()
                ],
            }
        )
    return rows


def _percent(share: float) -> str:
    return "" if share < 0.005 else f"{100 * share:.0f}"
