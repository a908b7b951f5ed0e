"""The certificate of an exported file: how far its answers are from the checkpoint's, and what it costs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segmentation.checkpoint import Trained
from segmentation.config import Budget, ExportSettings
from segmentation.data.augmentation import resize_image
from segmentation.environment import command_line, device_name, versions
from segmentation.export.graph import IMAGE, LABELS, PROBABILITIES
from segmentation.inference import Predictor
from segmentation.models.onnx_network import import_onnx, read_model, session
from segmentation.reading import file_hash
from segmentation.timing import measure

LARGEST_DIFFERENCE = 1e-4
"""Of a probability, which a file of float32 may have."""

LEAST_AGREEMENT = 0.9999
"""The share of pixels with the checkpoint's label."""

_BATCHES = (1, 2)
_BUDGET = Budget(warmup=1, seconds=2.0, steps=20)
_SMALL = (33, 45)
_CELL = 16  # pixels between the colours of a made picture


def certify(file: Path, trained: Trained, settings: ExportSettings) -> dict[str, Any]:
    """Compares the whole file with the checkpoint, both in float32 on the processor, on made pictures.

    The sizes are the model's own, an odd one below it, an odd one above twice its height, whose resize is another, and
    a small one: a network with a condition on the size would answer otherwise there.
    """
    predictor = Predictor(trained, device="cpu", precision="32-true")
    whole = _Whole(file, settings)
    rows: list[dict[str, Any]] = []
    for size in _sizes(trained.size):
        for batch in _BATCHES:
            pictures = [_picture(size, trained.channels, seed) for seed in range(batch)]
            labels_BHW, found_BKHW = whole(pictures)
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
    one = [_picture(trained.size, trained.channels, 0)]
    passed = all(
        row["largest_difference"] <= LARGEST_DIFFERENCE and row["label_agreement"] >= LEAST_AGREEMENT
        for row in rows
    )
    return {
        "passed": passed,
        "bounds": {"largest_difference": LARGEST_DIFFERENCE, "label_agreement": LEAST_AGREEMENT},
        "agreement": rows,
        "latency": {
            "size": list(trained.size),
            "checkpoint_ms": 1000 * measure(lambda: predictor.window_probabilities(one), _BUDGET).median,
            "file_ms": 1000 * measure(lambda: whole(one), _BUDGET).median,
        },
        "file": {"sha256": file_hash(file), "bytes": file.stat().st_size},
        "environment": {
            "device": device_name(torch.device("cpu")),
            "command": command_line(),
            **versions(),
            **{module.__name__: module.__version__ for module in import_onnx()},
        },
    }


class _Whole:
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
    return [size, (3 * height // 4 | 1, 2 * width // 3 | 1), (2 * height + 5, width + 7 | 1), _SMALL]


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
    kept = "within" if certificate["passed"] else "OUTSIDE"
    lines.append(
        f"{kept} the bounds: probabilities differ by {bounds['largest_difference']:g} at most, "
        f"{bounds['label_agreement']:.2%} of the labels are the same"
    )
    return "\n".join(lines)


def _verified(verify: Mapping[str, Any]) -> list[str]:
    lines = [f"{verify['images']} images of {verify['split']}", f"{'IoU':24} {'checkpoint':>10} {'file':>10}"]
    before, after = verify["checkpoint"], verify["file"]
    lines += [
        f"{name[:24]:24} {before['iou'][name]:>10.4f} {after['iou'][name]:>10.4f}" for name in before["iou"]
    ]
    return [*lines, f"{'mean':24} {before['miou']:>10.4f} {after['miou']:>10.4f}"]
