"""Models on the hub: what is written and uploaded, what is fetched and loaded, and folders made to mislead.

A folder stands in for the hub, with the layout of its cache: links in `snapshots` to nameless files in `blobs`.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import compose, composed
from made_predictors import write_checkpoint
from safetensors.torch import save_file

import segmentation
from segmentation import build, checkpoint, hub
from segmentation.config import read_evaluation_settings, read_export_settings, read_training_settings
from segmentation.data import open_dataset
from segmentation.errors import UserError
from segmentation.evaluation import evaluate
from segmentation.export import export

NAME = "mara/street-scenes"
PICTURE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


class StandIn:
    """The functions of `huggingface_hub` that are used."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.private: bool | None = None

    def HfApi(self) -> "StandIn":  # noqa: N802 - its name there
        return self

    def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> None:
        self.private = private
        (self.place / name / "blobs").mkdir(parents=True, exist_ok=exist_ok)
        (self.place / name / "snapshots" / "main").mkdir(parents=True, exist_ok=exist_ok)

    def upload_folder(
        self, *, repo_id: str, folder_path: Path, allow_patterns: Sequence[str], commit_message: str
    ) -> None:
        repository = self.place / repo_id
        for number, file in enumerate(sorted(folder_path.iterdir())):
            if any(fnmatch(file.name, pattern) for pattern in allow_patterns):
                blob = repository / "blobs" / f"{number:064x}"
                shutil.copy(file, blob)
                link = repository / "snapshots" / "main" / file.name
                link.unlink(missing_ok=True)
                link.symlink_to(blob)

    def snapshot_download(
        self, name: str, *, revision: str | None, allow_patterns: Sequence[str], library_name: str
    ) -> str:
        folder = self.place / name / "snapshots" / (revision or "main")
        if not folder.is_dir():
            raise FileNotFoundError("404 Client Error.\nRepository not found")
        return str(folder)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    made = StandIn(tmp_path / "hub")
    monkeypatch.setattr(hub, "_library", lambda: made)
    hub.fetch.cache_clear()
    return made


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with its best checkpoint and its report; the data set lay in a private place."""
    folder = tmp_path_factory.mktemp("made") / "run"
    path = folder / "checkpoints" / "best.ckpt"
    path.parent.mkdir(parents=True)
    place = {"name": "folder", "root": "/home/mara/secret/streets", "names": ["a", "b", "c"]}
    more = {
        "name": "mix",
        "sets": {"towns": place, "more": {"name": "folder", "root": "D:\\secret\\villages"}},
    }
    about = {"loss": "ce_dice", "licence": "CC <b>BY</b> 4.0", "weights": "/home/mara/secret/begin.ckpt"}
    write_checkpoint(path, dataset=more, training=about)
    contents = torch.load(path, weights_only=True)
    torch.save({**contents, "epoch": 6, "optimizer_states": [{"much": torch.zeros(9)}]}, path)
    report = {
        "metrics": {"val/miou": 0.61, "test/miou": 0.5875, "test/pixel_accuracy": 0.9},
        "per_class": {name: {"iou": 0.5, "pixels": 77} for name in ("a", "b|<script>", "c")},
        "protocol": {"scored_at": "the size of each mask", "checkpoint": "best.ckpt, epoch 7"},
    }
    (folder / "report.json").write_text(json.dumps(report))
    return folder


@pytest.fixture
def source(run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run, tmp_path / "run") / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="module")
def written(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder as it goes to the hub."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub, "upload", lambda *_, **__: "")
        return pushed(run / "checkpoints" / "best.ckpt", output=str(tmp_path_factory.mktemp("hub") / "model"))


def pushed(source: Path, name: str = NAME, **options: Any) -> Path:
    settings = read_export_settings({**compose("export", f"checkpoint={source}", f"push={name}"), **options})
    export(settings)
    return settings.hub_folder


def test_a_model_goes_to_the_hub_and_comes_back(source: Path, stand_in: StandIn, tmp_path: Path) -> None:
    folder = pushed(source, licence="apache-2.0")
    assert stand_in.private
    files = {hub.WEIGHTS, hub.DESCRIPTION, hub.CARD, hub.CERTIFICATE}
    assert {path.name for path in folder.iterdir()} == files
    assert {path.name for path in (stand_in.place / NAME / "snapshots" / "main").iterdir()} == files
    proof = (folder / hub.CERTIFICATE).read_text()
    assert json.loads(proof)["passed"] and str(source.parent) not in proof
    assert "secret" not in (folder / hub.DESCRIPTION).read_text()
    expected = segmentation.load(source).predict(PICTURE)
    for given in (f"hub:{NAME}", f"hub:{NAME}@main", folder, folder / hub.WEIGHTS):
        found = segmentation.load(given)
        assert found.trained.training["epoch"] == 7
        assert np.array_equal(found.predict(PICTURE).probabilities, expected.probabilities)


def test_the_card_says_what_is_known(source: Path, stand_in: StandIn) -> None:
    card = (pushed(source, licence="apache-2.0") / hub.CARD).read_text()
    _, head, text = card.split("---\n", 2)
    facts = yaml.safe_load(head)
    assert facts["license"] == "apache-2.0"
    assert {"deeplabv3", "mobilenet_v3_small"} < set(facts["tags"])
    (result,) = facts["model-index"][0]["results"]
    assert result["metrics"] == [
        {"type": "miou", "value": 0.5875},
        {"type": "pixel_accuracy", "value": 0.9},
    ]
    for words in (
        "0.5875",
        "the size of each mask",
        "streets",
        "villages",
        "begin.ckpt",
        "ce_dice",
        "The model: apache-2.0.",
    ):
        assert words in text
    assert "secret" not in card
    assert "<script>" not in card and "<b>" not in card


UNUSED: list[tuple[dict[str, Any], str]] = [
    ({"precision": "int8", "calibration": "."}, "precision is not for push"),
    ({"format": "qgis"}, "format is not for push"),
    ({"push": f"{NAME}@v1"}, "a revision is for reading"),
    ({"push": None, "licence": "mit"}, "private and licence are for push"),
    ({"push": None, "private": False}, "private and licence are for push"),
    ({"push": None, "checkpoint": f"hub:{NAME}"}, "lies in the hub's cache: give output"),
    ({"checkpoint": f"hub:{NAME}"}, "lies in the hub's cache: give output"),
]


def test_options_that_push_would_not_use(source: Path, stand_in: StandIn) -> None:
    config = compose("export", f"checkpoint={source}", f"push={NAME}")
    pushed(source)
    for options, words in UNUSED:
        with pytest.raises(UserError, match=words):
            read_export_settings({**config, **options})


def test_scores_of_another_epoch_are_not_those_of_the_model(source: Path, stand_in: StandIn) -> None:
    contents = torch.load(source, weights_only=True)
    torch.save({**contents, "epoch": 3}, source)
    card = (pushed(source) / hub.CARD).read_text()
    assert "Not stated" in card and "model-index" not in card
    assert "has not stated one" in card


def test_scores_at_another_threshold_are_not_those_of_the_model(source: Path, stand_in: StandIn) -> None:
    report = json.loads((source.parents[1] / "report.json").read_text())
    report["protocol"]["threshold"] = 0.31
    (source.parents[1] / "report.json").write_text(json.dumps(report))
    assert "model-index" not in (pushed(source) / hub.CARD).read_text()


def test_what_is_looked_for_below_a_root_goes_along(source: Path, stand_in: StandIn) -> None:
    found = {
        "images": "rgb/*.jpg",
        "masks": "gt/{stem}.png",
        "names": ["background", "tree/bush", "/"],
        "group": r"^/?(site/\w+)_",
    }
    places = {"root": "own/streets", "split": "/home/mara/secret/split.csv", "classes": "~/secret/c.yaml"}
    write_checkpoint(source, dataset={"name": "pairs", **found, **places})
    written = json.loads((pushed(source) / hub.DESCRIPTION).read_text())["dataset"]
    assert {key: written[key] for key in found} == found
    assert {key: written[key] for key in places} == {
        "root": "streets",
        "split": "split.csv",
        "classes": "c.yaml",
    }


def test_it_is_evaluated_trained_from_and_not_written_to(
    source: Path, stand_in: StandIn, tmp_path: Path
) -> None:
    write_checkpoint(source)  # trained on drawn shapes, which are everywhere
    pushed(source)
    small = ("dataset.size=48", "dataset.train=4", "dataset.val=2", "dataset.test=2")
    config = composed(
        *("dataset=shapes", "backbone=mobilenetv3_small", f"weights=hub:{NAME}", "data.workers=0"), *small
    )
    dataset = open_dataset(**config["dataset"])
    task = build.build_task(read_training_settings(config), dataset)
    trained = checkpoint.load(source).model.state_dict()
    own = task.model.state_dict()
    assert all(
        torch.equal(own[name], value) for name, value in trained.items() if name.startswith("backbone")
    )

    options = (f"checkpoint=hub:{NAME}", "workers=0", "split=val", "calibrate=true")
    with pytest.raises(UserError, match="as on the hub"):
        evaluate(read_evaluation_settings(compose("evaluate", *options)), tmp_path / "out")


def _described(**change: Any) -> Callable[[Path], object]:
    def apply(folder: Path) -> object:
        about = json.loads((folder / hub.DESCRIPTION).read_text())
        return (folder / hub.DESCRIPTION).write_text(json.dumps({**about, **change}))

    return apply


def _pickled(folder: Path) -> None:
    torch.save({"a": torch.zeros(2)}, folder / hub.WEIGHTS)


MISLEADING: dict[str, tuple[Callable[[Path], object], str]] = {
    "no description": (
        lambda folder: (folder / hub.DESCRIPTION).unlink(),
        "lacks|not written by this project",
    ),
    "no weights": (lambda folder: (folder / hub.WEIGHTS).unlink(), "no checkpoint|lacks"),
    "another's": (
        lambda folder: (folder / hub.DESCRIPTION).write_text('{"architectures": ["Bert"], "auto_map": {}}'),
        "not written by this project",
    ),
    "a list": (lambda folder: (folder / hub.DESCRIPTION).write_text("[1]"), "not written by this project"),
    "no JSON": (lambda folder: (folder / hub.DESCRIPTION).write_text("{"), "correct the JSON"),
    "deep": (lambda folder: (folder / hub.DESCRIPTION).write_text("[" * 10**5), "correct the JSON"),
    "a pickle": (_pickled, "damaged or holds no tensors"),
    "cut off": (
        lambda folder: (folder / hub.WEIGHTS).write_bytes((folder / hub.WEIGHTS).read_bytes()[:5000]),
        "damaged or holds no tensors",
    ),
    "other weights": (
        lambda folder: save_file({"backbone.x": torch.zeros(3)}, folder / hub.WEIGHTS),
        "numbers and holds 3",
    ),
    "HTML": (
        _described(classes={"names": ["<img src=x>\n", "b", "c"], "palette": [[0, 0, 0]] * 3}),
        "line|name|fit",
    ),
    "huge": (_described(input={"size": [10**9, 10**9], "resize": True}), "input size"),
    "another model": (
        _described(model={"backbone": {"name": "os.system"}, "head": {}, "outputs": 3}),
        "os.system",
    ),
    "temperature": (_described(temperature=-1), "temperature"),
    "text": (_described(threshold_source="\u001b[2J"), "threshold_source"),
}


@pytest.mark.parametrize(("change", "words"), MISLEADING.values(), ids=MISLEADING)
def test_a_folder_made_to_mislead_is_refused(
    change: Callable[[Path], object], words: str, written: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(written, tmp_path / "model")
    change(folder)
    with pytest.raises(UserError, match=words) as caught:
        segmentation.load(folder / hub.WEIGHTS)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


@pytest.mark.parametrize("name", ["street", "../a/b", "a/../b", "a/b/c", "https://a/b", "a b/c", ""])
def test_a_name_has_its_form(name: str, source: Path, stand_in: StandIn) -> None:
    with pytest.raises(UserError, match="give user/name"):
        segmentation.load(f"hub:{name}")
    with pytest.raises(UserError, match="give user/name"):
        read_export_settings({**compose("export", f"checkpoint={source}"), "push": name})


def test_what_fails_is_said_in_a_line(
    source: Path, stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"hub:no/body cannot be fetched \(404 Client Error\.\)"):
        segmentation.load("hub:no/body")
    pushed(source)
    with pytest.raises(UserError, match="exists already"):
        pushed(source)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / hub.CARD).write_text("mine")
    with pytest.raises(UserError, match=rf"{hub.CARD} exists already"):
        pushed(source, output=str(tmp_path / "project"))
    (stand_in.place / NAME / "snapshots" / "main" / hub.DESCRIPTION).unlink()
    with pytest.raises(UserError, match=f"lacks {hub.WEIGHTS} or {hub.DESCRIPTION}"):
        segmentation.load(f"hub:{NAME}")

    def refused(*_: Any, **__: Any) -> None:
        raise ConnectionError("401 Unauthorized")

    monkeypatch.setattr(stand_in, "create_repo", refused)
    with pytest.raises(UserError, match=r"was written, but not uploaded.*401"):
        pushed(source, existing="overwrite")
