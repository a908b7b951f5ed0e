"""An ONNX file for Deepness, the plugin of QGIS that computes networks on maps, and the plugin's way of using it.

The plugin (github.com/PUTvision/qgis-plugin-deepness, read in November 2026) gives tiles of one square size, one at a
time or in batches, as float32 (B, C, S, S) in 0..1, and takes one output (B, K, S, S). It sets what lies below a
threshold to nothing, and takes the largest of several classes, or of one class what is left. Its defaults come from
metadata, each a JSON text.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from segmentation.checkpoint import UNFIT, Trained
from segmentation.config import ExportSettings
from segmentation.data.geo import metres_per_pixel
from segmentation.errors import UserError
from segmentation.export.graph import (
    IMAGE,
    LABELS,
    PROBABILITIES,
    Output,
    SameSize,
    describe,
    export_part,
    joined,
    metadata,
    quiet,
)
from segmentation.export.preprocessing import Resize
from segmentation.models.onnx_network import LOGITS, PIXELS, import_onnx, read_model, session

if TYPE_CHECKING:
    from onnx import ModelProto

_OVERLAP = 15  # percent of a tile, about the eighth that `predict.py` takes


class UnitInput(nn.Module):
    """Pixels in 0..1, float32 (B, C, S, S) -> raw pixels (B, C, h, w), resized to `size` if there is one."""

    def __init__(self, size: tuple[int, int] | None) -> None:
        super().__init__()
        self._resize = Resize(size) if size else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        # Rounded, because they were bytes: a 255th is no number of float32.
        pixels_BCHW: Tensor = self._resize((image * 255).round())
        return pixels_BCHW


def tile_side(trained: Trained) -> int:
    """The side of the square tiles, in pixels: those of training, else its images."""
    return trained.tile or max(trained.size)


def qgis_graph(network: "ModelProto", path: Path, trained: Trained, settings: ExportSettings) -> "ModelProto":
    """The network of the checkpoint `path` as the plugin wants it: one tile in, its probabilities out."""
    onnx, _ = import_onnx()
    channels, outputs, side = trained.channels, trained.classes.outputs, tile_side(trained)
    size = trained.size if trained.resize and trained.size != (side, side) else None
    image = torch.zeros(2, channels, side, side + 5)  # torch takes equal sides for one
    logits_BKHW = torch.zeros(2, outputs, *(size or image.shape[2:]))
    with quiet():
        first = export_part(UnitInput(size), {IMAGE: image}, [PIXELS])
        if size:
            output = Output(trained.decision, "nchw")
            last = export_part(output, {LOGITS: logits_BKHW, IMAGE: image}, [LABELS, PROBABILITIES])
        else:
            last = export_part(SameSize(trained.decision), {LOGITS: logits_BKHW}, [LABELS, PROBABILITIES])
    float32, tensor = onnx.TensorProto.FLOAT, onnx.helper.make_tensor_value_info
    inner = [1, None, *(size or (side, side))]
    whole = joined(
        {"input": first, "network": network, "output": last},
        tensor(IMAGE, float32, [1, channels, side, side]),
        [tensor(PROBABILITIES, float32, [1, outputs, side, side])],
        [tensor(PIXELS, float32, inner), tensor(LOGITS, float32, inner)],
    )
    describe(whole, {**metadata(path, settings), "layout": "nchw", **_defaults(trained)})
    return whole


def _defaults(trained: Trained) -> dict[str, Any]:
    """What the plugin's form is filled with."""
    side, channels = tile_side(trained), trained.channels
    resolution = _centimetres(trained)
    return {
        "model_type": "Segmentor",
        "class_names": {str(index): name for index, name in enumerate(trained.classes.names)},
        **({} if resolution is None else {"resolution": resolution}),
        "tile_size": side,  # the code reads this one, the documentation names the other
        "tiles_size": side,
        "tiles_overlap": _OVERLAP,
        # The graph normalises: older versions of the plugin do not.
        "standardization_mean": [0.0] * channels,
        "standardization_std": [1.0] * channels,
        # Of several classes the most probable one counts, also where none is sure.
        "seg_thresh": trained.decision.threshold if trained.classes.binary else 0.0,
        "seg_small_segment": 0,
    }


def _centimetres(trained: Trained) -> float | None:
    """Of a pixel of the training's rasters, if they are maps and can be read."""
    if trained.dataset.get("name") != "geotiff":
        return None
    try:
        return round(100 * metres_per_pixel(trained.dataset), 3)
    except (UserError, *UNFIT):
        return None


class QgisFile:
    """The file as the plugin uses it."""

    def __init__(self, file: Path, trained: Trained) -> None:
        self._session = session(read_model(file).SerializeToString())
        self._threshold = _defaults(trained)["seg_thresh"]
        self._binary = trained.classes.binary

    def __call__(self, pictures_HWC: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Labels (B, S, S) and probabilities (B, K, S, S)."""
        tiles_BCHW = (np.stack(pictures_HWC).transpose(0, 3, 1, 2) / 255.0).astype(np.float32)
        answers = [self._session.run(None, {IMAGE: tile_CHW[None]})[0] for tile_CHW in tiles_BCHW]
        found_BKHW = np.concatenate(answers)
        kept_BKHW = np.where(found_BKHW < self._threshold, 0, found_BKHW)
        labels_BHW = kept_BKHW[:, 0] != 0 if self._binary else kept_BKHW.argmax(axis=1)
        return labels_BHW.astype(np.uint8), found_BKHW
