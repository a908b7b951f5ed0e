"""Files for torch: a program with everything inside, the weights alone, and the weights for torchvision's networks."""

import io
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import get_model

from segmentation import checkpoint, hub
from segmentation.checkpoint import Trained
from segmentation.config import ExportSettings
from segmentation.errors import UserError, one_line
from segmentation.export.graph import Input, Network, Output, SameSize, metadata, quiet
from segmentation.inference import Predictor
from segmentation.models.compile import free_sizes
from segmentation.models.heads import rates_for
from segmentation.models.pretrained import COCO, COCO_RATES

_ABOUT = "segmentation.json"
_PARTS = {"backbone.": "backbone.", "head.": "classifier."}  # our names and torchvision's


class Whole(nn.Module):
    """Bytes of pictures (B, H, W, C) or (B, C, H, W) -> labels (B, H, W) and probabilities (B, K, H, W)."""

    def __init__(self, trained: Trained, settings: ExportSettings) -> None:
        super().__init__()
        size = trained.size if trained.resize else None
        self._input = Input(settings.layout, size)
        self._network = Network(trained.model)
        self._resized = Output(trained.decision, settings.layout) if size else None
        self._same = SameSize(trained.decision)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits_BKHW = self._network(self._input(image))
        answer: tuple[Tensor, Tensor] = (
            self._resized(logits_BKHW, image) if self._resized else self._same(logits_BKHW)
        )
        return answer


def program(path: Path, trained: Trained, settings: ExportSettings) -> bytes:
    """A program of torch.export for any batch, height and width. Raises `UserError` for a model that it refuses."""
    height, width = trained.size
    shape = (2, height + 3, width + 5)
    image = torch.zeros(
        (*shape, trained.channels) if settings.layout == "nhwc" else (2, trained.channels, *shape[1:]),
        dtype=torch.uint8,
    )
    free = torch.export.Dim.DYNAMIC
    rows, columns = (1, 2) if settings.layout == "nhwc" else (2, 3)
    module = Whole(trained, settings).eval().requires_grad_(False)
    try:
        with quiet(), free_sizes():
            exported = torch.export.export(
                module, (image,), dynamic_shapes=({0: free, rows: free, columns: free},)
            )
    except Exception as error:  # torch raises many kinds
        text = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"torch.export cannot take the model: {one_line(text)}") from error
    content = io.BytesIO()
    torch.export.save(exported, content, extra_files={_ABOUT: json.dumps(metadata(path, settings))})
    return content.getvalue()


class ProgramFile:
    """A program as a stranger uses it."""

    def __init__(self, file: Path, settings: ExportSettings) -> None:
        with warnings.catch_warnings(action="ignore"):
            self._run = torch.export.load(file).module()
        self._layout = settings.layout

    def __call__(self, pictures_HWC: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Labels (B, H, W) and probabilities (B, K, H, W)."""
        image = torch.from_numpy(np.stack(pictures_HWC))
        if self._layout == "nchw":
            image = image.permute(0, 3, 1, 2).contiguous()
        with torch.inference_mode():
            labels_BHW, found_BKHW = self._run(image)
        return labels_BHW.numpy(), found_BKHW.numpy()

    def in_place_of(self, trained: Trained) -> Trained:
        """The program as the model of a `Trained`, whose predictor gives it pictures at the size that it resizes to."""
        model: Any = _Program(self, trained)
        return replace(trained, model=model)


class _Program(nn.Module):
    """Raw pixels -> the logits of a program's probabilities."""

    def __init__(self, answers: ProgramFile, trained: Trained) -> None:
        super().__init__()
        self.channels, self._answers, self._decision = trained.channels, answers, trained.decision

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        pictures_BHWC = pixels_BCHW.permute(0, 2, 3, 1).to(torch.uint8).numpy()
        _, found_BKHW = self._answers(list(pictures_BHWC))
        return self._decision.logits(torch.from_numpy(found_BKHW))


def state_dict(path: Path, trained: Trained, settings: ExportSettings) -> bytes:
    """The weights as safetensors, and in its header what the checkpoint says of itself."""
    return hub.described(trained.model.state_dict(), metadata(path, settings))


class StateDictFile:
    """The weights in a network that is built by what the file says of it."""

    def __init__(self, file: Path) -> None:
        self._predictor = Predictor(checkpoint.load(file), device="cpu", precision="32-true")

    def __call__(self, pictures_HWC: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Labels (B, H, W) and probabilities (B, K, H, W)."""
        return _answers(self._predictor, pictures_HWC)


def _answers(predictor: Predictor, pictures_HWC: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    found_BKHW = predictor.window_probabilities(pictures_HWC)
    return predictor.labels(torch.from_numpy(found_BKHW)).numpy(), found_BKHW


def constructor(trained: Trained) -> tuple[str, dict[str, Any]]:
    """torchvision's name of the same network, and the arguments that build it. Raises `UserError` if there is none."""
    about = trained.model.description
    backbone, head, stride = about["backbone"], about["head"], about["output_stride"]
    pair = head["name"], backbone["name"]
    known = COCO.get(pair) if backbone.get("source", "torchvision") == "torchvision" else None
    same = (
        known is not None
        and stride == known.output_stride
        and about["channels"] == 3
        and (pair[0] != "deeplabv3" or rates_for(stride, head.get("rates")) == list(COCO_RATES))
        and (pair[0] != "lraspp" or backbone.get("taps") == "first")
    )
    if not same:
        choices = ", ".join(
            f"{head}+{name} with output_stride={weights.output_stride}"
            for (head, name), weights in COCO.items()
        )
        raise UserError(
            f"torchvision has no network as this one ({pair[0]}+{pair[1]}, output_stride={stride}), only {choices}; "
            f"three channels, deeplabv3 with head.rates={list(COCO_RATES)}, lraspp with backbone.taps=first."
        )
    auxiliary = {} if pair[0] == "lraspp" else {"aux_loss": False}
    return f"{pair[0]}_{pair[1]}", {
        "weights": None,
        "weights_backbone": None,
        "num_classes": trained.classes.outputs,
        **auxiliary,
    }


def torchvision_weights(trained: Trained) -> bytes:
    """torch's file of the weights by torchvision's names, without the auxiliary head. Raises as `constructor`."""
    constructor(trained)
    state = {
        other + name.removeprefix(own): values
        for name, values in trained.model.state_dict().items()
        for own, other in _PARTS.items()
        if name.startswith(own)
    }
    content = io.BytesIO()
    torch.save(state, content)
    return content.getvalue()


def torchvision_use(trained: Trained) -> dict[str, Any]:
    """How the weights are used, for the certificate: the constructor, and what it does not know."""
    name, arguments = constructor(trained)
    mean, std = (trained.model.get_buffer(key).flatten() / 255 for key in ("mean", "std"))
    return {
        "constructor": f"torchvision.models.segmentation.{name}",
        "arguments": arguments,
        "output": "out",
        "normalisation": {"pixels": "0 to 1, RGB", "mean": mean.tolist(), "std": std.tolist()},
        "size": list(trained.size) if trained.resize else None,
        "classes": trained.classes.to_dict(),
        "probabilities": "a sigmoid of each output / temperature"
        if trained.decision.independent
        else "a softmax of the outputs / temperature",
        "temperature": trained.decision.temperature,
        "threshold": trained.decision.threshold if trained.classes.binary else None,
    }


class TorchvisionFile:
    """The weights in the network of torchvision's own constructor."""

    def __init__(self, file: Path, trained: Trained) -> None:
        name, arguments = constructor(trained)
        model: Any = _Normalised(get_model(name, **arguments), trained)
        model.network.load_state_dict(torch.load(file, weights_only=True), strict=True)
        self._model = model.eval()
        self._predictor = Predictor(self.in_place_of(trained), device="cpu", precision="32-true")

    def __call__(self, pictures_HWC: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Labels (B, H, W) and probabilities (B, K, H, W)."""
        return _answers(self._predictor, pictures_HWC)

    def in_place_of(self, trained: Trained) -> Trained:
        """torchvision's network as the model of a `Trained`."""
        return replace(trained, model=self._model)


class _Normalised(nn.Module):
    """torchvision's network with the normalisation before it."""

    def __init__(self, network: nn.Module, trained: Trained) -> None:
        super().__init__()
        self.network = network
        self.channels = trained.channels
        use = torchvision_use(trained)["normalisation"]
        self._mean, self._std = (torch.tensor(use[key])[:, None, None] for key in ("mean", "std"))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        logits_BKHW: Tensor = self.network((image_BCHW.float() / 255 - self._mean) / self._std)["out"]
        return logits_BKHW
