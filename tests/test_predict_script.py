"""predict.py as a user runs it, and the same from inside for all that need no process of its own."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import CONF
from made_predictors import write_checkpoint
from PIL import Image
from scipy import ndimage
from scripts import run_script

from segmentation.checkpoint import write_threshold
from segmentation.config import read_evaluation_settings, read_prediction_settings
from segmentation.data import create_dataset
from segmentation.environment import choose_precision
from segmentation.errors import UserError
from segmentation.inference import load
from segmentation.predict import predict

NAMES = ("a.jpg", "a.png", "b.JPG", "sub dir/ü (1).png", "sub dir/[x]/c=1,2.png")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("made") / "size=64, best.ckpt")


def write_picture(path: Path, height: int = 48, width: int = 64) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(list(path.name.encode())).integers(0, 256, (10, 10, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((width, height)).save(path)
    return path


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Pictures with awkward names, and what is none."""
    folder = tmp_path / "shots"
    for name in NAMES:
        write_picture(folder / name)
    write_picture(folder / ".hidden.png")
    write_picture(folder / ".cache" / "d.png")
    (folder / "notes.txt").write_text("no picture")
    (folder / "loop").symlink_to(folder)
    return folder


def config(checkpoint: Path, given: object, output: Path, **options: Any) -> dict[str, Any]:
    """What predict.py would make of its command line."""
    defaults = yaml.safe_load((CONF / "predict.yaml").read_text())
    own = {key: value for key, value in defaults.items() if key not in ("defaults", "hydra")}
    paths = {"checkpoint": str(checkpoint), "input": str(given), "output": str(output)}
    return {**own, "accelerator": "cpu", "precision": "32-true", **paths, **options}


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_as_a_user_runs_it(checkpoint: Path, shots: Path, tmp_path: Path) -> None:
    (shots / "broken.png").write_bytes(b"\x89PNG nonsense")
    output = tmp_path / "out [1], new"
    options = (f"checkpoint={checkpoint}", f"input={shots}", f"output={output}", "save=[mask,overlay]")
    done = run_script("predict.py", *options, fresh=True)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[0] == "1 of 6 files were left out:"
    assert "broken.png" in done.stderr and "Traceback" not in done.stderr
    masks = {"a.jpg.png", "a.png.png", "b.png", "sub dir/ü (1).png", "sub dir/[x]/c=1,2.png"}
    assert files(output) == masks | {name.replace(".png", "_overlay.png", 1) for name in ("b.png",)} | {
        "a.jpg_overlay.png",
        "a.png_overlay.png",
        "sub dir/ü (1)_overlay.png",
        "sub dir/[x]/c=1,2_overlay.png",
    }
    expected = load(checkpoint, device="cpu").predict(shots / "b.JPG").mask
    assert (np.array(Image.open(output / "b.png")) == expected).all()


def test_a_mistake_as_a_user_makes_it(checkpoint: Path, shots: Path, tmp_path: Path) -> None:
    options = (f"checkpoint={checkpoint}", f"input={shots / 'notes.txt'}", f"output={tmp_path / 'out'}")
    done = run_script("predict.py", *options)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "notes.txt" in done.stderr
    assert not (tmp_path / "out").exists()


def test_libraries_say_nothing_about_a_damaged_tiff(checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("rasterio")
    path = tmp_path / "a.tif"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path, compression="tiff_lzw")
    data = bytearray(path.read_bytes())
    directory = int.from_bytes(data[4:8], "little") + 2
    data[directory + 4 : directory + 8] = bytes(4)  # a width of no values
    path.write_bytes(data)
    options = (f"checkpoint={checkpoint}", f"input={path}", f"output={tmp_path / 'out'}", "tile=32")
    done = run_script("predict.py", *options)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.png", {"a.png"}),
        ("**/*.png", {"a.png", "sub dir/ü (1).png", "sub dir/[x]/c=1,2.png"}),
        ("sub dir/*", {"ü (1).png"}),
        ("sub dir/[x]/c=1,2.png", {"c=1,2.png"}),
        ("b.*", {"b.png"}),
    ],
)
def test_patterns_mirror_what_they_match(
    pattern: str, found: set[str], checkpoint: Path, shots: Path, tmp_path: Path
) -> None:
    (shots / "loop").unlink()
    assert predict(config(checkpoint, shots / pattern, tmp_path / "out")) == len(found)
    assert files(tmp_path / "out") == found


def test_existing_files_are_refused_before_the_model_is_loaded(shots: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    missing = tmp_path / "nowhere.ckpt"
    with pytest.raises(UserError, match="exists already"):
        predict(config(missing, shots / "a.png", tmp_path))
    with pytest.raises(UserError, match=r"no checkpoint .*nowhere\.ckpt"):
        predict(config(missing, shots / "a.png", tmp_path, existing="overwrite"))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_batch_size_changes_no_more_than_rounding(
    batch_size: int, checkpoint: Path, shots: Path, tmp_path: Path
) -> None:
    write_picture(shots / "large.png", 100, 80)
    predictor = load(checkpoint, device="cpu", precision="32-true")
    predict(config(checkpoint, shots, tmp_path / "out", batch_size=batch_size, save=["probability"]))
    for name, answer in (("large.png", "large"), ("b.JPG", "b"), ("a.png", "a.png")):
        expected = predictor.predict(shots / name).probabilities
        with np.load(tmp_path / "out" / f"{answer}_probability.npz") as saved:
            np.testing.assert_allclose(saved["probabilities"] / 65535, expected, atol=2e-5)


def test_masks_follow_the_threshold(shots: Path, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "binary.ckpt", binary=True)
    probabilities = load(checkpoint, device="cpu", precision="32-true").predict(shots / "a.png").probabilities
    middle = float(np.median(probabilities))
    for threshold in ("auto", middle, 0.0):
        output = tmp_path / str(threshold)
        predict(config(checkpoint, shots / "a.png", output, threshold=threshold))
        mask = np.array(Image.open(output / "a.png")) == 255
        value = 0.5 if threshold == "auto" else threshold
        np.testing.assert_array_equal(mask, probabilities[..., 0] >= np.float32(value))
    write_threshold(checkpoint, middle, split_sha256="0123", tta="none")
    for threshold in ("auto", "best"):
        output = tmp_path / f"written {threshold}"
        predict(config(checkpoint, shots / "a.png", output, threshold=threshold))
        assert (output / "a.png").read_bytes() == (tmp_path / str(middle) / "a.png").read_bytes()


def test_the_model_is_compiled_where_that_is_wanted(
    checkpoint: Path, shots: Path, tmp_path: Path, compiled: list[Any]
) -> None:
    predict(config(checkpoint, shots / "a.png", tmp_path / "plain"))
    assert not compiled
    predict(config(checkpoint, shots / "a.png", tmp_path / "out", compile=True))
    assert len(compiled) == 2  # the first try, and the whole model
    assert files(tmp_path / "out") == {"a.png"}


def test_earlier_answers_are_kept_unless_they_are_given_up(
    checkpoint: Path, shots: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    predict(config(checkpoint, shots, output))
    before = (output / "b.png").read_bytes()
    (output / "b.png").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        predict(config(checkpoint, shots, output))
    (output / "a.png.png").unlink()
    assert predict(config(checkpoint, shots, output, existing="skip")) == 1
    assert (output / "b.png").read_text() == "mine"
    wanted = config(checkpoint, shots / "b.JPG", output, save=["mask", "overlay"], existing="skip")
    assert [predict(wanted), predict(wanted)] == [1, 0]  # of b.JPG the overlay was missing, then nothing
    assert (output / "b_overlay.png").exists() and (output / "b.png").read_text() == "mine"
    (output / "b_overlay.png").unlink()
    predict(config(checkpoint, shots, output, existing="overwrite"))
    assert (output / "b.png").read_bytes() == before


def test_an_input_is_never_written_over(checkpoint: Path, shots: Path) -> None:
    with pytest.raises(UserError, match="would be overwritten"):
        predict(config(checkpoint, shots / "sub dir", shots / "sub dir", existing="overwrite"))


def test_answers_inside_the_input_folder_are_no_inputs(checkpoint: Path, shots: Path) -> None:
    for _ in range(2):
        assert predict(config(checkpoint, shots, shots / "out", existing="overwrite")) == len(NAMES)


def test_answers_beside_the_input_folder_hide_no_inputs(checkpoint: Path, shots: Path) -> None:
    for given in (shots, shots / "**" / "[ab].*"):
        config_ = config(checkpoint, given, shots.parent, existing="overwrite")
        assert predict(config_) == (len(NAMES) if given == shots else 3)


def test_a_pattern_follows_a_loop_of_links_once(checkpoint: Path, shots: Path, tmp_path: Path) -> None:
    (shots / "linked.png").symlink_to(shots / "a.png")  # a name of its own
    assert predict(config(checkpoint, shots / "**" / "*.png", tmp_path / "out")) == 4
    assert files(tmp_path / "out") == {"a.png", "linked.png", "sub dir/ü (1).png", "sub dir/[x]/c=1,2.png"}


def test_large_pictures_go_through_tiles(checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("rasterio", reason="needs rasterio, the extra geo")
    for name in ("photo.tif", "photo2.png"):
        write_picture(tmp_path / "in" / name, 150, 200)
    (tmp_path / "in" / "broken.tif").write_text("no picture")
    with pytest.raises(SystemExit) as left:
        predict(config(checkpoint, tmp_path / "in", tmp_path / "out", tile=64, overlap=16, batch_size=4))
    assert left.value.code == 1
    assert files(tmp_path / "out") == {"photo.tif", "photo2.png"}
    predictor = load(checkpoint, device="cpu", precision="32-true")
    expected = predictor.predict(tmp_path / "in" / "photo.tif", tile=64, overlap=16).mask
    assert (np.array(Image.open(tmp_path / "out" / "photo.tif")) == expected).all()


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("tile", [None, 64])
def test_a_georeferenced_picture_keeps_its_place(binary: bool, tile: int | None, tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio", reason="needs rasterio, the extra geo")
    model = write_checkpoint(tmp_path / "best.ckpt", binary=binary)
    picture = np.asarray(Image.open(write_picture(tmp_path / "plain.png", 90, 70)))
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(0.5, 0, 500000, 0, -0.5, 5000000)}
    profile = {"driver": "GTiff", "height": 90, "width": 70, "count": 3, "dtype": "uint8"}
    with rasterio.open(tmp_path / "scene.tif", "w", **profile, **place) as file:
        file.write(picture.transpose(2, 0, 1))
    for name in ("plain.png", "scene.tif"):
        predict(config(model, tmp_path / name, tmp_path / "out", tile=tile))
    with rasterio.open(tmp_path / "out" / "scene.tif") as mask:
        assert (mask.crs, mask.transform) == (place["crs"], place["transform"])
        labels = mask.read(1)
    assert (labels == np.asarray(Image.open(tmp_path / "out" / "plain.png"))).mean() > 0.999


@pytest.mark.parametrize("kind", ["gpkg", "geojson"])
def test_a_georeferenced_picture_gives_polygons(kind: str, tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio", reason="needs rasterio, the extra geo")
    pyogrio = pytest.importorskip("pyogrio", reason="needs pyogrio, the extra geo")
    model = write_checkpoint(tmp_path / "best.ckpt")
    picture = np.asarray(Image.open(write_picture(tmp_path / "plain.png", 90, 70)))
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(0.5, 0, 500000, 0, -0.5, 5000000)}
    profile = {"driver": "GTiff", "height": 90, "width": 70, "count": 3, "dtype": "uint8"}
    with rasterio.open(tmp_path / "scene.tif", "w", **profile, **place) as file:
        file.write(picture.transpose(2, 0, 1))
    output = tmp_path / "out"
    options = {"polygons_format": kind, "simplify": 0.5, "min_area": 1}
    predict(config(model, tmp_path / "scene.tif", output, save=["polygon", "mask"], **options))
    assert files(output) == {"scene.tif", f"scene_polygons.{kind}"}
    info = pyogrio.read_info(output / f"scene_polygons.{kind}")
    assert info["features"] > 0 and info["crs"] == ("EPSG:4326" if kind == "geojson" else "EPSG:32632")
    with pytest.raises(UserError, match=r"plain\.png does not say where on Earth"):
        predict(config(tmp_path / "no.ckpt", tmp_path / "plain.png", tmp_path / "no", save="polygons"))
    with pytest.raises(UserError, match="are for polygons"):
        predict(config(tmp_path / "no.ckpt", tmp_path / "scene.tif", tmp_path / "no", simplify=1))
    with pytest.raises(UserError, match=r"scene_polygons\.\w+ exists already"):
        predict(
            config(
                tmp_path / "no.ckpt", tmp_path / "scene.tif", output, save="polygons", polygons_format=kind
            )
        )
    assert files(output) == {"scene.tif", f"scene_polygons.{kind}"}


def test_videos_and_pictures_share_a_pattern(checkpoint: Path, shots: Path, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs PyAV, the extra video")
    from made_videos import make_video, read_video

    make_video(shots / "b.mp4", frames=5)
    (shots / "c.mp4").write_text("no video")
    output = tmp_path / "out"
    with pytest.raises(SystemExit):
        predict(config(checkpoint, shots / "[bc].*", output, batch_size=2))
    assert files(output) == {"b.mp4.mp4", "b.JPG.png"}
    assert len(read_video(output / "b.mp4.mp4")[0]) == 5
    with pytest.raises(UserError, match="exists already"):
        predict(config(checkpoint, shots / "[b].*", output))
    assert predict(config(checkpoint, shots / "[b].*", output, existing="overwrite")) == 2
    assert files(output) == {"b.mp4.mp4", "b.JPG.png"}
    assert predict(config(checkpoint, shots / "b.mp4", output, save=["mask", "overlay"], every=2)) == 1
    assert files(output) - {"b.mp4.mp4", "b.JPG.png", "b.mp4"} == {f"b_mask/00000{x}.png" for x in (1, 2, 3)}
    again = config(checkpoint, shots / "b.mp4", output, save=["mask"], every=4, existing="overwrite")
    assert predict(again) == 1
    assert len([*(output / "b_mask").iterdir()]) == 2
    (shots / "b.mp4").write_text("no video")
    with pytest.raises(UserError, match=r"b\.mp4"):
        predict(again)
    assert len([*(output / "b_mask").iterdir()]) == 2


def test_several_checkpoints_are_one_model(checkpoint: Path, tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio", reason="needs rasterio, the extra geo")
    pytest.importorskip("av", reason="needs PyAV, the extra video")
    from made_videos import make_video

    folder, output = tmp_path / "in", tmp_path / "out"
    picture = np.asarray(Image.open(write_picture(folder / "a.png", 90, 70)))
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(0.5, 0, 500000, 0, -0.5, 5000000)}
    profile = {"driver": "GTiff", "height": 90, "width": 70, "count": 3, "dtype": "uint8"}
    with rasterio.open(folder / "b.tif", "w", **profile, **place) as file:
        file.write(picture.transpose(2, 0, 1))
    make_video(folder / "c.mp4", frames=2)
    members = [str(checkpoint), str(write_checkpoint(tmp_path / "larger.ckpt", size=(96, 96)))]
    kinds = ["mask", "probability", "disagreement"]
    assert predict({**config(checkpoint, folder, output, save=kinds), "checkpoint": members}) == 3
    together = load(members, device="cpu", precision="32-true", disagreement=True)
    found = together.predict(picture)
    assert found.disagreement is not None
    assert (np.asarray(Image.open(output / "a.png")) == found.mask).all()
    for name in ("a_disagreement.png", "b_disagreement.tif"):
        stored = np.asarray(Image.open(output / name)) / 65535
        np.testing.assert_allclose(stored, found.disagreement, atol=1e-4)
    with rasterio.open(output / "b_probability.tif") as file:
        assert file.count == 3
    assert len([*(output / "c_disagreement").glob("*.png")]) == 2
    with pytest.raises(UserError, match="cannot disagree"):
        predict(config(checkpoint, folder / "a.png", tmp_path / "no", save=["disagreement"]))
    with pytest.raises(UserError, match="ensemble=weights is for several"):
        predict(config(checkpoint, folder / "a.png", tmp_path / "no", ensemble="weights"))


def test_a_run_folder_stands_for_its_best_checkpoint(checkpoint: Path, shots: Path, tmp_path: Path) -> None:
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    best.parent.mkdir(parents=True)
    best.symlink_to(checkpoint)
    assert predict(config(tmp_path / "run", shots / "b.JPG", tmp_path / "out")) == 1
    with pytest.raises(UserError, match=r"best\.ckpt"):
        predict(config(best.parent, shots / "b.JPG", tmp_path / "other"))


@pytest.mark.parametrize("save", ["mask", "masks", ["mask"], ["masks"]])
def test_a_mask_is_named_in_any_number(save: Any, checkpoint: Path, tmp_path: Path) -> None:
    settings = read_prediction_settings(config(checkpoint, "a.png", tmp_path, save=save))
    assert settings.kinds == ["mask"]
    defaults = yaml.safe_load((CONF / "evaluate.yaml").read_text())
    own = {key: value for key, value in defaults.items() if key not in ("defaults", "hydra")}
    own |= {"checkpoint": str(checkpoint), "save": save, "output": str(tmp_path)}
    assert read_evaluation_settings(own).saves_masks
    assert not read_evaluation_settings(own | {"save": []}).saves_masks
    with pytest.raises(UserError, match="save=maks"):
        read_evaluation_settings(own | {"save": "maks"})


@pytest.mark.parametrize(("short", "full"), [(32, "32-true"), ("16", "16-mixed"), ("bf16", "bf16-mixed")])
def test_short_names_of_precisions(short: Any, full: str, checkpoint: Path, tmp_path: Path) -> None:
    settings = read_prediction_settings(config(checkpoint, "a.png", tmp_path, precision=short))
    assert settings.precision == full
    assert full == "16-mixed" or choose_precision(short, torch.device("cpu")) == full


def test_a_legend_stands_below_the_overlay_of_a_picture(checkpoint: Path, tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    for name, legend in (("plain", False), ("told", True)):
        predict(config(checkpoint, tmp_path / "a.png", tmp_path / name, save="overlay", legend=legend))
    plain, told = (np.asarray(Image.open(tmp_path / name / "a_overlay.png")) for name in ("plain", "told"))
    assert told.shape[0] > plain.shape[0] and (told[: len(plain)] == plain).all()


@pytest.mark.parametrize("tile", [None, 64])
def test_annotations_are_read_back_as_the_masks(tile: int | None, tmp_path: Path) -> None:
    """In the folder of the pictures, where labelling tools want them."""
    path, shots = write_checkpoint(tmp_path / "best.ckpt", binary=True), tmp_path / "shots"
    for name in ("a.png", "deep/b.png", "c.png"):
        (shots / name).parent.mkdir(parents=True, exist_ok=True)
        write_picture(shots / name, 96, 128)
    kinds = {"tile": tile, "overlap": None if tile is None else 8}
    predict(config(path, shots, shots, save=["labelme", "cvat", "coco", "geojson"], **kinds))
    found = {
        "annotations.json",
        "annotations.xml",
        "a.json",
        "a.geojson",
        "c.json",
        "c.geojson",
        "deep/b.json",
    }
    assert files(shots) >= found | {"deep/b.geojson"}
    predict(config(path, shots, tmp_path / "masks", **kinds))
    options = {"root": shots, "fractions": [0.34, 0.33, 0.33]}
    for name, own in (("coco", {"annotations": "annotations.json"}), ("cvat", {}), ("labelme", {})):
        dataset = create_dataset(name=name, **options, **own)
        for samples in dataset.splits().values():
            mask = np.array(Image.open(tmp_path / "masks" / f"{samples[0]['name']}.png"))
            assert np.array_equal(samples[0]["mask"] * 255, mask)
    for existing in ("refuse", "skip"):
        with pytest.raises(UserError, match=r"annotations\.json exists[ ,a-z]*: [^\n]*existing=overwrite\.$"):
            predict(config(path, shots, shots, save="coco", existing=existing, **kinds))
    predict(config(path, shots, shots, save="coco", existing="overwrite", **kinds))
    before = (shots / "annotations.json").read_bytes()
    (shots / "annotations.json").unlink()
    (shots / "a.json").write_text("corrected")
    predict(config(path, shots, shots, save=["labelme", "coco"], existing="skip", **kinds))
    assert (shots / "annotations.json").read_bytes() == before
    assert (shots / "a.json").read_text() == "corrected"


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("tile", [None, 64])
def test_objects_are_a_table_of_the_mask(binary: bool, tile: int | None, tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "best.ckpt", binary=binary)
    given = write_picture(tmp_path / "a.png", 96, 128)
    kinds = {"save": ["mask", "object"], "tile": tile, "overlap": None if tile is None else 8}
    predict(config(path, given, tmp_path / "out", pixel_size=0.5, min_area=1.25, **kinds))
    assert files(tmp_path / "out") == {"a.png", "a_objects.csv"}
    labels = np.array(Image.open(tmp_path / "out" / "a.png")) // (255 if binary else 1)
    with (tmp_path / "out" / "a_objects.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert table
    found = 0
    for label, name in enumerate(load(path, device="cpu").trained.classes.names):
        regions, count = ndimage.label(labels == label, np.ones((3, 3)))
        sizes = [(regions == index).sum() for index in range(1, count + 1)]
        own = [row for row in table if row["class"] == name]
        expected = [size for size in sizes if size >= 5] if label or not binary else []
        assert sorted(int(row["pixels"]) for row in own) == sorted(expected)
        for row in own:
            left, top, width, height = (int(row[key]) for key in ("left", "top", "width", "height"))
            assert (labels[top : top + height, left : left + width] == label).any(axis=1).all()
            assert float(row["area"]) == int(row["pixels"]) / 4
            assert left <= float(row["x"]) < left + width and top <= float(row["y"]) < top + height
            assert (0.5 if binary else 1 / 3) <= float(row["confidence"]) <= 1
        found += len(own)
    assert found == len(table)


def test_objects_have_the_mean_confidence_of_their_pixels(checkpoint: Path, tmp_path: Path) -> None:
    prediction = load(checkpoint, device="cpu").predict(write_picture(tmp_path / "a.png"))
    with prediction.save(tmp_path / "a.csv", "objects").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert "area" not in table[0]
    for label, name in enumerate(prediction.classes.names):
        own = [row for row in table if row["class"] == name]
        total = sum(int(row["pixels"]) * float(row["confidence"]) for row in own)
        chosen = prediction.mask == label
        assert total == pytest.approx(prediction.probabilities[..., label][chosen].sum(), rel=1e-3)
    with pytest.raises(UserError, match=r"\.csv"):
        prediction.save(tmp_path / "a.png", "objects")


def test_objects_are_those_of_pictures(checkpoint: Path, shots: Path, tmp_path: Path) -> None:
    (shots / "clip.mp4").write_bytes(b"none")
    with pytest.raises(UserError, match=r"clip\.mp4 is a video.*leave objects out"):
        predict(config(checkpoint, shots, tmp_path / "out", save="objects"))


@pytest.mark.parametrize("ending", ["gif", "png", "tif"])
def test_a_small_file_of_a_huge_picture_is_refused_before_it_is_decoded(
    ending: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, output = tmp_path / f"a.{ending}", tmp_path / "out"
    Image.new("L", (400, 300)).save(path)
    monkeypatch.setattr("segmentation.environment._MOST_BYTES", 10**6)
    with pytest.raises(UserError, match=rf"a\.{ending} has 400x300 pixels, too many .*: give tile=1024"):
        predict(config(checkpoint, path, output))
    assert not output.exists()
    assert predict(config(checkpoint, path, output, tile=128)) == 1


def test_a_gif_of_one_frame_is_a_picture(checkpoint: Path, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(tmp_path / "a.gif")
    assert predict(config(checkpoint, tmp_path / "a.gif", tmp_path / "out", save=["mask"])) == 1
    assert files(tmp_path / "out") == {"a.png"}


def test_a_folder_gives_its_videos_too(checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs PyAV, the extra video")
    from made_videos import make_video

    folder = tmp_path / "in"
    (folder / "clips").mkdir(parents=True)
    make_video(folder / "clips" / "a.mp4", frames=3)
    assert predict(config(checkpoint, folder, tmp_path / "videos")) == 1
    write_picture(folder / "b.png")
    assert predict(config(checkpoint, folder, tmp_path / "both")) == 2
    assert files(tmp_path / "both") == {"clips/a.mp4", "b.png"}
    assert predict(config(checkpoint, folder, tmp_path / "masks", save=["mask"])) == 2
    assert files(tmp_path / "masks") == {"b.png", *(f"clips/a_mask/00000{x}.png" for x in (1, 2, 3))}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tta": "flop"}, "Did you mean 'flip'"),
        ({"save": ["maks"]}, "Did you mean 'mask'"),
        ({"save": []}, "save="),
        ({"save": ["auto"]}, "auto cannot be combined"),
        ({"tile": 4}, "tile=4"),
        ({"tile": 64, "overlap": 60}, "0 to 32"),
        ({"overlap": 4}, "without tile"),
        ({"start": 4, "end": 3}, "end=3.0 is not after start=4.0"),
        ({"every": 2}, "are for videos"),
        ({"legend": True}, "for overlays"),
        ({"every": 0}, "every=0"),
        ({"min_area": 4}, "for objects and polygons"),
        ({"simplify": 1}, "are for polygons: give save=polygons"),
        ({"save": "objects", "pixel_size": 0}, "pixel_size=0"),
        ({"save": "objects", "min_area": -1}, "min_area=-1"),
        ({"alpha": 2}, "alpha=2"),
        ({"polygons_format": "shp"}, "polygons_format=shp is unknown"),
        ({"min_area": -1}, "min_area=-1"),
        ({"simplify": float("nan")}, "simplify=nan"),
        ({"fill_holes": -2}, "fill_holes=-2"),
        ({"regularise": 1.5}, "regularise=1.5"),
        ({"regularise": 0}, "regularise=0"),
        ({"threshold": 0.4}, "several classes"),
        ({"threshold": "best"}, "several classes"),
        ({"threshold": -1}, "threshold=-1.*0 to 1"),
        ({"existing": "keep"}, "existing=keep"),
        ({"input": "nowhere.jpg"}, "nowhere.jpg"),
        ({"input": "nowhere/*.jpg"}, "matches no"),
        ({"checkpoint": "nowhere.ckpt"}, "nowhere.ckpt"),
        ({"batchsize": 3}, "Did you mean 'batch_size'"),
        ({"input": "987"}, "987"),
        ({"input": "987", "save": ["mask"]}, "camera 987"),
        ({"input": "987", "overlap": 4}, "without tile"),
        ({"input": "987", "existing": "overwrite"}, "camera 987 never replaces"),
        ({"input": "987", "pseudo_labels": "auto"}, "is a video"),
        ({"input": "987", "simplify": 1}, "are for polygons"),
    ],
)
def test_wrong_options(
    options: dict[str, Any], words: str, checkpoint: Path, shots: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        predict({**config(checkpoint, shots, tmp_path / "out"), **options})
    assert not (tmp_path / "out").exists()


def test_a_folder_without_pictures_is_said(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no pictures and no videos"):
        predict(config(checkpoint, tmp_path / "empty", tmp_path / "out"))
