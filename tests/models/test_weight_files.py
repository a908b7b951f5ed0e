"""Weights from a file: whose keys they are, and what is no state dict at all."""

import os
import pickle
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from made_models import made
from torch import Tensor
from torchvision.models import get_model

from segmentation.errors import UserError
from segmentation.models import Segmenter, load_weights

State = dict[str, Tensor]


def lightning(state: State) -> dict[str, Any]:
    """As Lightning and torch.compile wrap them, among other things."""
    wrapped: dict[str, Any] = {f"model._orig_mod.{key}": value for key, value in state.items()}
    return {"epoch": 3, "state_dict": {**wrapped, "loss.weight": torch.ones(3)}}


LAYOUTS: dict[str, Callable[[State], Any]] = {
    "plain": lambda state: state,
    "ddp": lambda state: {f"module.{key}": value for key, value in state.items()},
    "compiled": lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
    "both": lambda state: {f"_orig_mod.module.{key}": value for key, value in state.items()},
    "checkpoint": lambda state: {"state_dict": state, "epoch": 3},
    "lightning": lightning,
}


@pytest.fixture(scope="module")
def trained() -> Segmenter:
    model = made("mobilenet_v3_small", aux=True)
    model.mean.fill_(100)
    return model


@pytest.mark.parametrize("layout", LAYOUTS)
def test_our_own_keys_in_every_wrapping(trained: Segmenter, layout: str, tmp_path: Path) -> None:
    fresh = made("mobilenet_v3_small", aux=True)
    path = tmp_path / "weights.pth"
    torch.save(LAYOUTS[layout](trained.state_dict()), path)
    report = load_weights(fresh, str(path))
    assert report.loaded == len(trained.state_dict())
    assert list(report.skipped) == (["loss.weight"] if layout == "lightning" else [])
    for key, value in trained.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[key]), key


@pytest.mark.parametrize("layout", ["plain", "ddp", "checkpoint"])
@pytest.mark.parametrize(
    ("backbone", "name"), [("resnet18", "resnet18"), ("mobilenet_v3_small", "mobilenet_v3_small")]
)
def test_a_classifiers_keys_fill_the_backbone(backbone: str, name: str, layout: str, tmp_path: Path) -> None:
    classifier = get_model(name, weights=None)
    path = tmp_path / "classifier.pth"
    torch.save(LAYOUTS[layout](classifier.state_dict()), path)
    model = made(backbone)
    head = {key: value.clone() for key, value in model.head.state_dict().items()}
    report = load_weights(model, str(path))
    blocks = getattr(classifier, "features", classifier).state_dict()
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, blocks[key]), key
    for key, value in model.head.state_dict().items():
        assert torch.equal(value, head[key]), key
    assert len(report.skipped) == len(classifier.state_dict()) - len(model.backbone.state_dict())


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.fixture(scope="module")
def model() -> Segmenter:
    return made("resnet18")


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("inside", ["alone", "state_dict", "pickle"])
def test_a_file_that_would_run_code_is_refused(
    model: Segmenter, tmp_path: Path, inside: str, protocol: int
) -> None:
    canary = tmp_path / "canary"
    path = tmp_path / "evil.pth"
    if inside == "pickle":
        path.write_bytes(pickle.dumps(Canary(canary), protocol))
    else:
        content = Canary(canary) if inside == "alone" else {"state_dict": {"conv1.weight": Canary(canary)}}
        torch.save(content, path, pickle_protocol=protocol)
    with pytest.raises(UserError, match="holds more than weights") as caught:
        load_weights(model, str(path))
    assert str(path) in str(caught.value)
    assert not canary.exists()
    # The trap is set: unpickled without care, the file does run code.
    with suppress(RuntimeError):  # a bare pickle runs before it disappoints
        torch.load(path, weights_only=False)
    assert canary.exists()


def cut(path: Path) -> None:
    torch.save(get_model("resnet18", weights=None).state_dict(), path)
    path.write_bytes(path.read_bytes()[:5000])


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "is no file. Give imagenet, coco, none or the path"),
    "folder": (lambda path: path.mkdir(), "is no file"),
    "empty": (lambda path: path.write_bytes(b""), "is damaged or holds more than weights"),
    "text": (lambda path: path.write_text("weights"), "is damaged or holds more than weights"),
    "picture": (
        lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50)),
        "is damaged or holds more than weights",
    ),
    "cut": (cut, "is damaged or holds more than weights"),
    "list": (lambda path: torch.save([torch.ones(3)], path), "holds a list, not a state dict"),
    "tensor": (lambda path: torch.save(torch.ones(3), path), "holds a Tensor, not a state dict"),
    "numbers": (lambda path: torch.save({"epoch": 3}, path), "is not of resnet18"),
    "nothing": (lambda path: torch.save({}, path), "is not of resnet18"),
    "stranger": (lambda path: torch.save({"encoder.0.weight": torch.ones(3)}, path), "is not of resnet18"),
}


@pytest.mark.parametrize("kind", FILES)
def test_what_is_no_state_dict_is_said(model: Segmenter, tmp_path: Path, kind: str) -> None:
    write, message = FILES[kind]
    path = tmp_path / "weights.pth"
    write(path)
    with pytest.raises(UserError) as caught:
        load_weights(model, str(path))
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("other", ["resnet34", "resnet50", "mobilenet_v3_small"])
def test_another_backbones_file_is_refused(model: Segmenter, tmp_path: Path, other: str) -> None:
    # resnet34 has every tensor of resnet18, and more: loaded in part it would look like a success.
    path = tmp_path / "weights.pth"
    torch.save(get_model(other, weights=None).state_dict(), path)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UserError, match="is not of resnet18"):
        load_weights(model, str(path))
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_dense_nets_of_old_are_renamed(tmp_path: Path) -> None:
    """Published DenseNets have `denselayer1.norm.1.weight` for what torchvision now calls `norm1.weight`."""
    state = get_model("densenet121", weights=None).state_dict()
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): value
        for key, value in state.items()
    }
    assert old.keys() != state.keys()
    torch.save(old, tmp_path / "old.pth")
    model = made("densenet121")
    report = load_weights(model, str(tmp_path / "old.pth"))
    assert report.parts == {"backbone": (len(model.backbone.state_dict()),) * 2}
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, state[f"features.{key}"]), key


@pytest.mark.parametrize(
    "value",
    [
        torch.full((64, 3, 7, 7), torch.nan),
        torch.ones(64, 3, 7, 7, dtype=torch.complex64),
        torch.ones(64, 3, 7, 7).to_sparse(),
        torch.empty(64, 3, 7, 7, device="meta"),
    ],
    ids=["nan", "complex", "sparse", "meta"],
)
def test_what_is_no_plain_number_is_refused(model: Segmenter, tmp_path: Path, value: Tensor) -> None:
    torch.save(
        {**get_model("resnet18", weights=None).state_dict(), "conv1.weight": value}, tmp_path / "a.pth"
    )
    with pytest.raises(UserError, match=r"conv1\.weight holds no plain finite numbers"):
        load_weights(model, str(tmp_path / "a.pth"))


def test_a_tensor_given_twice_is_refused(model: Segmenter, tmp_path: Path) -> None:
    state = get_model("resnet18", weights=None).state_dict()
    torch.save({**state, "module.conv1.weight": state["conv1.weight"] + 1}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="twice"):
        load_weights(model, str(tmp_path / "a.pth"))


def test_a_first_filter_of_no_channels_does_not_fit(model: Segmenter, tmp_path: Path) -> None:
    state = {**get_model("resnet18", weights=None).state_dict(), "conv1.weight": torch.ones(64, 0, 7, 7)}
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(UserError, match="is not of resnet18"):
        load_weights(model, str(tmp_path / "a.pth"))
