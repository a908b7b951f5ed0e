"""A network that ONNX Runtime computes: read from a file of `export.py`, used in place of a `Segmenter`.

A file from somebody else runs no foreign code: it has ONNX's own operators and weights of its own, and nothing else.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from segmentation.errors import UserError, one_line

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

ENDING = ".onnx"

PIXELS, LOGITS = "pixels", "logits"
"""Where the network begins and ends in a file: raw pixels (B, C, H, W) as float32, logits (B, K, H, W) of that size."""

_LARGEST = 2**31 - 1  # bytes of a protobuf
_DESCRIBED = ("backbone", "head", "outputs", "output_stride", "channels", "aux")
_MOST_METADATA = 2**22  # letters; ours have some thousands
_OWN_DOMAINS = ("", "ai.onnx")


def is_exported(path: Path) -> bool:
    """Whether the file is an exported model by its name."""
    return path.suffix.lower() == ENDING


def import_onnx() -> tuple[ModuleType, ModuleType]:
    """onnx and onnxruntime. Raises `UserError` where they are missing."""
    try:
        import onnx
        import onnxruntime
    except ModuleNotFoundError as error:
        raise UserError(f"ONNX files need {error.name}: pip install '.[export]'.") from error
    return onnx, onnxruntime


def session(model: bytes) -> Any:
    """ONNX Runtime's session of a model on the processor, with as many threads as torch has."""
    _, onnxruntime = import_onnx()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors: they are raised, too
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class OnnxNetwork(nn.Module):
    """Raw pixels to logits as by `Segmenter.forward`, computed by ONNX Runtime in float32 on the processor.

    `description` is that of the checkpoint's model. Raises `UserError` for a graph that ONNX Runtime refuses.
    """

    def __init__(self, name: str, graph: bytes, description: dict[str, Any], weight_count: int) -> None:
        super().__init__()
        self.description = description
        self.weight_count = weight_count
        self._name = name
        self._graph = graph
        self._open()

    def _open(self) -> None:
        try:
            self._session = session(self._graph)
        except Exception as error:  # ONNX Runtime raises many kinds
            raise UserError(f"{self._name}: ONNX Runtime cannot use it ({_cause(error)}).") from error

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_session"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    @property
    def channels(self) -> int:
        """Bands of the images that it takes."""
        return int(self.description["channels"])

    def check_use(self, *, device: str, precision: str, compile: bool) -> None:
        """Raises `UserError` for what ONNX Runtime does not do here."""
        if device not in ("auto", "cpu"):
            raise UserError(f"{self._name} is computed on the processor: give accelerator=auto or cpu.")
        if precision not in ("auto", "32", "32-true"):
            raise UserError(
                f"precision={precision} is not for {self._name}, which has its own: leave it out."
            )
        if compile:
            raise UserError(f"compile=true is not for {self._name}, which is compiled: leave it out.")

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Raw pixels 0..255 (uint8 or float) of any height and width -> float32 logits (B, K, H, W)."""
        pixels_BCHW = image_BCHW.detach().to("cpu", torch.float32).contiguous().numpy()
        try:
            (found_BKHW,) = self._session.run([LOGITS], {PIXELS: pixels_BCHW})
        except Exception as error:  # ONNX Runtime raises many kinds
            raise UserError(f"{self._name}: ONNX Runtime cannot compute it ({_cause(error)}).") from error
        batch, _, height, width = pixels_BCHW.shape
        expected = (batch, self.description["outputs"], height, width)
        if found_BKHW.shape != expected:
            raise UserError(
                f"{self._name} answers with {list(found_BKHW.shape)} values instead of {list(expected)}: "
                "ask its maker for another."
            )
        return torch.from_numpy(found_BKHW)


def read(path: Path) -> tuple[dict[str, Any], OnnxNetwork]:
    """The description of an exported model (that of its checkpoint), not yet validated, and its network.

    Raises `UserError` for a file that is missing, damaged, or not of `export.py`, and for one that refers to other
    files or to operators that are not ONNX's own.
    """
    model = read_model(path)
    about = _metadata(path, model)
    network = _network(about.get("model"))
    if network is None:
        raise UserError(f"{path} does not describe its network: export it again, or ask its maker.")
    core, weights = _core(path, model)
    return about, OnnxNetwork(str(path), core, network, weights)


def _network(described: Any) -> dict[str, Any] | None:
    """What reports say of a network; None where it is not described as ours are."""
    network = {key: described.get(key) for key in _DESCRIBED} if isinstance(described, dict) else {}
    parts = [network.get(part) for part in ("backbone", "head")]
    named = all(isinstance(part, dict) and isinstance(part.get("name"), str) for part in parts)
    counts = [network.get(count) for count in ("outputs", "channels")]
    counted = all(isinstance(count, int) and 1 <= count <= 255 for count in counts)
    return network if named and counted else None


def read_model(path: Path) -> "ModelProto":
    """The contents of an ONNX file, in which nothing is foreign. Raises `UserError` as `read` does."""
    onnx, _ = import_onnx()
    if not path.is_file():
        raise UserError(f"There is no file {path}. Give one that export.py wrote.")
    if path.stat().st_size > _LARGEST:
        raise UserError(f"{path} is larger than an ONNX file can be: it was not loaded.")
    try:
        model: ModelProto = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's and the file system's
        raise UserError(f"{path} is damaged or no ONNX file: it was not loaded.") from error
    _refuse_foreign(path, model)
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # the checker's and protobuf's
        raise UserError(f"{path} is no valid ONNX model ({_cause(error)}): it was not loaded.") from error
    return model


def _refuse_foreign(path: Path, model: "ModelProto") -> None:
    domains = {entry.domain for entry in model.opset_import}
    for graph in graphs(model.graph):
        domains |= {node.domain for node in graph.node}
        if any(_is_external(tensor) for tensor in _tensors(graph)):
            raise UserError(
                f"{path} refers to data in other files: it was not loaded. Export it in one file."
            )
    foreign = sorted(domains - {*_OWN_DOMAINS})
    if foreign or model.functions:
        named = one_line(foreign[0]) if foreign else "functions of its own"
        raise UserError(f"{path} has operators that are not ONNX's own ({named}): it was not loaded.")


def graphs(graph: "GraphProto") -> Iterator["GraphProto"]:
    """The graph and those inside its nodes."""
    waiting = [graph]
    while waiting:
        one = waiting.pop()
        yield one
        for node in one.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else []
                waiting += attribute.graphs


def _tensors(graph: "GraphProto") -> Iterator[Any]:
    yield from graph.initializer
    sparse = list(graph.sparse_initializer)
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
    for tensor in sparse:
        yield tensor.values
        yield tensor.indices


def _is_external(tensor: Any) -> bool:
    return bool(tensor.data_location or tensor.external_data)


def _metadata(path: Path, model: "ModelProto") -> dict[str, Any]:
    letters = sum(len(entry.key) + len(entry.value) for entry in model.metadata_props)
    if letters > _MOST_METADATA:
        raise UserError(f"{path} describes itself with {letters} letters: it was not loaded.")
    try:
        return {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} was not written by export.py: it does not say what its model is.") from error


def _core(path: Path, model: "ModelProto") -> tuple[bytes, int]:
    """The part of the file between pixels and logits as a model of its own, and its number of weights."""
    onnx, _ = import_onnx()
    needed, nodes = {LOGITS}, []
    for node in reversed(model.graph.node):  # producers are before their users
        if needed & {*node.output}:
            nodes.append(node)
            needed |= {*node.input} - {PIXELS}
    seams = {info.name: info for info in model.graph.value_info}
    if not {PIXELS, LOGITS} <= seams.keys() or not nodes:
        raise UserError(f"{path} was not written by export.py: it has no {PIXELS} and {LOGITS}.")
    weights = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    graph = onnx.helper.make_graph(nodes[::-1], "network", [seams[PIXELS]], [seams[LOGITS]], weights)
    core = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    scales = {
        name
        for node in nodes
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
        for name in node.input[1:]
    }
    numbers = (
        tensor
        for tensor in weights
        if tensor.data_type != onnx.TensorProto.INT64 and tensor.name not in scales
    )
    return core.SerializeToString(), sum(math.prod(tensor.dims) for tensor in numbers)


def _cause(error: Exception) -> str:
    return one_line(next(iter(str(error).strip().splitlines()), type(error).__name__))
