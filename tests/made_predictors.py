"""Predictors for the tests: a model whose answers can be known, and real checkpoints of an untrained one."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from segmentation.checkpoint import Trained, describe
from segmentation.inference import Predictor
from segmentation.models import Decision, create_segmenter
from segmentation.types import Classes

NAMES = ("ground", "roof", "road")
REACH = 3


class Near(nn.Module):
    """Logits of a pixel from those at most `REACH` pixels away: smoothed channels, a class each."""

    channels = 3

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, image_BCHW: Tensor) -> Tensor:
        smooth_BCHW = avg_pool2d(image_BCHW.float() - 128, 2 * REACH + 1, stride=1, padding=REACH)
        return smooth_BCHW[:, : self.outputs] / 10


def classes(binary: bool) -> Classes:
    return Classes(("background", "thing"), binary=True) if binary else Classes(NAMES)


def near(
    *, binary: bool = False, size: tuple[int, int] = (64, 64), resize: bool = False, **how: Any
) -> Predictor:
    """A predictor of `Near` in float32."""
    known = classes(binary)
    model: Any = Near(known.outputs)
    trained = Trained(model, known, Decision(binary, 0.4), size, resize, {}, {})
    return Predictor(trained, **{"precision": "32-true", "device": "cpu", **how})


SMALL = {"backbone": {"name": "mobilenet_v3_small"}, "head": {"name": "deeplabv3"}}


def write_checkpoint(
    path: Path,
    *,
    binary: bool = False,
    resize: bool = True,
    network: dict[str, Any] = SMALL,
    known: Classes | None = None,
    **about: Any,
) -> Path:
    """A checkpoint file of a small model that answers differently to different images."""
    torch.manual_seed(0)
    known = known or classes(binary)
    model = create_segmenter(**network, outputs=known.outputs)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        norm.momentum = 1.0
    with torch.no_grad():  # fresh statistics would let the signal fade until all images look the same
        model.train()(torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8))
    plain = {"threshold": 0.5, "size": (64, 64), "protocol": {}, "dataset": {"name": "shapes"}}
    described = describe(model, known, resize=resize, **{**plain, **about})
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"segmentation": described, "state_dict": state}, path)
    return path
