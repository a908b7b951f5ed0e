"""Exported files for the tests: what export.py would write, with each part exported once in a process."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml
from conftest import CONF
from torch import Tensor, nn

from segmentation import export
from segmentation.config import Budget, read_export_settings
from segmentation.export import certificate, graph, qgis
from segmentation.export.certificate import Bounds

PLAIN = {"backbone": {"source": "timm", "name": "test_resnet"}, "head": {"name": "fcn"}}
"""A network of few layers: an export takes as long as it has layers."""

QUICK = Budget(warmup=0, seconds=0.01, steps=1)
LOOSE = {
    # The made network amplifies rounding: torch in float32 is 5e-5 off itself in float64, and INT8 is far off.
    "fp32": Bounds(1e-3, 0.999),
    "fp16": Bounds(0.5, 0.9),
    "int8": Bounds(None, 0.5, 1.0, 1.0),
}

_parts: dict[Any, onnx.ModelProto] = {}
_export_part = graph.export_part


def config(source: Path, **options: Any) -> dict[str, Any]:
    """What export.py would make of its command line."""
    defaults = yaml.safe_load((CONF / "export.yaml").read_text())
    own = {key: value for key, value in defaults.items() if key not in ("defaults", "hydra")}
    return {**own, "checkpoint": str(source), **options}


def exported(source: Path, **options: Any) -> Path:
    """The file that export.py writes."""
    settings = read_export_settings(config(source, **options))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificate, "_BUDGET", QUICK)
        patch.setattr(export, "BOUNDS", LOOSE)
        for module in (graph, qgis):
            patch.setattr(module, "export_part", _remembered)
        export.export(settings)
    return settings.target


def _remembered(
    module: nn.Module, given: Mapping[str, Tensor], outputs: Sequence[str], *sides: tuple[int, int]
) -> onnx.ModelProto:
    weights = tuple(float(value.double().sum()) for value in module.state_dict().values())
    shapes = tuple((name, tuple(values.shape)) for name, values in given.items())
    key = (type(module).__name__, weights, shapes, sides)
    if key not in _parts:
        _parts[key] = _export_part(module, given, outputs, *sides)
    return deepcopy(_parts[key])
