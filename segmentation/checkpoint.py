"""Checkpoints: self-contained and inert. They hold weights and plain data, and loading one runs none of its code.

The threshold of a binary model is chosen here too: the checkpoint's own, a number, or the best one on the val split.
So is the temperature kept that makes its probabilities fit.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from segmentation import hub
from segmentation.config import Threshold, check_threshold, require_checkpoint
from segmentation.data.mix import read_sets
from segmentation.data.pixel_range import PixelRange
from segmentation.environment import versions
from segmentation.errors import UserError, one_line
from segmentation.models import Decision, Segmenter, create_segmenter, onnx_network
from segmentation.models.onnx_network import OnnxNetwork, is_exported
from segmentation.models.weights_file import is_dense
from segmentation.options import call
from segmentation.reading import file_hash, read_json
from segmentation.types import Classes
from segmentation.writing import replacing

TRAINING_THRESHOLD = "the checkpoint's, as trained"
"""Where the threshold comes from unless another was chosen."""

_BEST = "the checkpoint's, best F1 and IoU on the val split"
_LONGEST_SOURCE = 200
_LONGEST_TEXT = 10_000  # letters of a text in the description, such as a path
_MOST_PARTS = 10_000  # lists and dicts in the description; ours have some 300 with 255 classes
_DEEPEST = 50
_LONGEST_SIDE = 2**15  # pixels of the input, as of the largest image that is read
_PREFIX = "model."  # where the LightningModule keeps the segmenter

EVALUATIONS = Path("outputs/evaluations")
"""Where `evaluate.py` writes unless told otherwise, relative to the working folder."""

UNFIT = (
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    RuntimeError,
    MemoryError,
    RecursionError,
    IndexError,
)
"""What Python and torch raise where a description or its weights have other types or shapes than ours."""


@dataclass(frozen=True)
class Trained:
    """A model ready to use, with everything that its training recorded about it.

    With `tile`, images larger than it are predicted by tiles of that side, as in training's own validation.
    `threshold_source` says where the threshold of binary data in `decision` comes from; `training` has the epoch, the
    epochs that were planned, the loss, the weights that it began with and their licence, as far as they are known.
    """

    model: Segmenter | OnnxNetwork
    classes: Classes
    decision: Decision
    size: tuple[int, int]
    resize: bool
    protocol: dict[str, Any]
    dataset: dict[str, Any]
    threshold_source: str = TRAINING_THRESHOLD
    pixel_range: PixelRange | None = None
    training: dict[str, Any] = field(default_factory=dict)
    tile: int | None = None

    @property
    def threshold_is_best(self) -> bool:
        """Whether `write_threshold` put the best threshold of a validation split into the checkpoint."""
        return self.threshold_source.startswith(_BEST)

    @property
    def channels(self) -> int:
        """Bands of the images that the model takes."""
        return self.model.channels

    @property
    def bands(self) -> list[int] | None:
        """The numbers of the bands of GeoTIFFs that were chosen for the training, of mixed data for all; None: all."""
        mixed = self.dataset.get("name") == "mix"
        each = read_sets(self.dataset.get("sets"))[0].values() if mixed else [self.dataset]
        bands, *others = (one.get("bands") for one in each)
        right = isinstance(bands, list) and all(isinstance(band, int) and band > 0 for band in bands)
        return bands if right and all(other == bands for other in others) else None


def describe(
    model: Segmenter,
    classes: Classes,
    *,
    threshold: float,
    size: tuple[int, int],
    resize: bool,
    protocol: Mapping[str, Any],
    dataset: Mapping[str, Any],
    pixel_range: PixelRange | None = None,
    one_vs_rest: bool = False,
    training: Mapping[str, Any] | None = None,
    tile: int | None = None,
) -> dict[str, Any]:
    """Plain data (strings, numbers, lists, dicts) from which `load` builds the model again."""
    return {
        "model": dict(model.description),
        "classes": classes.to_dict(),
        "threshold": threshold,
        "input": {"size": list(size), "resize": resize}
        | ({"tile": tile} if tile else {})
        | ({"pixel_range": pixel_range.to_list()} if pixel_range else {}),
        "one_vs_rest": one_vs_rest,
        "protocol": dict(protocol),
        "dataset": dict(dataset),
        "training": dict(training or {}),
        "versions": versions(),
    }


def read(path: Path) -> dict[str, Any]:
    """The checkpoint's contents, of plain types and tensors only.

    Raises `UserError` for a file that is missing, damaged, no checkpoint of this project, or that would run code.
    """
    if is_exported(require_checkpoint(path)):
        raise UserError(f"{path} is an exported model: this needs the checkpoint that it was made of.")
    contents = hub.read_weights(path) if path.suffix == ".safetensors" else _unpickled(path)
    if not {"segmentation", "state_dict"} <= contents.keys():
        raise UserError(f"{path} was not written by this project: give a checkpoint that train.py made.")
    _check_description(path, contents["segmentation"])
    _check_tensors(path, contents)
    epoch, scores = contents.get("epoch", 0), contents.get("val_scores", {})
    if not isinstance(epoch, int) or not isinstance(scores, dict):
        raise UserError(f"{path} does not say which epoch it is of: it was not loaded.")
    return contents


def _unpickled(path: Path) -> dict[str, Any]:
    try:
        with warnings.catch_warnings(action="ignore"):  # about unusual tensors; they are refused below
            contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds; all mean that the file cannot be trusted
        with path.open("rb") as file:
            pickled = file.read(1) in (b"P", b"\x80")  # in a zip, or bare; a picture or a text is neither
        unsafe = pickled and ("weights_only" in str(error).lower() or "unsupported" in str(error).lower())
        cause = "holds more than weights and plain data" if unsafe else "is damaged or no checkpoint"
        raise UserError(
            f"{path} {cause}: it was not loaded. Train it again or ask its maker for another."
        ) from error
    return contents if isinstance(contents, dict) else {}


def _check_description(path: Path, content: Any) -> None:
    """Raises `UserError` for what a description never holds: tensors, long texts, many parts, and deep ones.

    Reports follow the parts in depth, so one that refers to itself, or is shared by many, counts each time.
    """
    waiting, parts = [(content, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, Mapping | list | tuple | set):
            parts += 1
            if parts > _MOST_PARTS or depth > _DEEPEST:
                raise UserError(
                    f"{path} describes itself in more than {_MOST_PARTS} parts, or {_DEEPEST} within each other: it was"
                    " not loaded."
                )
            items = [*value.keys(), *value.values()] if isinstance(value, Mapping) else value
            waiting += [(item, depth + 1) for item in items]
        elif isinstance(value, torch.Tensor):
            raise UserError(f"{path} describes itself by a tensor: it was not loaded.")
        elif isinstance(value, str) and len(value) > _LONGEST_TEXT:
            raise UserError(
                f"{path} describes itself with {len(value)} letters in one word: it was not loaded."
            )


def _check_tensors(path: Path, content: Any) -> None:
    """Raises `UserError` for tensors that are not dense. The content may be nested or refer to itself at will."""
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping | list | tuple | set):
            if id(value) not in seen:
                seen.add(id(value))
                waiting += [*value.keys(), *value.values()] if isinstance(value, Mapping) else value
        elif isinstance(value, torch.Tensor) and not is_dense(value):
            raise UserError(
                f"{path} holds a tensor that is sparse, complex or expanded: it was not loaded. "
                "Ask its maker for another."
            )


def load(path: Path) -> Trained:
    """The trained model of a checkpoint in evaluation mode on the CPU, or of a file that `export.py` made of one.

    Raises `UserError` where `read` and `onnx_network.read` do, where the description and the weights do not fit our
    models or each other, and for weights that are not finite.
    """
    if is_exported(path):
        about, network = onnx_network.read(path)
        _check_description(path, about)
        return _trained(path, {**about, "segmentation": about}, lambda contents: network)
    return _trained(path, read(path), _built)


def _trained(
    path: Path,
    contents: Mapping[str, Any],
    network: Callable[[Mapping[str, Any]], Segmenter | OnnxNetwork],
) -> Trained:
    try:
        about = contents["segmentation"]
        classes = Classes.from_dict(about["classes"])
        model = network(contents)
        _check_outputs(model, classes)
        protocol = dict(about["protocol"])
        dict(protocol.get("split_sha256", {}))  # read later for the hash of each split
        return Trained(
            model.eval(),
            classes,
            Decision(
                classes.binary,
                _threshold(about["threshold"]),
                one_vs_rest=about.get("one_vs_rest", False) is True,  # earlier versions: always a softmax
                temperature=_temperature(about.get("temperature", 1.0)),
            ),
            _size(about["input"]["size"]),
            bool(about["input"]["resize"]),
            protocol,
            dict(about["dataset"]),
            _source(about.get("threshold_source", TRAINING_THRESHOLD)),
            _pixel_range(about["input"].get("pixel_range")),
            _training(contents),
            _tile(about["input"].get("tile")),
        )
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except UNFIT as error:
        cause = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{path} does not fit this version of the project ({cause}).") from error


def _built(contents: Mapping[str, Any]) -> Segmenter:
    description = contents["segmentation"]["model"]
    _check_size_of_model(description, contents)
    model = call("checkpoint", create_segmenter, **description)
    model.load_state_dict(model_weights(contents))
    _check_finite(model)
    return model


def read_pixel_range(path: Path) -> PixelRange | None:
    """The values that were black and white in training. Raises `UserError` where `read` does, and for no such range."""
    try:
        return _pixel_range(read(path)["segmentation"]["input"].get("pixel_range"))
    except UNFIT as error:
        raise UserError(f"{path} does not say how its images were read: start the run anew.") from error


def with_threshold(trained: Trained, path: Path, threshold: Threshold) -> Trained:
    """The model of the checkpoint `path` with the threshold that was asked for.

    "auto" keeps the checkpoint's own. "best" takes the one with the best F1 and IoU on the validation split: the
    checkpoint's own if `evaluate.py write_threshold=true` wrote it, else the one in the newest `report.json` of an
    evaluation of this very file on split=val, in the run's folder or in `outputs/evaluations`.

    Raises `UserError` for other values, for a model of several classes unless "auto", and if no report is found.
    """
    check_threshold(threshold)
    if threshold == "auto":
        return trained
    if not trained.classes.binary:
        raise UserError(
            f"threshold={threshold}: {path} has several classes and takes the most probable one. "
            "Leave threshold out."
        )
    if threshold == "best":
        return trained if trained.threshold_is_best else _with_best_threshold(trained, path)
    return _with_decision(trained, float(threshold), "given as an option")


def _with_decision(trained: Trained, threshold: float, source: str) -> Trained:
    return replace(trained, decision=replace(trained.decision, threshold=threshold), threshold_source=source)


def _with_best_threshold(trained: Trained, path: Path) -> Trained:
    sha256 = file_hash(path)
    reports = sorted(_evaluation_reports(path), key=lambda report: report.stat().st_mtime, reverse=True)
    for report in reports:
        value = _validation_threshold(report, sha256)
        if value is not None:
            return _with_decision(trained, value, f"best F1 and IoU on the val split, from {report}")
    raise UserError(
        f"threshold=best: no evaluation of {path} on the validation split was found in its run's folder or in "
        f"{EVALUATIONS}. Run evaluate.py with split=val write_threshold=true, or give a number."
    )


def _evaluation_reports(path: Path) -> Iterator[Path]:
    file = path.resolve()
    run = file.parents[1] if file.parent.name == "checkpoints" else file.parent
    for folder in dict.fromkeys((run, EVALUATIONS.resolve())):
        # An evaluation of several checkpoints has a folder for each of them.
        for pattern in ("*/report.json", "*/*/report.json"):
            yield from folder.glob(pattern)


def _validation_threshold(report: Path, sha256: str) -> float | None:
    try:
        content = read_json(report)
        protocol = content["protocol"]
        if protocol["split"] != "val" or protocol["checkpoint_sha256"] != sha256:
            return None
        value = float(content["metrics"]["val/best_threshold_f1"])
    except (OSError, UserError, ValueError, KeyError, TypeError):
        return None  # the report of a training run or of a comparison, or no report of ours
    return value if 0 <= value <= 1 else None


def write_threshold(path: Path, threshold: float, *, split_sha256: str, tta: str) -> None:
    """Make `threshold` (0..1), found on the val split of that hash under `tta`, the checkpoint's own.

    Everything else in the file stays as it is. The file is replaced at once, so a reader never meets half of one.
    Raises `UserError` where `read` does, for another value, for a model of several classes, and if the file cannot
    be written.
    """
    contents = read_own(path)
    about = contents["segmentation"]
    if not Classes.from_dict(about["classes"]).binary:
        raise UserError(f"{path} has several classes and no threshold: leave write_threshold out.")
    about["threshold"] = _threshold(threshold)
    about["threshold_source"] = f"{_BEST} {split_sha256}" + ("" if tta == "none" else f" (tta: {tta})")
    _rewrite(path, contents, "threshold")


def write_temperature(path: Path, decision: Decision) -> None:
    """Make the temperature of `decision`, and the threshold that moved with it, the checkpoint's own.

    Otherwise as `write_threshold`.
    """
    contents = read_own(path)
    about = contents["segmentation"]
    about["temperature"] = _temperature(decision.temperature)
    about["threshold"] = decision.threshold
    _rewrite(path, contents, "temperature")


def read_own(path: Path) -> dict[str, Any]:
    """As `read`, of a file to be changed. Raises `UserError` also for one that is as on the hub."""
    if path.suffix == ".safetensors":
        raise UserError(
            f"{path} is as on the hub and stays so: this needs the checkpoint that it was made of."
        )
    return read(path)


def _rewrite(path: Path, contents: Mapping[str, Any], changed: str) -> None:
    try:
        with replacing(path.resolve(), "wb") as file:
            torch.save(contents, file)
    except OSError as error:
        raise UserError(
            f"The {changed} was not written to {path} ({error.strerror}): make it writable."
        ) from error


def _check_size_of_model(description: Mapping[str, Any], contents: Mapping[str, Any]) -> None:
    """Raises `UserError` where the described model has other numbers of weights than the file holds.

    The model is built without memory for its weights first, because a description may ask for terabytes.
    """
    with torch.device("meta"):
        model = call("checkpoint", create_segmenter, **description)
    described = sum(value.numel() for value in model.state_dict().values())
    held = sum(value.numel() for value in model_weights(contents).values())
    if described != held:
        raise UserError(
            f"It describes a model of {described} numbers and holds {held}: ask its maker for another."
        )


def _check_outputs(model: Segmenter | OnnxNetwork, classes: Classes) -> None:
    outputs = model.description["outputs"]
    if outputs != classes.outputs:
        kind = "binary" if classes.binary else "several"
        raise UserError(
            f"The model has {outputs} outputs, its {len(classes)} classes ({kind}) need {classes.outputs}: "
            "ask its maker for another."
        )


def _check_finite(model: Segmenter) -> None:
    for name, values in model.state_dict().items():
        if not bool(torch.isfinite(values).all()):
            raise UserError(
                f"The weights {name} are not finite: the training diverged. Take an earlier checkpoint."
            )


def _threshold(given: Any) -> float:
    value = float(given)
    if not 0 <= value <= 1:
        raise UserError(f"Its threshold is {value:g}, not within 0 to 1: ask its maker for another.")
    return value


def _temperature(given: Any) -> float:
    value = float(given)
    if not 0.01 <= value <= 100:
        raise UserError(f"Its temperature is {value:g}, not within 0.01 to 100: ask its maker for another.")
    return value


def _source(given: Any) -> str:
    if not isinstance(given, str) or not given.isprintable() or len(given) > _LONGEST_SOURCE:
        raise UserError("Its threshold_source is not a short line of text: ask its maker for another.")
    return given


def _pixel_range(given: Any) -> PixelRange | None:
    return None if given is None else PixelRange.from_list(given)


def _training(contents: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of the training; earlier checkpoints know its epoch alone."""
    about = contents["segmentation"].get("training", {})
    found = {"epoch": int(contents["epoch"]) + 1} if "epoch" in contents else {}
    if "max_epochs" in about:
        found["max_epochs"] = int(about["max_epochs"])
    texts = {
        key: one_line(about[key]) for key in ("loss", "weights", "licence") if isinstance(about.get(key), str)
    }
    return found | texts


def _size(given: Any) -> tuple[int, int]:
    height, width = (int(side) for side in given)
    if min(height, width) < 1 or max(height, width) > _LONGEST_SIDE:
        raise UserError(f"Its input size is {height}x{width}: ask its maker for another.")
    return height, width


def _tile(given: Any) -> int | None:
    if given is None:
        return None
    tile = int(given)
    if not 16 <= tile <= 2 * _LONGEST_SIDE:
        raise UserError(f"Its tiles are {tile} pixels wide: ask its maker for another.")
    return tile


def model_weights(contents: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The segmenter's state dict from the contents of a checkpoint."""
    weights: dict[str, torch.Tensor] = contents["state_dict"]
    return {name.removeprefix(_PREFIX): value for name, value in weights.items() if name.startswith(_PREFIX)}
