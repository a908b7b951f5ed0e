"""ONNX networks of fewer bits, fp16 and INT8: what is measured for them, and what it costs each layer.

Only what lies in the backbone and the head has fewer bits. The normalisation before and the resize behind stay in
float32, as do the parts of `keep_float`.
"""

import ast
import logging
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from segmentation.checkpoint import Trained
from segmentation.errors import UserError, closest
from segmentation.export.graph import SEGMENTER
from segmentation.models.onnx_network import LOGITS, PIXELS, import_onnx, session

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_CALIBRATING = 100  # pictures at most
_JUDGING = 12  # pictures of the certificate, which calibration does not see
_FEWEST = 8
_SHOWN = 2  # pictures to which the damage of each layer is measured
_SCOPES = "pkg.torch.onnx.name_scopes"  # where the exporter notes the module of a node
_WEIGHT = ".weight"
_OPERATORS = (
    *("Add", "AveragePool", "Clip", "Concat", "Conv", "Gemm", "GlobalAveragePool", "MatMul", "MaxPool"),
    *("Mul", "Relu", "Resize", "Sigmoid"),
)
"""What ONNX Runtime computes with whole numbers on a processor."""
_ACTIVATIONS = ("Clip", "Relu", "Sigmoid")


@dataclass(frozen=True)
class Pictures:
    """Pictures of the user by number, uint8 (H, W, C); each is read when it is asked for."""

    read: Callable[[int], np.ndarray]
    count: int

    def split(self) -> tuple[Iterator[np.ndarray], list[np.ndarray]]:
        """At most 100 pictures for calibration, and others by which the result is judged.

        Raises `UserError` for too few pictures and for those that cannot be read.
        """
        if self.count < _FEWEST:
            raise UserError(f"calibration has {self.count} pictures: give {_FEWEST} at least.")
        taken = min(self.count, _CALIBRATING + _JUDGING)
        numbers = [round(step * (self.count - 1) / (taken - 1)) for step in range(taken)]
        judging = numbers[:: max(taken // _JUDGING, 2)]
        return (self.read(number) for number in numbers if number not in judging), [
            self.read(number) for number in judging
        ]


def layers(network: "ModelProto") -> dict[str, list[str]]:
    """The names of the network's nodes by layer: a module of the segmenter, in the backbone or the head.

    An activation is of the layer before it: its bounds are those of the values that the layer gives.
    """
    found: dict[str, list[str]] = {}
    of_values: dict[str, str] = {}
    for node in network.graph.node:
        layer = _layer(node)
        if node.op_type in _ACTIVATIONS:
            layer = of_values.get(node.input[0], layer)
        of_values |= dict.fromkeys(node.output, layer)
        if layer and node.op_type in _OPERATORS:
            found.setdefault(layer, []).append(node.name)
    return found


def _layer(node: "NodeProto") -> str:
    """Of a convolution that of its weight: the exporter gives those with a batch norm to the batch norm."""
    weight = next((name for name in node.input[1:2] if name.endswith(_WEIGHT)), "")
    scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
    modules = ast.literal_eval(scopes)[:-1]  # the last is the operation
    name = weight.removesuffix(_WEIGHT) or (modules[-1] if modules else "")
    return name.removeprefix(SEGMENTER) if name.startswith(SEGMENTER) else ""


def kept_layers(network: "ModelProto", trained: Trained, prefixes: Sequence[str]) -> set[str]:
    """The layers of the parts in `keep_float`. Raises `UserError` for an unknown part, and if no layer is left."""
    known = [name for name, _ in trained.model.named_modules() if name]
    for prefix in prefixes:
        if prefix not in known:
            raise UserError(f"keep_float={prefix} is no part of the model.{closest(prefix, known)}")
    every = layers(network)
    kept = {layer for layer in every if any(f"{layer}.".startswith(f"{prefix}.") for prefix in prefixes)}
    if kept == every.keys():
        raise UserError("keep_float keeps every layer: leave it out, or take precision=fp32.")
    return kept


def halved(network: "ModelProto", kept: Collection[str]) -> "ModelProto":
    """The network in float16 but for the layers `kept`; its input and output stay float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    float32 = [node.name for node in network.graph.node if (layer := _layer(node)) in kept or not layer]
    result = convert_float_to_float16(deepcopy(network), keep_io_types=True, node_block_list=float32)
    return _sorted(result)


def _sorted(model: "ModelProto") -> "ModelProto":
    """The model, in place, with nodes behind what they need: new ones are put at the end."""
    from onnxruntime.transformers.onnx_model import OnnxModel

    OnnxModel(model).topological_sort()
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """ONNX Runtime's quantisation tells the root logger of each weight."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


class Quantisation:
    """What INT8 needs to know of a network: the ranges of its values on pictures.

    Weights have 7 bits, per channel: processors without VNNI add two products of 8 bits in 16 and would answer
    otherwise.
    """

    def __init__(self, network: "ModelProto", pixels_BCHW: Iterator[np.ndarray]) -> None:
        from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

        onnx, _ = import_onnx()
        self._network = onnx.shape_inference.infer_shapes(network)
        with TemporaryDirectory() as folder:
            path = Path(folder, "network.onnx")
            path.write_bytes(network.SerializeToString())
            calibrator = create_calibrator(
                path,
                list(_OPERATORS),
                augmented_model_path=str(path.with_name("augmented.onnx")),
                calibrate_method=CalibrationMethod.MinMax,
            )
            with _quiet():
                calibrator.collect_data(_reader(pixels_BCHW))
                self._ranges = calibrator.compute_data()

    def apply(self, chosen: Collection[str]) -> "ModelProto":
        """The network with the layers `chosen` in INT8."""
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        quantizer = QDQQuantizer(
            deepcopy(self._network),
            per_channel=True,
            reduce_range=True,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=deepcopy(self._ranges),  # it writes into them
            nodes_to_quantize=[
                name for layer, names in layers(self._network).items() if layer in chosen for name in names
            ],
            nodes_to_exclude=[],
            op_types_to_quantize=list(_OPERATORS),
            extra_options={},
        )
        with _quiet():
            quantizer.quantize_model()
            return _sorted(quantizer.model.model)

    def damage(
        self, chosen: Collection[str], pixels_BCHW: Sequence[np.ndarray], trained: Trained
    ) -> list[dict[str, Any]]:
        """What INT8 of each layer alone does to the probabilities of a few pictures, the worst first."""
        shown = pixels_BCHW[:_SHOWN]
        exact = _probabilities(self._network, shown, trained)
        costs = []
        for layer in tqdm(chosen, desc="INT8 by layer", leave=False, disable=not sys.stderr.isatty()):
            found = _probabilities(self.apply([layer]), shown, trained)
            pairs = list(zip(found, exact, strict=True))
            changed = [
                trained.decision.most_probable(one) != trained.decision.most_probable(other)
                for one, other in pairs
            ]
            costs.append(
                {
                    "layer": layer,
                    "mean_difference": float(
                        np.mean([float((one - other).abs().mean()) for one, other in pairs])
                    ),
                    "labels_changed": float(np.mean([float(one.float().mean()) for one in changed])),
                }
            )
        return sorted(costs, key=lambda cost: cost["mean_difference"], reverse=True)


def _probabilities(
    network: "ModelProto", pixels_BCHW: Sequence[np.ndarray], trained: Trained
) -> list[torch.Tensor]:
    run = session(network.SerializeToString())
    logits = (torch.from_numpy(run.run([LOGITS], {PIXELS: pixels})[0]) for pixels in pixels_BCHW)
    return [trained.decision.probabilities(one) for one in logits]


def _reader(pixels_BCHW: Iterator[np.ndarray]) -> Any:
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def get_next(self) -> Mapping[str, np.ndarray] | None:
            pixels = next(pixels_BCHW, None)
            return None if pixels is None else {PIXELS: pixels}

    return Reader()
