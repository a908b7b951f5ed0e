"""A checkpoint and the data that it is to be judged on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segmentation import checkpoint
from segmentation.classes import Classes
from segmentation.data import open_source
from segmentation.data.files import first_of
from segmentation.data.source import Samples, Source
from segmentation.errors import UserError
from segmentation.evaluation.settings import EvaluationSettings
from segmentation.inference.views import describe, views
from segmentation.report.protocol import evaluation_protocol


@dataclass(frozen=True)
class Case:
    """What is judged on what; the model itself is loaded when its turn comes."""

    path: Path
    classes: Classes
    dataset: dict[str, Any]
    source: Source
    split: str
    protocol: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def samples(self) -> Samples:
        """The images of the split."""
        return self.source.splits()[self.split]

    @property
    def title(self) -> str:
        """RUN/best for RUN/checkpoints/best.ckpt."""
        path = self.path.resolve()
        folder = path.parents[1] if path.parent.name == "checkpoints" else path.parent
        return f"{folder.name}/{path.stem}"


def open_case(path: Path, settings: EvaluationSettings) -> Case:
    """The data that the options name, else those of the checkpoint's training, held against the checkpoint.

    Raises `UserError` for a checkpoint or data that cannot be used and for data of other classes.
    """
    trained = checkpoint.load(path)
    dataset = _dataset(path, settings.dataset, trained.dataset)
    source = _open(path, trained.channels, dataset, chosen="name" in settings.dataset)
    _check_classes(path, trained.classes, source.classes)
    protocol = evaluation_protocol(
        source,
        dataset,
        settings.split,
        size=trained.size,
        resize=trained.resize,
        threshold=trained.decision.threshold,
        tta=describe(views(settings.tta)),
        checkpoint=path,
    )
    notes = (*source.notes, *_split_notes(settings.split, protocol["split_sha256"], trained.protocol))
    return Case(path, trained.classes, dataset, source, settings.split, protocol, notes)


def _dataset(path: Path, typed: Mapping[str, Any], trained: Mapping[str, Any]) -> dict[str, Any]:
    options = {key: value for key, value in typed.items() if value is not None or key != "root"}
    if "name" in options:
        return options
    if "name" not in trained:
        raise UserError(
            f"{path} does not say which data it was trained on: give dataset=NAME dataset.root=PATH."
        )
    if "root" in options and "root" not in trained:
        raise UserError(
            f"dataset.root has no use: {path} was trained on dataset={trained['name']}, which has none."
        )
    fetching = {"download": False} if "download" in trained else {}
    return {**trained, **fetching, **options}


def _open(path: Path, channels: int, dataset: dict[str, Any], *, chosen: bool) -> Source:
    try:
        return open_source(channels, **dataset)
    except UserError as error:
        if chosen:
            raise
        raise UserError(
            f"{error} These are the data that {path} was trained on: if they lie elsewhere now, give dataset.root=PATH."
        ) from error


def _check_classes(path: Path, own: Classes, others: Classes) -> None:
    if own.binary != others.binary:
        kinds = {True: "binary", False: "of several classes"}
        raise UserError(
            f"{path} is {kinds[own.binary]}, the data are {kinds[others.binary]}: give its own kind of data."
        )
    if own.names == others.names:
        return
    missing = [name for name in own.names if name not in others.names]
    added = [name for name in others.names if name not in own.names]
    parts = [
        *([f"the data lack {first_of(missing, 8)}"] if missing else []),
        *([f"the checkpoint does not know {first_of(added, 8)}"] if added else []),
        *([] if missing or added else [f"their order is another: {', '.join(others.names)}"]),
    ]
    raise UserError(
        f"{path} has {len(own)} classes, the data {len(others)}: {'; '.join(parts)}. Give data of the same classes."
    )


def _split_notes(split: str, digest: str, trained: Mapping[str, Any]) -> list[str]:
    known = trained.get("split_sha256", {})
    if split == "train":
        return ["These are images of the train split: the scores say what was learnt, not what will be met."]
    if known.get(split) == digest:
        return []
    there = known.get(split, "unknown")
    return [
        f"The {split} split is not the one of the training (its hash is {digest}, there {there}): "
        "make sure that no image of the training is in it."
    ]
