"""A checkpoint from anybody: what does not fit together is refused with the file's name, and runs nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import composed
from made_predictors import write_checkpoint

from segmentation.build import build_task
from segmentation.checkpoint import load, write_threshold
from segmentation.config import read_training_settings
from segmentation.data import open_dataset
from segmentation.errors import UserError
from segmentation.types import Classes

Contents = dict[str, Any]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    folder = tmp_path_factory.mktemp("made")
    return {binary: write_checkpoint(folder / f"{binary}.ckpt", binary=binary) for binary in (False, True)}


def about(**entries: Any) -> Callable[[Contents], None]:
    return lambda contents: contents["segmentation"].update(entries)


def classes(*names: str, binary: bool = False, **entries: Any) -> Callable[[Contents], None]:
    return about(classes={**Classes(names, binary=binary).to_dict(), **entries})


def model(**entries: Any) -> Callable[[Contents], None]:
    return lambda contents: contents["segmentation"]["model"].update(entries)


def weights(change: Callable[[torch.Tensor], Any]) -> Callable[[Contents], None]:
    def changed(contents: Contents) -> None:
        state = contents["state_dict"]
        name = next(name for name, value in state.items() if value.dim() == 4 and len(value) > 1)
        state[name] = change(state[name])

    return changed


def without_numbers(contents: Contents) -> None:
    next(values for name, values in contents["state_dict"].items() if "head" in name).fill_(float("nan"))


def a_list_for_weights(contents: Contents) -> None:
    contents["state_dict"] = [1, 2]


@pytest.mark.parametrize(
    ("change", "words", "binary"),
    [
        (
            about(protocol={"split_sha256": torch.zeros(1).expand(2**31)}),
            "describes itself by a tensor",
            False,
        ),
        (about(dataset={"name": torch.zeros(2)}), "describes itself by a tensor", False),
        (about(dataset={"name": "x" * 20_000}), "20000 letters", False),
        (about(dataset={"name": [[] for _ in range(20_000)]}), "parts", False),
        (model(outputs=2**31), "outputs=2147483648", False),
        (model(channels=2**31), "channels=2147483648", False),
        (model(backbone={"name": "resnet152"}), "numbers and holds", False),
        (about(input={"size": [2**31, 2**31], "resize": True}), "size", False),
        (weights(lambda value: value[:1].clone().expand_as(value)), "expanded", False),
        (weights(lambda value: value.to_sparse()), "sparse|more than weights", False),
        (weights(lambda value: "text"), "does not fit", False),
        (classes("one", "two"), "3 outputs.*2 classes", False),
        (classes(*"abcdef"), "3 outputs.*6 classes", False),
        (classes("one", "two", binary=True), "3 outputs.*binary", False),
        (classes("one", "two"), "1 outputs.*2 classes", True),
        (classes(*"abc", palette=[[300, 0, 0], [0, 0, 0], [1, 2, 3]]), "colour.*300", False),
        (classes(*"abc", palette=[[0, 0, -5], [0, 0, 0], [1, 2, 3]]), "colour.*-5", False),
        (classes(*"abc", names=["a", "b", "\x1b[31mred"]), "control", False),
        (classes(*"abc", names=["a", "b", "two\nlines"]), "control", False),
        (about(threshold=float("nan")), "threshold", True),
        (about(threshold=7), "threshold", True),
        (about(threshold=None), "does not fit", True),
        (about(threshold_source="two\nlines"), "threshold_source", True),
        (about(threshold_source=3), "threshold_source", True),
        (about(input={"size": [0, 0], "resize": True}), "size", False),
        (about(input={"size": 64, "resize": True}), "does not fit", False),
        (about(protocol={"split_sha256": "x"}), "does not fit", False),
        (without_numbers, "not finite", False),
        (a_list_for_weights, "does not fit", False),
    ],
)
def test_what_does_not_fit_together_is_refused(
    change: Callable[[Contents], None], words: str, binary: bool, written: dict[bool, Path], tmp_path: Path
) -> None:
    contents = torch.load(written[binary], weights_only=True)
    change(contents)
    torch.save(contents, path := tmp_path / "strange.ckpt")
    with pytest.raises(UserError, match=rf"strange\.ckpt.*{words}") as caught:
        load(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("threshold", [0, 0.25, 1])
def test_thresholds_within_their_range_are_taken(
    threshold: float, written: dict[bool, Path], tmp_path: Path
) -> None:
    contents = torch.load(written[True], weights_only=True)
    contents["segmentation"]["threshold"] = threshold
    torch.save(contents, path := tmp_path / "best.ckpt")
    assert load(path).decision.threshold == threshold


@pytest.mark.parametrize("entry", [None, False, True])
def test_a_checkpoint_says_whether_its_loss_trained_sigmoids(
    entry: bool | None, written: dict[bool, Path], tmp_path: Path
) -> None:
    contents = torch.load(written[False], weights_only=True)
    del contents["segmentation"]["one_vs_rest"]  # as earlier versions wrote it: a softmax
    if entry is not None:
        contents["segmentation"]["one_vs_rest"] = entry
    torch.save(contents, path := tmp_path / "best.ckpt")
    logits_BKHW = torch.randn(1, 3, 2, 2)
    expected = logits_BKHW.sigmoid() if entry else logits_BKHW.softmax(1)
    decision = load(path).decision
    assert torch.equal(decision.probabilities(logits_BKHW), expected)
    assert torch.equal(decision.labels(logits_BKHW), logits_BKHW.argmax(1))


@pytest.mark.parametrize(
    ("loss", "data", "sigmoids"),
    [
        ("bce", "shapes", True),
        ("focal", "shapes", True),
        ("ce_dice", "shapes", False),
        ("bce", "shapes_binary", False),
    ],
)
def test_a_run_keeps_what_its_loss_trains(loss: str, data: str, sigmoids: bool) -> None:
    few = [f"dataset.{split}=4" for split in ("train", "val", "test")]
    settings = read_training_settings(
        composed("backbone=mobilenetv3_small", f"loss={loss}", f"dataset={data}", *few)
    )
    with torch.device("meta"):
        task = build_task(settings, open_dataset(**settings.dataset))
    assert task._describe()["one_vs_rest"] is sigmoids


def test_written_thresholds_are_kept_in_their_range(written: dict[bool, Path], tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    for binary, threshold, words in ((True, 2.0, "not within 0 to 1"), (False, 0.5, "several classes")):
        path.write_bytes(written[binary].read_bytes())
        with pytest.raises(UserError, match=words):
            write_threshold(path, threshold, split_sha256="0123", tta="none")
        assert path.read_bytes() == written[binary].read_bytes()
