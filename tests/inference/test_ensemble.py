"""Several checkpoints as one: the mean of probabilities or weights, where they disagree, who may be together."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_predictors import write_checkpoint
from PIL import Image

import segmentation
from segmentation import checkpoint
from segmentation.errors import UserError
from segmentation.inference import Predictor
from segmentation.inference.ensemble import averaged

CPU: dict[str, Any] = {"device": "cpu", "precision": "32-true"}
PICTURE = np.kron(np.random.default_rng(0).integers(0, 256, (5, 6, 3)), np.ones((12, 16, 1))).astype(np.uint8)


def write(path: Path, shift: float = 0.0, **about: Any) -> Path:
    """A checkpoint whose head differs from that of others by `shift`."""
    write_checkpoint(path, **about)
    contents = checkpoint.read(path)
    weights = contents["state_dict"]
    for name in weights:
        if name.startswith("model.head") and weights[name].is_floating_point():
            weights[name] = weights[name] + shift * torch.randn(weights[name].shape).abs()
    torch.save(contents, path)
    return path


@pytest.fixture(scope="module", params=[False, True], ids=["classes", "binary"])
def members(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("members")
    return [
        write(folder / f"{name}.ckpt", shift, binary=request.param, threshold=threshold)
        for name, shift, threshold in (("a", 0.0, 0.3), ("b", 0.1, 0.5))
    ]


def mean_of(paths: list[Path], answer: Callable[[Predictor], np.ndarray]) -> np.ndarray:
    return np.mean([answer(segmentation.load(path, **CPU)) for path in paths], axis=0)


@pytest.mark.parametrize("how", [{}, {"tta": "flip"}, {"tile": 48}], ids=str)
def test_the_probabilities_are_the_mean_of_theirs(members: list[Path], how: dict[str, Any]) -> None:
    found = segmentation.load(members, disagreement=True, **CPU).predict(PICTURE, **how)
    one, other = (segmentation.load(path, **CPU).predict(PICTURE, **how).probabilities for path in members)
    assert np.abs(one - other).max() > 0.01
    np.testing.assert_allclose(found.probabilities, (one + other) / 2, atol=1e-6)
    assert found.disagreement is not None and found.disagreement.shape == found.mask.shape
    assert 0 <= found.disagreement.min() < found.disagreement.max() <= 1


def test_disagreement_is_the_mutual_information_of_label_and_voter(members: list[Path]) -> None:
    found = segmentation.load(members, disagreement=True, **CPU).predict(PICTURE)
    voters = [segmentation.load(path, **CPU).predict(PICTURE).probabilities for path in members]
    if found.classes.binary:
        voters = [np.concatenate([1 - voter, voter], axis=2) for voter in voters]
    mean = np.mean(voters, axis=0)
    divergences = [(voter * np.log(np.maximum(voter, 1e-30) / mean)).sum(axis=2) for voter in voters]
    assert found.disagreement is not None
    np.testing.assert_allclose(found.disagreement, np.mean(divergences, axis=0) / np.log(2), atol=1e-5)


def test_the_threshold_is_the_mean_of_theirs(members: list[Path]) -> None:
    together = segmentation.load(members, **CPU).trained
    assert together.decision.threshold == pytest.approx(0.4)
    if together.classes.binary:
        assert segmentation.load(members, threshold=0.7, **CPU).trained.decision.threshold == 0.7


def test_each_prepares_pictures_in_its_own_way(members: list[Path], tmp_path: Path) -> None:
    binary = "binary" if checkpoint.load(members[0]).classes.binary else ""
    paths = [
        members[0],
        write(tmp_path / "large.ckpt", 0.1, binary=bool(binary), size=(96, 96)),
        write(tmp_path / "own.ckpt", 0.1, binary=bool(binary), resize=False, tile=32),
    ]
    together = segmentation.load(paths, **CPU)
    found = together.predict(PICTURE).probabilities
    np.testing.assert_allclose(
        found, mean_of(paths, lambda one: one.predict(PICTURE).probabilities), atol=1e-6
    )
    # As `evaluate.py` asks: with images as they are, because there is no size that suits all.
    assert not together.trained.resize
    size = PICTURE.shape[0], PICTURE.shape[1]
    asked = together.probabilities(torch.from_numpy(PICTURE).permute(2, 0, 1)[None], size=size)
    np.testing.assert_allclose(asked[0].permute(1, 2, 0).numpy(), found, atol=1e-6)
    with pytest.raises(UserError, match="give tile="):
        _ = together.tiling_of_training


def test_averaged_weights_are_one_model(members: list[Path]) -> None:
    predictor = segmentation.load(members, ensemble="weights", **CPU)
    states = [checkpoint.load(path).model.state_dict() for path in members]
    for name, value in predictor.trained.model.state_dict().items():
        expected = (states[0][name].double() + states[1][name].double()) / 2
        torch.testing.assert_close(value, expected.to(value.dtype), rtol=0, atol=0)
    assert type(predictor) is Predictor and np.isfinite(predictor.predict(PICTURE).probabilities).all()


def test_equal_checkpoints_agree(tmp_path: Path) -> None:
    paths = [write(tmp_path / name) for name in ("a.ckpt", "b.ckpt")]
    alone = segmentation.load(paths[0], **CPU).predict(PICTURE)
    for how in ("mean", "weights"):
        together = segmentation.load(paths, ensemble=how, **CPU)  # type: ignore[arg-type]
        np.testing.assert_allclose(together.predict(PICTURE).probabilities, alone.probabilities, atol=1e-6)
    disagreement = segmentation.load(paths, disagreement=True, **CPU).predict(PICTURE).disagreement
    assert disagreement is not None and disagreement.max() < 1e-5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda about: about["classes"].update(names=["ground", "roof", "river"]),
            "classes differ (road and river)",
        ),
        (lambda about: about["classes"]["names"].reverse(), "orders of classes differ"),
        (lambda about: about.update(one_vs_rest=True), "probabilities differ"),
        (lambda about: about["dataset"].update(bands=[1, 2, 3]), "bands differ"),
        (
            lambda about: about["input"].update(pixel_range=[[0.0, 9.0]] * 3),
            "ranges of pixel values differ",
        ),
    ],
    ids=["classes", "order", "loss", "bands", "range"],
)
def test_those_that_answer_another_question_are_refused(
    change: Callable[[dict[str, Any]], object], said: str, tmp_path: Path
) -> None:
    paths = [write_checkpoint(tmp_path / name) for name in ("a.ckpt", "b.ckpt")]
    contents = checkpoint.read(paths[1])
    change(contents["segmentation"])
    torch.save(contents, paths[1])
    with pytest.raises(UserError) as refused:
        segmentation.load(paths)
    assert said in str(refused.value) and all(str(path) in str(refused.value) for path in paths)


def test_a_binary_one_is_not_joined_with_one_of_classes(tmp_path: Path) -> None:
    paths = [write_checkpoint(tmp_path / f"{binary}.ckpt", binary=binary) for binary in (False, True)]
    with pytest.raises(UserError, match=r"kinds differ \(several classes and binary\)"):
        segmentation.load(paths)


def test_weights_of_other_models_and_sizes_are_not_averaged(tmp_path: Path) -> None:
    paths = [write_checkpoint(tmp_path / f"{side}.ckpt", size=(side, side)) for side in (64, 96)]
    with pytest.raises(UserError, match="their sizes differ"):
        segmentation.load(paths, ensemble="weights")
    model = checkpoint.load(paths[0])
    with pytest.raises(UserError, match="is an exported model"):
        averaged({paths[0]: model, Path("b.onnx"): model})


def test_one_view_of_one_model_cannot_disagree(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(UserError, match="cannot disagree"):
        segmentation.load(path, disagreement=True)
    predictor = segmentation.load(path, disagreement=True, tta="flip", **CPU)
    found = predictor.predict(PICTURE)
    assert found.disagreement is not None and found.disagreement.max() > 0
    found.save(tmp_path / "a.png", "disagreement")
    stored = np.asarray(Image.open(tmp_path / "a.png"))
    np.testing.assert_allclose(stored / 65535, found.disagreement, atol=1e-5)
    with pytest.raises(UserError, match="no disagreement"):
        segmentation.load(path, **CPU).predict(PICTURE).save(tmp_path / "b.png", "disagreement")
