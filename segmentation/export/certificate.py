"""The certificate of an exported file: how far its answers are from the checkpoint's, and what it costs."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segmentation.checkpoint import Trained
from segmentation.config import Budget, ExportPrecision, ExportSettings
from segmentation.data.augmentation import resize_image
from segmentation.environment import command_line, device_name, versions
from segmentation.errors import one_line
from segmentation.export.graph import IMAGE, LABELS, PROBABILITIES
from segmentation.inference import Predictor
from segmentation.models.onnx_network import import_onnx, read_model, session
from segmentation.reading import file_hash
from segmentation.timing import measure

Answers = Callable[[list[np.ndarray]], tuple[np.ndarray, np.ndarray]]
"""The file: pictures of one size, uint8 (H, W, C) each -> labels (B, H, W) and probabilities (B, K, H, W)."""


@dataclass(frozen=True)
class Bounds:
    """What a file may lose, and still be called by its name."""

    largest_difference: float | None
    """Of a probability; None: of INT8, single pixels at borders differ as much as they can."""
    label_agreement: float
    """The least share of pixels with the checkpoint's label, in each row."""
    miou_lost: float = 0.01
    """With `verify`."""
    class_iou_lost: float = 0.03
    """With `verify`: of any class."""


BOUNDS: Mapping[ExportPrecision, Bounds] = {
    "fp32": Bounds(1e-4, 0.9999),
    "fp16": Bounds(0.05, 0.995),
    "int8": Bounds(None, 0.95),
}

_BATCHES = (1, 2)
_BUDGET = Budget(warmup=1, seconds=2.0, steps=20)
_SMALL = (33, 45)
_WORST = 5  # layers on the console
_CELL = 16  # pixels between the colours of a made picture


def certify(
    file: Path,
    answers: Answers,
    trained: Trained,
    bounds: Bounds,
    pictures_HWC: Sequence[np.ndarray] = (),
    sizes: Sequence[tuple[int, int]] | None = None,
    small: bool = True,
) -> dict[str, Any]:
    """Compares the whole file with the checkpoint, which computes in float32 on the processor.

    The sizes, unless the file takes but some, are the model's own, an odd one below it, an odd one above twice its
    height, whose resize is another, and with `small` a small one: a network with a condition on the size would answer
    otherwise there. It is for float32: its few pixels say little of a lower precision. The pictures are made unless
    some are given: INT8 is right for values as they were measured, and a made picture has others.
    """
    predictor = Predictor(trained, device="cpu", precision="32-true")
    rows: list[dict[str, Any]] = []
    given = itertools.cycle(pictures_HWC)
    for size in sizes or [*_sizes(trained.size), *([_SMALL] if small else [])]:
        for batch in _BATCHES:
            made = (_picture(size, trained.channels, seed) for seed in range(batch))
            own = (fitted(next(given), size, resize=trained.resize) for _ in range(batch))
            pictures = list(own if pictures_HWC else made)
            labels_BHW, found_BKHW = answers(pictures)
            expected_BKHW = predictor.window_probabilities(pictures)
            same = labels_BHW == predictor.labels(torch.from_numpy(expected_BKHW)).numpy()
            rows.append(
                {
                    "size": list(size),
                    "batch": batch,
                    "largest_difference": float(np.abs(found_BKHW - expected_BKHW).max()),
                    "label_agreement": float(same.mean()),
                }
            )
    own_size = sizes[0] if sizes else trained.size
    one = [_picture(own_size, trained.channels, 0)]
    return {
        "bounds": asdict(bounds),
        "pictures": "of calibration" if pictures_HWC else "made",
        "agreement": rows,
        "latency": {
            "size": list(own_size),
            "checkpoint_ms": 1000 * measure(lambda: predictor.window_probabilities(one), _BUDGET).median,
            "file_ms": 1000 * measure(lambda: answers(one), _BUDGET).median,
        },
        "file": {"sha256": file_hash(file), "bytes": file.stat().st_size},
        "environment": {
            "device": device_name(torch.device("cpu")),
            "command": command_line(),
            **versions(),
            **{
                name: version(name)
                for name in ("onnx", "onnxruntime", "safetensors")
                if find_spec(name) is not None
            },
        },
    }


def faults(certificate: Mapping[str, Any]) -> Iterator[str]:
    """What is outside the bounds, in words."""
    bounds, rows = Bounds(**certificate["bounds"]), certificate["agreement"]
    worst = max(rows, key=lambda row: np.nan_to_num(row["largest_difference"], nan=np.inf))
    if bounds.largest_difference is not None and not worst["largest_difference"] <= bounds.largest_difference:
        yield (
            f"a probability differs by {worst['largest_difference']:.1e}{_where(worst)}, more than"
            f" {bounds.largest_difference:g}"
        )
    least = min(rows, key=lambda row: np.nan_to_num(row["label_agreement"], nan=-1.0))
    if not least["label_agreement"] >= bounds.label_agreement:
        yield (
            f"{least['label_agreement']:.2%} of the labels are the same{_where(least)}, less than"
            f" {bounds.label_agreement:.2%}"
        )
    outside = [row["size"] for row in rows if not _agrees(row, bounds)]
    if outside and all(size == list(_SMALL) for size in outside):
        yield (
            "only small pictures are answered otherwise: the network has a condition on the size, as Swin's windows"
            " have, of which a file keeps one branch"
        )
    if "verify" in certificate:
        before, after = certificate["verify"]["checkpoint"], certificate["verify"]["file"]
        if before["miou"] - after["miou"] > bounds.miou_lost:
            yield f"mIoU falls from {before['miou']:.4f} to {after['miou']:.4f}"
        for name, iou in before["iou"].items():
            if iou - after["iou"][name] > bounds.class_iou_lost:
                yield f"the IoU of {one_line(name)} falls from {iou:.4f} to {after['iou'][name]:.4f}"


def _agrees(row: Mapping[str, Any], bounds: Bounds) -> bool:
    differs = bounds.largest_difference
    near = differs is None or row["largest_difference"] <= differs
    return bool(near and row["label_agreement"] >= bounds.label_agreement)


def _where(row: Mapping[str, Any]) -> str:
    height, width = row["size"]
    return f" at {width}x{height}"


class OnnxFile:
    """The file as a stranger uses it, with its probabilities even where it does not give them."""

    def __init__(self, file: Path, settings: ExportSettings) -> None:
        model = read_model(file)
        if PROBABILITIES not in settings.kinds:
            onnx, _ = import_onnx()
            model.graph.output.append(
                onnx.helper.make_tensor_value_info(PROBABILITIES, onnx.TensorProto.FLOAT, None)
            )
        self._session = session(model.SerializeToString())
        self._layout = settings.layout

    def __call__(self, pictures_HWC: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        image = np.stack(pictures_HWC)
        if self._layout == "nchw":
            image = np.ascontiguousarray(image.transpose(0, 3, 1, 2))
        labels_BHW, found_BKHW = self._session.run([LABELS, PROBABILITIES], {IMAGE: image})
        return labels_BHW, found_BKHW


def _sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    height, width = size
    return [size, (3 * height // 4 | 1, 2 * width // 3 | 1), (2 * height + 5, width + 7 | 1)]


def fitted(picture_HWC: np.ndarray, size: tuple[int, int], *, resize: bool) -> np.ndarray:
    """The picture at `size`: the middle of it, or with `resize`, and where it is smaller, all of it resized."""
    spare = [(side - wanted) // 2 for side, wanted in zip(picture_HWC.shape, size, strict=False)]
    if resize or min(spare) < 0:
        return resize_image(picture_HWC, size)
    return np.ascontiguousarray(picture_HWC[spare[0] :, spare[1] :][: size[0], : size[1]])


def _picture(size: tuple[int, int], channels: int, seed: int) -> np.ndarray:
    """uint8 (H, W, C): smooth colours, and noise on them."""
    random = np.random.default_rng(seed)
    coarse = tuple(side // _CELL + 2 for side in size)
    smooth_HWC = resize_image(random.integers(0, 256, (*coarse, channels), dtype=np.uint8), size)
    return (smooth_HWC + random.integers(-8, 9, smooth_HWC.shape)).clip(0, 255).astype(np.uint8)


def as_text(certificate: Mapping[str, Any]) -> str:
    """The certificate as lines for the console."""
    latency, bounds = certificate["latency"], certificate["bounds"]
    lines = [f"{'size':>11} {'batch':>5} {'largest difference':>18} {'same labels':>12}"]
    for row in certificate["agreement"]:
        height, width = row["size"]
        lines.append(
            f"{f'{width}x{height}':>11} {row['batch']:>5} {row['largest_difference']:>18.1e}"
            f" {row['label_agreement']:>12.4%}"
        )
    height, width = latency["size"]
    lines.append(
        f"{certificate['file']['bytes'] / 1e6:.1f} MB; one picture of {width}x{height}: "
        f"{latency['file_ms']:.1f} ms, the checkpoint {latency['checkpoint_ms']:.1f} ms"
    )
    if "verify" in certificate:
        lines += _verified(certificate["verify"])
    if "damage" in certificate:
        lines += _damage(certificate["damage"])
    if certificate["passed"]:
        difference = bounds["largest_difference"]
        probabilities = "" if difference is None else f"probabilities differ by {difference:g} at most, "
        lines.append(
            f"within the bounds: {probabilities}{bounds['label_agreement']:.2%} of the labels are the same"
        )
    else:
        lines.append(f"OUTSIDE the bounds: {'; '.join(certificate['faults'])}")
    return "\n".join(lines)


def _damage(costs: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [f"{'what INT8 of one layer does':40} {'mean difference':>15} {'labels changed':>15}"]
    return lines + [
        f"{cost['layer'][-40:]:40} {cost['mean_difference']:>15.1e} {cost['labels_changed']:>15.4%}"
        for cost in costs[:_WORST]
    ]


def _verified(verify: Mapping[str, Any]) -> list[str]:
    lines = [f"{verify['images']} images of {verify['split']}", f"{'IoU':24} {'checkpoint':>10} {'file':>10}"]
    before, after = verify["checkpoint"], verify["file"]
    lines += [
        f"{name[:24]:24} {before['iou'][name]:>10.4f} {after['iou'][name]:>10.4f}" for name in before["iou"]
    ]
    return [*lines, f"{'mean':24} {before['miou']:>10.4f} {after['miou']:>10.4f}"]
