"""`segmentation.load(...).predict(...)`: what goes in, and what comes out."""

import errno
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from made_predictors import NAMES, classes, near, write_checkpoint
from PIL import Image

import segmentation
from segmentation.data.image_io import read_image
from segmentation.errors import UserError
from segmentation.inference import Predictor, outputs
from segmentation.models import resize


@pytest.fixture(scope="module", params=[False, True], ids=["classes", "binary"])
def predictor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    path = write_checkpoint(tmp_path_factory.mktemp("made") / "best.ckpt", binary=request.param)
    return segmentation.load(path, device="cpu", precision="32-true")


def picture(height: int = 50, width: int = 70, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    return coarse.repeat(10, axis=0).repeat(10, axis=1)[:height, :width].copy()


def test_the_answer_is_what_training_would_have_scored(predictor: Predictor) -> None:
    image = picture(64, 64)
    trained = predictor.trained
    with torch.no_grad():
        logits_BKHW = resize(trained.model(torch.from_numpy(image).permute(2, 0, 1)[None]), (64, 64))
    found = predictor.predict(image)
    assert (found.mask == trained.decision.labels(logits_BKHW)[0].numpy()).all()
    expected = trained.decision.probabilities(logits_BKHW)[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found.probabilities, expected)


def test_answers_come_at_the_original_size(predictor: Predictor) -> None:
    for height, width in ((50, 70), (1, 1), (3, 200)):
        found = predictor.predict(np.zeros((height, width, 3), np.uint8))
        assert found.mask.shape == (height, width) and found.mask.dtype == np.uint8
        assert found.probabilities.shape == (height, width, predictor.trained.classes.outputs)
        assert found.probabilities.dtype == np.float32
        assert found.overlay().size == (width, height)
        assert found.classes == predictor.trained.classes


def test_a_batch_answers_as_its_pictures_one_by_one(predictor: Predictor) -> None:
    pictures = [picture(seed=seed) for seed in range(3)]
    alone = [predictor.predict(one) for one in pictures]
    for one, together in zip(alone, predictor.predict_all(pictures), strict=True):
        np.testing.assert_allclose(together.probabilities, one.probabilities, atol=1e-5)
    assert not np.allclose(alone[0].probabilities, alone[1].probabilities, atol=1e-2)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "1", "LA", "I;16", "turned"])
def test_paths_pillow_images_and_arrays_are_one(mode: str, tmp_path: Path) -> None:
    image, path, extra = Image.fromarray(picture()), tmp_path / "one.png", {}
    if mode == "I;16":
        image = Image.fromarray(picture()[..., 0].astype(np.uint16) * 257 + 100)
    elif mode == "turned":
        extra = {"exif": Image.Exif()}
        extra["exif"][0x0112] = 6
    else:
        image = image.convert(mode)
        path = path.with_suffix(".tif") if mode == "CMYK" else path
    image.save(path, **extra)
    predictor = near()
    from_path = predictor.predict(str(path))
    with Image.open(path) as opened:
        from_pillow = predictor.predict(opened)
    from_array = predictor.predict(read_image(path))
    assert from_path.mask.shape == ((70, 50) if mode == "turned" else (50, 70))
    for other in (from_pillow, from_array):
        np.testing.assert_array_equal(other.image, from_path.image)
        np.testing.assert_array_equal(other.probabilities, from_path.probabilities)


def test_arrays_of_grey_alpha_and_16_bits_are_taken_as_files_are() -> None:
    predictor, grey = near(), picture()[..., 0]
    expected = predictor.predict(grey[:, :, None].repeat(3, axis=2)).probabilities
    for other in (grey, grey[:, :, None], grey.astype(np.uint16) * 257, np.dstack([grey] * 4)):
        np.testing.assert_array_equal(predictor.predict(other).probabilities, expected)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((4, 4, 7), np.uint8), "7 bands"),
        (np.zeros((0, 4, 3), np.uint8), "uint8"),
        (np.zeros((1, 4, 4, 3), np.uint8), "uint8"),
        ("nowhere.png", "nowhere.png"),
        (Image.new("F", (4, 4)), "float32 pixels"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_picture_is_refused(wrong: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        near().predict(wrong)  # type: ignore[arg-type]


def test_masks_open_correctly_elsewhere(tmp_path: Path) -> None:
    found = near().predict(picture())
    with Image.open(found.save(tmp_path / "new" / "mask.png")) as saved:
        assert saved.mode == "P"
        np.testing.assert_array_equal(np.array(saved), found.mask)
        colours = np.array(saved.convert("RGB"))
    for label, colour in enumerate(classes(False).palette):
        assert (colours[found.mask == label] == colour).all()
    binary = near(binary=True).predict(picture())
    with Image.open(binary.save(tmp_path / "binary.png")) as saved:
        assert saved.mode == "L"
        np.testing.assert_array_equal(np.array(saved), binary.mask * 255)
    assert binary.mask.any() and not binary.mask.all()


def test_probabilities_are_kept_to_16_bits(tmp_path: Path) -> None:
    found, binary = near().predict(picture()), near(binary=True).predict(picture())
    with np.load(found.save(tmp_path / "p.npz", "probability")) as saved:
        np.testing.assert_allclose(saved["probabilities"] / 65535, found.probabilities, atol=1e-5)
        assert tuple(saved["names"]) == NAMES
    with Image.open(binary.save(tmp_path / "p.png", "probability")) as saved:
        values = np.array(saved)
        assert values.dtype == np.uint16
        np.testing.assert_allclose(values / 65535, binary.probabilities[..., 0], atol=1e-5)


def test_the_overlay_tints_classes_and_leaves_the_background() -> None:
    found = near(binary=True).predict(picture())
    tinted = np.asarray(found.overlay(1.0))
    background = found.mask == 0
    np.testing.assert_array_equal(tinted[background], found.image[background])
    assert (tinted[~background] == found.classes.palette[1]).all()
    np.testing.assert_array_equal(np.asarray(found.overlay(0.0)), found.image)


@pytest.mark.parametrize(
    ("name", "what"), [("a.jpg", "mask"), ("a.xyz", "overlay"), ("a.png", "probability"), ("a.png", "masks")]
)
def test_files_that_would_not_hold_it_are_refused(name: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        near().predict(picture()).save(tmp_path / name, what)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room_is_named(tmp_path: Path) -> None:
    found = near().predict(picture())
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"file.mask\.png was not written"):
        found.save(tmp_path / "file" / "mask.png")
    # As Pillow says it: without a name of the file.
    with pytest.raises(UserError, match=r"a\.png was not written \(No space left on device\)"):  # noqa: SIM117
        with outputs.written_whole(tmp_path / "a.png") as part:
            part.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


@pytest.mark.parametrize("alpha", [5, -1, float("nan")])
def test_overlays_have_a_share_of_colour(alpha: float) -> None:
    with pytest.raises(UserError, match="alpha="):
        near().predict(picture()).overlay(alpha)


def test_an_interrupted_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("earlier")
    with pytest.raises(KeyboardInterrupt), outputs.written_whole(tmp_path / "a.png") as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert [path.read_text() for path in tmp_path.iterdir()] == ["earlier"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "nonsense"}, "nonsense"),
        ({"precision": "64"}, "precision=64"),
        ({"precision": "16-mixed", "device": "cpu"}, "GPU"),
        ({"tta": None}, "tta=None"),
        ({"tta": b"flip"}, "tta="),
    ],
)
def test_what_cannot_be_had_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        near(**options)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_too_little_memory_says_what_to_do(error: RuntimeError, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = near()

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(predictor, "probabilities", fail)
    with pytest.raises(UserError, match=r"70x50 pixels .* tile="):
        predictor.predict(picture())


def test_importing_the_package_is_cheap() -> None:
    code = "import segmentation, sys; assert segmentation.__version__; print('torch' in sys.modules, segmentation.load)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("False <function load")


def test_the_package_lists_its_way_in() -> None:
    assert "load" in dir(segmentation)


def test_an_array_with_its_bands_first_is_told_apart() -> None:
    with pytest.raises(
        UserError, match=r"The array has the shape \(3, 40, 60\): give its axes as \(height, width"
    ):
        near().predict(np.zeros((3, 40, 60), np.uint8))


@pytest.mark.parametrize("tile", [None, 32])
def test_a_predictor_and_its_results_can_be_pickled(tile: int | None, predictor: Predictor) -> None:
    image = picture()
    found = predictor.predict(image, tile=tile)
    other = pickle.loads(pickle.dumps(predictor)).predict(image, tile=tile)
    for copy in (other, pickle.loads(pickle.dumps(found))):
        np.testing.assert_array_equal(copy.mask, found.mask)
        np.testing.assert_array_equal(copy.probabilities, found.probabilities)
