"""What is evaluated on what: checkpoints and the data that they are scored on, held against each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segmentation import checkpoint
from segmentation.config import EvaluationSettings
from segmentation.data import open_dataset
from segmentation.data.dataset import Samples, SegmentationDataset
from segmentation.data.files import first_of
from segmentation.data.geo import evaluation_options
from segmentation.errors import UserError
from segmentation.inference.ensemble import AVERAGED, open_models
from segmentation.inference.tta import describe_tta, tta_views
from segmentation.models import Decision
from segmentation.report.protocol import evaluation_protocol, split_notes
from segmentation.types import Classes


@dataclass(frozen=True)
class EvaluationContext:
    """A checkpoint, or several as one model, and the data it is evaluated on; it is loaded when its turn comes."""

    paths: tuple[Path, ...]
    classes: Classes
    options: dict[str, Any]
    dataset: SegmentationDataset
    decision: Decision
    threshold_source: str
    split: str
    protocol: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def samples(self) -> Samples:
        """The images of the split."""
        return self.dataset.splits()[self.split]

    @property
    def name(self) -> str:
        """The file or files."""
        return ", ".join(map(str, self.paths))

    @property
    def title(self) -> str:
        """RUN/best for RUN/checkpoints/best.ckpt; of several all of them."""
        return " + ".join(map(_title, self.paths))


def _title(path: Path) -> str:
    path = path.resolve()
    folder = path.parents[1] if path.parent.name == "checkpoints" else path.parent
    return f"{folder.name}/{path.stem}"


def open_context(given: Path | Sequence[Path], settings: EvaluationSettings) -> EvaluationContext:
    """The data that the options name, else those of the checkpoint's training, checked against the checkpoint.

    Several checkpoints are one model. Raises `UserError` for a checkpoint or data that cannot be used and for data of
    other classes.
    """
    paths = (given,) if isinstance(given, Path) else tuple(given)
    path = paths[0]
    if settings.write_threshold or settings.calibrate:
        checkpoint.read_own(path)  # refuses an exported model before its evaluation
    trained, models = open_models(paths, threshold=settings.threshold, ensemble=settings.ensemble)
    binary = trained.classes.binary
    if settings.write_threshold and not binary:
        raise UserError(f"{path} has several classes and no threshold: leave write_threshold out.")
    options = _dataset_options(path, settings.dataset, trained.dataset)
    chosen = any(settings.dataset.get(key) is not None for key in ("name", "images"))
    dataset = _open_dataset(path, trained, options, chosen=chosen)
    _check_classes(path, trained.classes, dataset.classes)
    protocol = evaluation_protocol(
        dataset,
        options,
        settings.split,
        size=trained.size,
        resize=trained.resize,
        tile=trained.tile,
        threshold=trained.decision.threshold,
        tta=describe_tta(tta_views(settings.tta)),
        checkpoints=paths,
    ) | {"threshold_source": trained.threshold_source if binary else None}
    protocol |= temperature_entry(trained.decision)
    notes = (
        *dataset.notes,
        *([AVERAGED.format(count=len(paths))] if len(paths) > len(models) else []),
        *split_notes(settings.split, protocol["split_sha256"], trained.protocol),
        *(_threshold_notes(trained, settings) if binary else []),
    )
    return EvaluationContext(
        paths,
        trained.classes,
        options,
        dataset,
        trained.decision,
        trained.threshold_source,
        settings.split,
        protocol,
        notes,
    )


def _dataset_options(path: Path, typed: Mapping[str, Any], trained: Mapping[str, Any]) -> dict[str, Any]:
    unset = {"root", "images", "labels", "extent"}  # in conf/evaluate.yaml, unless they are typed
    options = {key: value for key, value in typed.items() if value is not None or key not in unset}
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
    if trained["name"] == "geotiff":
        return evaluation_options(trained, options)
    return {**_offline(trained), **options}


def _offline(trained: Any) -> Any:
    """The options of a training, perhaps a stranger's, and of each of its `sets`: they use no network."""
    if isinstance(trained, list):
        return [_offline(each) for each in trained]
    if not isinstance(trained, Mapping):
        return trained
    if trained.get("name") == "geotiff":
        return evaluation_options(trained, {})
    options = {**trained, "download": False} if "download" in trained else dict(trained)
    match options.get("sets"):
        case Mapping() as sets:
            options["sets"] = {label: _offline(each) for label, each in sets.items()}
        case list() as sets:
            options["sets"] = _offline(sets)
    return options


def _open_dataset(
    path: Path, trained: checkpoint.Trained, dataset: dict[str, Any], *, chosen: bool
) -> SegmentationDataset:
    try:
        return open_dataset(trained.channels, trained.pixel_range, **dataset)
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
        *([] if missing or added else [f"they are in another order: {', '.join(others.names)}"]),
    ]
    raise UserError(
        f"{path} has {len(own)} classes, the data {len(others)}: {'; '.join(parts)}. Give data of the same classes."
    )


def temperature_entry(decision: Decision) -> dict[str, float]:
    """The protocol's entry for a temperature; none without one."""
    return {} if decision.temperature == 1 else {"temperature": decision.temperature}


def _threshold_notes(trained: checkpoint.Trained, settings: EvaluationSettings) -> list[str]:
    if settings.split == "val" and "val split" in trained.threshold_source:
        return ["The threshold was chosen on a val split: only scores on the test split say how good it is."]
    if settings.split == "test" and settings.threshold not in ("auto", "best"):
        return [
            f"threshold={settings.threshold} was given as an option: "
            "if it was chosen on this split, its scores here are too good."
        ]
    return []
