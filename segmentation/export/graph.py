"""A checkpoint as one ONNX graph: bytes of a picture in, labels and probabilities at its size out.

The graph is joined of three parts, each exported by torch: the input (layout, resize), the network, which begins at
`pixels` and ends at `logits`, and the decision. So the network takes any size also where the input is resized to one,
and `OnnxNetwork` finds it again.
"""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from segmentation import checkpoint
from segmentation.checkpoint import Trained
from segmentation.config import ExportSettings, Layout
from segmentation.errors import UserError, one_line
from segmentation.export.preprocessing import Resize
from segmentation.models import Decision
from segmentation.models.compile import free_sizes
from segmentation.models.onnx_network import LOGITS, PIXELS, graphs, import_onnx
from segmentation.reading import file_hash

if TYPE_CHECKING:
    from onnx import ModelProto

IMAGE, LABELS, PROBABILITIES = "image", "labels", "probabilities"
"""The names of a file's input and outputs."""

SEGMENTER = "_segmenter."
"""What the names of the network's weights and scopes begin with."""

_OPSET = 18  # the oldest that torch writes: older runtimes read the file, too
_MIN_SIDE = 32  # pixels, as in `Segmenter`


class Input(nn.Module):
    """Bytes (B, H, W, C) or (B, C, H, W) -> raw pixels float32 (B, C, h, w), resized to `size` if there is one."""

    def __init__(self, layout: Layout, size: tuple[int, int] | None) -> None:
        super().__init__()
        self._layout = layout
        self._resize = Resize(size) if size else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        image_BCHW = image.permute(0, 3, 1, 2) if self._layout == "nhwc" else image
        pixels_BCHW: Tensor = self._resize(image_BCHW.float())
        return pixels_BCHW


class Network(nn.Module):
    """The segmenter for any size: pictures smaller than it takes are continued at their edge, as it does itself.

    Its own way has a condition on the size, which would fix the size of the example.
    """

    def __init__(self, segmenter: nn.Module) -> None:
        super().__init__()
        self._segmenter = segmenter

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        height, width = pixels_BCHW.shape[-2:]
        rows, columns = (
            torch.arange(torch.sym_max(side, _MIN_SIDE)).clamp(max=side - 1) for side in (height, width)
        )
        logits_BKHW: Tensor = self._segmenter(pixels_BCHW[:, :, rows][:, :, :, columns])
        return logits_BKHW[..., :height, :width]


class Output(nn.Module):
    """Logits -> labels uint8 (B, H, W) and probabilities float32 (B, K, H, W), at the size of the image."""

    def __init__(self, decision: Decision, layout: Layout) -> None:
        super().__init__()
        self._decision = decision
        self._layout = layout

    def forward(self, logits_BKHW: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        height, width = image.shape[1:3] if self._layout == "nhwc" else image.shape[2:]
        logits_BKHW = interpolate(logits_BKHW, size=(height, width), mode="bilinear", align_corners=False)
        probabilities_BKHW = self._decision.probabilities(logits_BKHW)
        return self._decision.most_probable(probabilities_BKHW), probabilities_BKHW


class SameSize(nn.Module):
    """As `Output` where the logits have the size of the image already."""

    def __init__(self, decision: Decision) -> None:
        super().__init__()
        self._decision = decision

    def forward(self, logits_BKHW: Tensor) -> tuple[Tensor, Tensor]:
        probabilities_BKHW = self._decision.probabilities(logits_BKHW)
        return self._decision.most_probable(probabilities_BKHW), probabilities_BKHW


def export_network(trained: Trained) -> "ModelProto":
    """The network from `pixels` to `logits`, for any batch, height and width.

    Raises `UserError` for a model that torch cannot export, and where onnx or onnxscript are missing.
    """
    import_onnx()
    model = trained.model.eval().requires_grad_(False)
    # A network with a condition on the size, as Swin's windows have, keeps the branch of the example: that of the size
    # it was trained on. The sides differ, so that none is taken for the other.
    with quiet():
        return export_part(
            Network(model), {PIXELS: torch.zeros(2, trained.channels, *_example(trained))}, [LOGITS]
        )


def _example(trained: Trained) -> tuple[int, int]:
    height, width = trained.size
    return height, width + 5 if height == width else width


def whole_graph(
    network: "ModelProto", path: Path, trained: Trained, settings: ExportSettings
) -> "ModelProto":
    """The network of the checkpoint `path` with what lies before and behind it, and with its metadata."""
    onnx, _ = import_onnx()
    channels, layout = trained.channels, settings.layout
    height, width = _example(trained)
    shape = (2, height, width, channels) if layout == "nhwc" else (2, channels, height, width)
    image = torch.zeros(shape, dtype=torch.uint8)
    logits_BKHW = torch.zeros(2, trained.classes.outputs, height, width)
    size = trained.size if trained.resize else None
    sides = (1, 2) if layout == "nhwc" else (2, 3)
    with quiet():
        first = export_part(Input(layout, size), {IMAGE: image}, [PIXELS], sides)
        if size:
            given, output = {LOGITS: logits_BKHW, IMAGE: image}, Output(trained.decision, layout)
            last = export_part(output, given, [LABELS, PROBABILITIES], (2, 3), sides)
        else:
            last = export_part(SameSize(trained.decision), {LOGITS: logits_BKHW}, [LABELS, PROBABILITIES])
    tensor, float32, uint8 = (
        onnx.helper.make_tensor_value_info,
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.UINT8,
    )
    outputs = {
        LABELS: tensor(LABELS, uint8, ["batch", "height", "width"]),
        PROBABILITIES: tensor(PROBABILITIES, float32, ["batch", trained.classes.outputs, "height", "width"]),
    }
    free = (
        ["batch", "height", "width", channels] if layout == "nhwc" else ["batch", channels, "height", "width"]
    )
    inner = ["batch", None, "rows", "columns"]
    whole = joined(
        {"input": first, "network": network, "output": last},
        tensor(IMAGE, uint8, free),
        [outputs[name] for name in settings.kinds],
        [tensor(PIXELS, float32, inner), tensor(LOGITS, float32, inner)],
    )
    describe(whole, metadata(path, settings))
    return whole


def export_part(
    module: nn.Module, given: Mapping[str, Tensor], outputs: Sequence[str], *sides: tuple[int, int]
) -> "ModelProto":
    """The module as an ONNX model; batches and the `sides` of each input (else axes 2 and 3) are free.

    Raises `UserError` for a module that torch cannot export.
    """
    free = torch.export.Dim.DYNAMIC
    every = [*sides, *[(2, 3)] * (len(given) - len(sides))]
    shapes = tuple({0: free, rows: free, columns: free} for rows, columns in every)
    try:
        with free_sizes():
            program = torch.onnx.export(
                module.eval(),
                tuple(given.values()),
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=list(given),
                output_names=list(outputs),
                opset_version=_OPSET,
                verbose=False,
            )
    except ModuleNotFoundError as error:
        raise UserError(f"ONNX files need {error.name}: pip install '.[export]'.") from error
    except Exception as error:  # torch raises many kinds; the first cause says which operation it was
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        text = one_line(next(iter(str(cause).strip().splitlines()), type(cause).__name__))
        raise UserError(f"The model cannot be exported to ONNX: {text}") from error
    assert program is not None
    return program.model_proto


def joined(
    parts: Mapping[str, "ModelProto"], image: Any, outputs: Sequence[Any], seams: Sequence[Any]
) -> "ModelProto":
    """The parts, which share the names of their inputs and outputs, as one model."""
    onnx, _ = import_onnx()
    nodes, weights, first = [], [], next(iter(parts.values()))
    for name, part in parts.items():
        if (
            part is not first
        ):  # `add_prefix` leaves names as they are inside conditions, which the first part has
            part = onnx.compose.add_prefix(part, f"{name}/", rename_inputs=False, rename_outputs=False)
        nodes += part.graph.node
        weights += part.graph.initializer
    graph = onnx.helper.make_graph(nodes, "segmentation", [image], outputs, value_info=seams)
    used = {name for inner in graphs(graph) for node in inner.node for name in node.input}
    graph.initializer.extend(weight for weight in weights if weight.name in used)
    return onnx.helper.make_model(
        graph, opset_imports=first.opset_import, ir_version=first.ir_version, producer_name="segmentation"
    )


def describe(model: "ModelProto", about: Mapping[str, Any]) -> None:
    """Puts plain data into the model's metadata, as JSON by key."""
    onnx, _ = import_onnx()
    onnx.helper.set_model_props(
        model, {key: json.dumps(value, ensure_ascii=False) for key, value in about.items()}
    )


def metadata(path: Path, settings: ExportSettings) -> dict[str, Any]:
    """What the checkpoint says of itself, and how it was exported."""
    contents = checkpoint.read(path)
    return {
        **contents["segmentation"],
        **({"epoch": int(contents["epoch"])} if "epoch" in contents else {}),
        "layout": settings.layout,
        "precision": settings.precision,
        "keep_float": settings.kept,
        "checkpoint_sha256": file_hash(path),
    }


@contextmanager
def quiet() -> Iterator[None]:
    """torch tells of its own deprecations, and logs what it folds."""
    logs = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [log.level for log in logs]
    with warnings.catch_warnings(action="ignore"):
        try:
            for log in logs:
                log.setLevel(logging.ERROR)
            yield
        finally:
            for log, level in zip(logs, levels, strict=True):
                log.setLevel(level)
