"""The doctor: what is wrong with a data set, before a training spends a day on it; `inspect_data.py` calls `inspect`.

Nothing here imports torch.
"""

import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from segmentation.config import InspectionSettings
from segmentation.data import SegmentationDataset, create_dataset
from segmentation.data.dataset import FileDataset, with_pixel_range
from segmentation.data.pixel_range import PixelRange
from segmentation.data.survey import survey
from segmentation.doctor.layout import layout_findings
from segmentation.doctor.page import write_page
from segmentation.doctor.report import Inspection, as_json, as_text, chosen
from segmentation.doctor.rules import find
from segmentation.doctor.scan import Scan, scan
from segmentation.errors import UserError, errors_kept
from segmentation.library_warnings import library_warnings_hidden
from segmentation.machine import cores
from segmentation.planner import plan


@library_warnings_hidden()
def inspect(settings: InspectionSettings, training: Mapping[str, Any], folder: Path) -> float:
    """Prints what is found in the data of the options, and writes `data_report.html`; returns the number of findings.

    `training` is the config of a training with the default options, for the plan.

    Raises `UserError`, when all is written, where a training would be wrong, and with `strict` for any warning; before,
    for options that are not possible.
    """
    inspection = examine(settings, training)
    write_page(folder / "data_report.html", inspection)
    text = json.dumps(as_json(inspection)) if settings.format == "json" else as_text(inspection)
    sys.stdout.write(text + "\n")
    if settings.format == "text":
        sys.stdout.write(f"The report with pictures: {folder / 'data_report.html'}\n")
    if inspection.status:
        raise UserError(f"{inspection.title}: {inspection.verdict}. Correct what is wrong before a training.")
    return float(len(inspection.findings))


def examine(settings: InspectionSettings, training: Mapping[str, Any]) -> Inspection:
    """The whole inspection, without printing or writing anything."""
    threads = cores() if settings.workers == "auto" else settings.workers
    data = settings.data
    options = {key: value for key, value in settings.dataset.items() if value is not None or key != "root"}
    title = " ".join(str(options[key]) for key in ("name", "root") if options.get(key))
    if not isinstance(data.pixel_range, str):
        PixelRange.from_list(data.pixel_range)  # a wrong one is no fault of the data
    with errors_kept() as kept:
        try:
            dataset = create_dataset(data.channels, **options)
        except UserError as error:
            if error.kind == "option":
                raise
            refused = layout_findings([*kept, error], options, threads)
            return Inspection(title, chosen(refused, settings.only, settings.skip), settings.strict)
        with suppress(UserError):  # of a file that cannot be read, which is reported when it is scanned
            dataset = with_pixel_range(dataset, data.pixel_range)
        scans = scan(dataset, threads)
    messages = {message for each in scans for fault in each.faults.values() for message in fault.messages}
    told = [error for error in kept if str(error) not in messages]
    seen = None
    if scans[0].readable.any():
        with suppress(UserError):  # of samples that are no files, and cannot be left out
            seen = survey(_readable(dataset, scans[0]))
    config, choices = deepcopy({**training, "planned": []}), []
    by_hand = {key: value for key in ("size", "resize") if (value := getattr(data, key)) is not None}
    config["data"] |= by_hand
    if seen is not None and settings.plan == "auto":
        choices = list(plan(config, seen, dataset, [*settings.given, *(f"data.{key}" for key in by_hand)]))
    findings = [*layout_findings(told, options, 0), *find(scans, seen, config)]
    shown = chosen(findings, settings.only, settings.skip)
    return Inspection(title, shown, settings.strict, dataset, scans, seen, choices, config)


def _readable(dataset: SegmentationDataset, train: Scan) -> SegmentationDataset:
    """The data set without training samples that cannot be read, where they are files."""
    samples = dataset.train
    if not isinstance(samples, FileDataset):
        return dataset
    return replace(dataset, train=samples.take(np.flatnonzero(train.readable)))
