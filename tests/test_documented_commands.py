"""What the pages show runs: their commands and blocks of Python, on tiny data that stand for the names in them."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, make_folder, write_pair
from documents import DOCUMENTS, NAMES, blocks, shown
from made_data import save
from made_earth import photo, roofs, write_outlines, write_raster
from made_predictors import write_checkpoint
from made_videos import make_video
from PIL import Image
from scripts import BEGINS, Done, run_script

import segmentation
from segmentation import api
from segmentation.cli import compose
from segmentation.data.layouts.voc import NAMES as VOC
from segmentation.types import Classes

_CHOICES = "differs from one that runs in choices alone, each of which test_configs.py builds"

NOT_RUN = {
    r"train\.py --help": "its text is recorded by test_golden.py",
    r"resume=": "test_resume.py resumes runs",
    r"trainer=ddp": "test_several_processes.py runs several processes",
    r"submitit_slurm": "needs Slurm: tests/machines",
    r"train\.py -m|runs=outputs": "test_sweep_script.py and leaderboard/ run sweeps, searches and boards",
    r"app\.py": "app/test_app_page.py opens it in a browser",
    r"benchmark\.py": "test_benchmark_script.py measures",
    r"export\.py|model\.onnx": "export/ makes each kind of file: each takes half a minute",
    r"hub:|push=": "needs the network",
    r"input=0 ": "needs a camera",
    r"threshold=best": "needs an evaluation: test_evaluate_script.py",
    r"train\.py backbone=|backbone=(resnet34|efficientnet)|resnet18 weights=imagenet head": _CHOICES,
    r"=camvid_resnet18|optimizer\.lr=1e-4|accumulate_grad": _CHOICES,
    r"weights=coco|experiment=binary_resnet50": "its weights are on the network; test_configs.py composes it",
    r"perf/": "test_perf.py runs each, small",
    r"my_train\.py": "test_extending.py runs it",
}
"""Commands that are composed at most, and why."""

TINY = {
    "train": (
        *("data.size=[64,64]", "data.batch_size=2", "data.workers=0", "trainer.max_epochs=1", "logger=none"),
        *("callbacks.grid.images=0", "trainer.accelerator=cpu", "weights=none", "precision=32"),
        "trainer.check_val_every_n_epoch=1",
        *(f"trainer.limit_{split}_batches=1" for split in ("train", "val", "test")),
    ),
    "evaluate": ("workers=0", "batch_size=2", "precision=32"),
    "predict": ("accelerator=cpu", "precision=32"),
    "select": ("accelerator=cpu", "precision=32", "count=2"),
    "inspect": ("workers=1",),
}
"""What makes a command small, whatever was typed."""

WORDS = {
    r"checkpoint=(RUN/checkpoints/best\.ckpt|RUN|BEST\.ckpt|\.\.\.)(?=\s|$)": "checkpoint=BEST.ckpt",
    r"dataset\.root=\S+": "dataset.root=PATH",
    r"root: (A|B|DATA|pseudo)\b": "root: DATA",
    r"output=(out|DIR)\b": "output=out",
    r"input='city/\*\.tif'": "input='b/*.tif'",  # those of city have four bands
}
"""Names of the pages, and the one that stands for them."""


def _runs(command: str) -> bool:
    return not any(re.search(each, command) for each in NOT_RUN)


def _filled(command: str) -> str:
    for pattern, name in WORDS.items():
        command = re.sub(pattern, name, command)
    return command


def test_what_is_not_run_is_shown() -> None:
    assert all(any(re.search(each, command) for command in shown()) for each in NOT_RUN)


def _has_config(command: str) -> bool:
    script = command.split()[1]
    return (ROOT / script).exists() and "/" not in script and "--help" not in command


@pytest.mark.parametrize("command", [each for each in shown() if not _runs(each) and _has_config(each)])
def test_what_is_not_run_composes(command: str) -> None:
    _, script, *words = shlex.split(command)
    name = NAMES.get(Path(script).stem, Path(script).stem)
    swept = "-m" in words
    words = [word for word in words if word not in ("-m", "...") and not re.match("hydra|.*glob", word)]
    words = [word.split(",")[0] if swept and "[" not in word else word for word in words]
    if "dataset.root=PATH" in words and not re.search("dataset=|experiment=", command):
        words.insert(0, "dataset=auto")  # which a root alone means
    assert compose(name, *words)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the names of the pages exist."""
    here = tmp_path_factory.mktemp("world")
    make_folder(here / "DATA", labels=3)
    make_folder(here / "unnamed", labels=3)
    (here / "unnamed" / "classes.yaml").unlink()
    (here / "DATA" / "classes.yaml").write_text("names: [ground, roof, road]\n")
    (here / "DATA" / "images").symlink_to("train/images")
    for number in range(8):
        name = f"{number}.png"
        site = here / "pairs" / ("MT_Break", "MT_Crack")[number % 2] / "Imgs"
        write_pair(site, site, str(number), 2)
        write_pair(here / "pairs/raw/s", here / "pairs/truth/s", str(number), 2)
        (here / "pairs/truth/s" / name).rename(here / f"pairs/truth/s/{number}_mask.png")
        Image.open(here / f"pairs/raw/s/{number}.jpg").save(here / f"pairs/raw/s/{number}.ome.tif")
    _pictures(here)
    _rasters(here)
    make_video(here / "video.mp4", frames=3)
    for name in ("ONE.ckpt", "OTHER.ckpt", "A.ckpt", "B.ckpt", "A", "B", "C", "best.ckpt"):
        write_checkpoint(here / name, dataset={"name": "folder", "root": str(here / "DATA")})
    return here


def _pictures(here: Path) -> None:
    random = np.random.default_rng(0)
    folders = ("shots", "UNLABELLED", "FRAMES")
    for name in ("photo.jpg", *(f"{folder}/v{number}_1.png" for folder in folders for number in range(3))):
        save(here / name, random.integers(0, 256, (40, 56, 3)).astype(np.uint8))


def _rasters(here: Path) -> None:
    side = 512
    polygons = roofs(side, side)
    for name, bands in (
        ("scene", 3),
        ("orthophoto", 3),
        ("city/1", 4),
        ("a/1", 3),
        ("b/1", 3),
        ("other/1", 3),
    ):
        values = photo(polygons, side, side, bands=bands)
        write_raster(here / f"{name}.tif", values if bands == 4 else values.astype(np.uint8))
    checks = np.kron(np.eye(2, dtype=np.uint8), np.ones((32, 32), np.uint8))
    write_raster(here / "a/1_mask.tif", np.tile(checks, (side // 64, side // 64))[None])
    for name in ("footprints.gpkg", "other.gpkg", "b.geojson"):
        write_outlines(here / name, polygons)


def _checkpoint(command: str, here: Path, roots: dict[str, Path]) -> dict[str, Any]:
    """One that fits: of two classes where there is a threshold, of VOC's, of GeoTIFFs, else of DATA."""
    two = Classes(("background", "foreground"), binary=True)
    if "dataset=voc" in command:
        return {"known": Classes(VOC), "dataset": {"name": "voc", "root": str(roots["voc"])}}
    if "threshold=" in command:
        return {"known": two, "dataset": {"name": "binary", "root": str(roots["binary"])}}
    if "dataset.images=" in command:
        return {"known": two, "dataset": {"name": "geotiff", "images": "a/1.tif", "labels": "other.gpkg"}}
    return {"dataset": {"name": "folder", "root": str(here / "DATA")}}


def _root(command: str, here: Path, roots: dict[str, Path]) -> Path:
    if "dataset.labels=" in command:
        return here / "unnamed"
    named = re.search(r"dataset=(\w+)", command) or re.search(r"experiment=([a-z]+)", command)
    name = named[1] if named else "auto"
    return here / "pairs" if name == "pairs" else roots.get(name, here)


def _smaller(command: str) -> list[str]:
    """Options for the training of a command, beside those of `TINY`."""
    more = ["dataset.block=128", "dataset.buffer=0"] if "geotiff" in command else []
    if not re.search("dataset|experiment", command):
        more += ["dataset.size=48", "dataset.train=2", "dataset.val=2", "dataset.test=2"]
    if re.search("milestones|resnet18_aux", command):
        more.append("scheduler.milestones=[0.5]")
    if "backbone" not in command and "experiment" not in command:
        more += ["backbone=mobilenetv3_small", "head=lraspp"]
    return more


COMMANDS = list(dict.fromkeys(_filled(command) for command in shown() if _runs(command)))
WHOLE = [
    next(command for command in COMMANDS if re.search(kind, command))
    for kind in (r"train\.py", r"evaluate\.py", r"predict\.py", r"select_images\.py", "pseudo_labels=")
]
"""They run to their end."""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs(command: str, world: Path, roots: dict[str, Path], tmp_path: Path) -> None:
    """Those of `WHOLE`, the first of each kind, run to their end, and so do those of inspect_data.py.

    The others differ in options, and run until their work would begin: what they name is found and read, the options
    fit it and one another, the run is planned, and its model is made. What these options do is for the scripts' tests.
    """
    _, script, *words = shlex.split(command)
    name = NAMES.get(Path(script).stem, Path(script).stem)
    if "checkpoint=BEST.ckpt" in words:
        checkpoint = write_checkpoint(tmp_path / "best.ckpt", **_checkpoint(command, world, roots))
        words[words.index("checkpoint=BEST.ckpt")] = f"checkpoint={checkpoint}"
    words = [word.replace("root=PATH", f"root={_root(command, world, roots)}") for word in words]
    words = [word for word in words if word != "output=out"]
    if name == "train":
        words += [*_smaller(command), f"hydra.run.dir={tmp_path / 'run'}"]
    elif not any(word.startswith("output=") for word in words):
        words.append(f"output={tmp_path / 'out'}")
    whole = command in WHOLE or name == "inspect"
    until = {} if whole else {"UNTIL_WORK": "1"}
    done = run_script(script, *words, *TINY[name], folder=world, environment=until)
    if name == "inspect":  # which says on stderr what it thinks of the tiny data
        assert done.returncode in (0, 2) and "Traceback" not in done.stderr, done.stderr
    else:
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert (BEGINS in done.stdout) == (not whole)


BLOCKS = [
    (path.name, number, block)
    for path in DOCUMENTS
    if path.name
    not in ("extending.md", "export.md")  # test_extending.py; ONNX Runtime alone, on an exported file
    for number, block in enumerate(blocks(path, "python"))
    if (path.name, number) != ("api.md", 1)  # as in the README
]


@pytest.mark.parametrize(("page", "number", "block"), BLOCKS, ids=lambda value: str(value)[:20])
def test_a_block_of_python_runs(
    page: str,
    number: int,
    block: str,
    world: Path,
    roots: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its commands are run in forks: what that saves is nothing but the imports."""

    def forked(name: str, words: Sequence[str]) -> Done:
        place = [f"hydra.run.dir={tmp_path / 'run'}"] if name == "train" else [f"output={tmp_path / name}"]
        more = _smaller(" ".join(words)) if name == "train" else []
        rooted = [word.replace("PATH", str(_root(" ".join(words), world, roots))) for word in words]
        small = [word.replace("resnet18", "mobilenetv3_small") for word in rooted]
        script = {"inspect": "inspect_data"}.get(name, name)
        return run_script(f"{script}.py", *small, *more, *TINY[name], *place, folder=world)

    monkeypatch.chdir(world)
    monkeypatch.setattr(
        api, "_run", lambda name, words, how: forked(name, [*words, *api._as_words(how)]).stdout.splitlines()
    )
    monkeypatch.setattr(api.subprocess, "run", lambda command, **_: forked(command[4], command[5:]))
    monkeypatch.setattr(Image.Image, "show", lambda picture: None)
    exec(block, {"segmentation": segmentation})
