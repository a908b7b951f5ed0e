"""`data_report.html`: the findings with pictures, the classes, histograms and a grid of samples, in one file."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segmentation.data.dataset import FileDataset
from segmentation.data.files import evenly_spaced
from segmentation.data.findings import KINDS, Finding
from segmentation.data.image_io import read_image
from segmentation.doctor.report import Inspection, class_table
from segmentation.doctor.rules import counted, has_background
from segmentation.doctor.scan import Scan, object_bins
from segmentation.errors import UserError
from segmentation.report.gallery import BUDGET, overlay
from segmentation.report.html import render_page
from segmentation.report.svg import Axis, Chart, Frame, draw
from segmentation.types import IGNORE_COLOUR, IGNORE_INDEX, hexadecimal
from segmentation.writing import write_text

_TEMPLATES = Path(__file__).parent / "templates"
_SAMPLES = 12  # in the grid
_FILES = 12  # names of files under a finding
_BINS = 24
_FRAME = Frame(340, 318, left=64, right=330, top=10, bottom=270)

Values = dict[str, Any]


def write_page(path: Path, inspection: Inspection) -> None:
    """Writes the page."""
    write_text(path, render(inspection))


def render(inspection: Inspection) -> str:
    """HTML of the page."""
    pictures = _Pictures(inspection)
    findings = [_finding(finding, pictures) for finding in inspection.findings]
    return render_page(
        "data_report",
        folder=_TEMPLATES,
        name=inspection.title,
        verdict=inspection.verdict,
        facts=inspection.facts,
        notes=inspection.dataset.notes if inspection.dataset else (),
        findings=findings,
        splits=[scan.split for scan in inspection.scans],
        classes=_classes(inspection),
        charts=[draw(chart) for chart in _charts(inspection.scans)],
        cards=list(pictures.grid()),
        ignore_colour=hexadecimal(IGNORE_COLOUR),
        choices=[
            {"option": f"{each.key}={each.value}", "reason": each.reason} for each in inspection.choices
        ],
    )


class _Pictures:
    """Small pictures of samples, as long as they all fit on the page."""

    def __init__(self, inspection: Inspection) -> None:
        self._scans = {scan.split: scan for scan in inspection.scans}
        self._left = BUDGET

    def card(self, split: str, index: int) -> Values | None:
        """An image, and its mask if it can be read; None where the image cannot, or the page is full."""
        scan = self._scans.get(split)
        pair = _read(scan, index) if scan is not None and self._left > 0 else None
        if scan is None or pair is None:
            return None
        image, mask = pair
        shown = np.full(image.shape[:2], IGNORE_INDEX, np.uint8) if mask is None else mask
        clear = 1 if has_background(scan.classes) else 0
        width, height, photo, drawn = overlay(image, shown, scan.classes, clear=clear)
        self._left -= len(photo) + len(drawn)
        name = f"{split}: {scan.samples.names[index]}"
        picture = None if mask is None else drawn
        return {"name": name, "width": width, "height": height, "photo": photo, "mask": picture}

    def grid(self) -> Iterator[Values]:
        """Samples spread over the training images."""
        for scan in list(self._scans.values())[:1]:
            readable = np.flatnonzero(scan.readable)
            for place in evenly_spaced(len(readable), _SAMPLES):
                if (card := self.card(scan.split, int(readable[place]))) is not None:
                    yield card


def _read(scan: Scan, index: int) -> tuple[np.ndarray, np.ndarray | None] | None:
    samples = scan.samples
    try:
        sample = samples[index]
        return sample["image"], sample["mask"]
    except UserError:
        if not isinstance(samples, FileDataset):
            return None
    try:
        path = samples.images.path(index)
        return read_image(path, samples.channels, samples.pixel_range), None
    except UserError:
        return None


def _finding(finding: Finding, pictures: _Pictures) -> Values:
    cards = [pictures.card(split, index) for split, index in finding.samples]
    what = "pair" if finding.id.startswith("near") else "group" if "duplicate" in finding.id else "file"
    return {
        "id": finding.id,
        "severity": finding.severity,
        "meaning": KINDS[finding.id][1],
        "text": finding.text + ("" if finding.text.endswith(".") else "."),
        "cure": [_cure(cure) for cure in finding.cure],
        "count": counted(len(finding.files), what) if len(finding.files) else "",
        "files": list(finding.files[:_FILES]),
        "more": max(0, len(finding.files) - _FILES),
        "cards": [card for card in cards if card is not None],
    }


def _cure(text: str) -> Values:
    """A cure's option, to paste, and its words."""
    option = re.match(r"[\w.]+=(?:\[.*\]|\{.*\}|\S+)", text)
    end = option.end() if option else 0
    return {"option": text[:end], "words": text[end:]}


def _classes(inspection: Inspection) -> list[Values]:
    if not inspection.scans:
        return []
    palette = inspection.scans[0].classes.palette
    rows = class_table(inspection.scans)
    highest = max((share["pixels"] for row in rows for share in row["splits"].values()), default=0) or 1
    return [
        {
            "name": row["name"],
            "colour": hexadecimal(palette[label] if label < len(palette) else IGNORE_COLOUR),
            "object": "-" if row["object"] is None else f"{row['object']:.0f}",
            "cells": [
                {
                    "pixels": f"{share['pixels']:.2%}",
                    "share": f"{share['pixels'] / highest:.4f}",
                    "masks": f"{share['masks']:.0%}",
                    "values": (f"{share['pixels']:.6g}", f"{share['masks']:.6g}"),
                }
                for share in row["splits"].values()
            ],
        }
        for label, row in enumerate(rows)
        if any(share["pixels"] for share in row["splits"].values())
    ]


def _charts(scans: Sequence[Scan]) -> Iterator[Chart]:
    sides = (
        np.concatenate([scan.sizes[scan.readable].max(axis=1) for scan in scans]) if scans else np.empty(0)
    )
    if len(sides) and sides.min() < sides.max():
        ends = np.linspace(sides.min(), sides.max(), _BINS + 1)
        counts, _ = np.histogram(sides, ends)
        caption = f"Of {len(sides)} images."
        yield _histogram(
            "sizes", "Longer side of the images", caption, ends, counts, "the images", logarithmic=False
        )
    if scans and (counts := scans[0].objects.sum(axis=0)).any():
        used = np.flatnonzero(counts)
        ends = np.append(object_bins(), 2 * object_bins()[-1])[used[0] : used[-1] + 2]
        caption = (
            f"The root of the area of {counts.sum():,} connected regions in train masks, without background."
        )
        yield _histogram(
            "objects",
            "Size of the objects",
            caption,
            ends,
            counts[used[0] : used[-1] + 1],
            "the objects",
            logarithmic=True,
        )


def _histogram(
    key: str, title: str, caption: str, ends: np.ndarray, counts: np.ndarray, of: str, *, logarithmic: bool
) -> Chart:
    shares = counts / counts.sum()
    x = Axis.around("pixels", [float(ends[0]), float(ends[-1])], logarithmic=logarithmic)
    y = Axis(f"share of {of}", 0.0, float(shares.max()) * 1.1)
    bars = [
        (float(left), float(right), float(share))
        for left, right, share in zip(ends[:-1], ends[1:], shares, strict=True)
        if share
    ]
    return Chart(key, title, caption, x, y, bars=bars, bars_of=of, frame=_FRAME)
