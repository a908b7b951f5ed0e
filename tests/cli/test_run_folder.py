"""A run's folder is its own, is left alone by a run that is refused, and is never written through links."""

import json
import logging
import logging.config
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import CONF
from scripts import run_script

from segmentation.cli.messages import LogFile, PrintableFormatter
from segmentation.cli.run_folder import own_folder, waiting_writer
from segmentation.errors import UserError

SMALL = [
    *("backbone=mobilenetv3_small", "head=lraspp", "dataset.size=48", "dataset.train=4", "dataset.val=2"),
    *(
        "dataset.test=2",
        "data.size=[48,48]",
        "data.batch_size=2",
        "data.workers=0",
        "callbacks.grid.images=0",
    ),
]


def state(folder: Path) -> dict[str, Any]:
    """All that can be seen of a folder, but for the lock and the time of the log, which is opened in any case."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mtime_ns if path.name != "run.log" else 0,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(folder.rglob("*"))
        if path.name != ".lock" and stat.S_ISREG(path.lstat().st_mode)
    }


def test_two_runs_of_one_second_get_two_folders(tmp_path: Path) -> None:
    planned = tmp_path / "outputs" / "shapes" / "2026-01-01_00-00-00"
    with own_folder(planned, chosen=False) as first, own_folder(planned, chosen=False) as second:
        for folder in (first, second):
            (folder / "config.yaml").touch()
    assert (first, second) == (planned, planned.with_name(f"{planned.name}_2"))


def test_a_refused_run_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    planned = tmp_path / "outputs" / "shapes" / "now"
    with pytest.raises(UserError), own_folder(planned, chosen=False) as folder:
        (folder / "run.log").touch()
        (folder / ".hydra").mkdir()
        raise UserError("wrong")
    assert list((tmp_path / "outputs").iterdir()) == []
    with own_folder(planned, chosen=True) as folder:
        (folder / "config.yaml").touch()
    assert planned.is_dir()


def test_an_earlier_folder_stays(tmp_path: Path) -> None:
    with pytest.raises(UserError), own_folder(tmp_path, chosen=True) as folder:
        assert folder == tmp_path
        raise UserError("wrong")
    with own_folder(Path(), chosen=False) as folder:
        assert folder == Path()
    assert tmp_path.is_dir()


@pytest.mark.parametrize(
    "name",
    [
        "run.log",
        ".lock",
        "checkpoints",
        ".hydra",
        "report.json",
        "checkpoints/last.ckpt",
        "tensorboard/a",
        "csv/a",
    ],
)
def test_links_in_a_run_folder_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    link = tmp_path / "run" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "victim")
    for hold in (own_folder(tmp_path / "run", chosen=True), waiting_writer(tmp_path / "run")):
        with pytest.raises(UserError, match=f"{name} is a symbolic link"), hold:
            pass
    assert list((tmp_path / "victim").iterdir()) == []


def test_other_links_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(tmp_path)
    with own_folder(tmp_path, chosen=True) as folder:
        assert folder == tmp_path


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[Path]:
    """The log of `conf/hydra/job_logging/plain.yaml`, in use."""
    handlers, level = logging.root.handlers[:], logging.root.level
    config = yaml.safe_load((CONF / "hydra" / "job_logging" / "plain.yaml").read_text())
    config["handlers"]["file"]["filename"] = str(tmp_path / "run.log")
    logging.config.dictConfig(config)
    yield tmp_path / "run.log"
    for handler in logging.root.handlers:
        if isinstance(handler, LogFile):
            handler.close()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def test_a_log_shows_what_it_quotes_and_obeys_nothing(logged: Path) -> None:
    logging.getLogger("a").info("table:\n%s", "\x1b]0;owned\x07|\x9b|\r")
    lines = logged.read_text().splitlines()
    assert lines[0].endswith("a INFO table:") and lines[1] == r"\x1b]0;owned\x07|\x9b|\r"


def test_a_log_does_not_follow_a_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "run.log").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic"):
        LogFile(tmp_path / "run.log")
    assert (tmp_path / "precious").read_text() == "precious"
    assert PrintableFormatter().format(logging.makeLogRecord({"msg": "a\x1bb"})) == r"a\x1bb"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    options = [*SMALL, "trainer.max_epochs=1", f"hydra.run.dir={folder}"]
    done = run_script("train.py", *options, environment={"FIGURES": "1"})
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("optimizer.lr=0", "optimizer.lr=0"),
        ("scheduler.warmup_epochs=99", "scheduler.warmup_epochs=99"),
        ("trainer.accelerator=abacus", "abacus"),
        ("head=fcn", "another model"),
        ("dataset.size=7", "dataset.size=7"),
        ("callbacks.best.monitor=val/nothing", "val/nothing"),
    ],
)
def test_a_refused_resume_changes_nothing(option: str, words: str, finished: Path) -> None:
    before = state(finished)
    assert {"report.json", "report.md", "config.yaml", ".hydra/overrides.yaml"} <= before.keys()
    done = run_script("train.py", f"resume={finished}", "trainer.max_epochs=2", option)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert words in done.stderr
    assert state(finished) == before


def test_a_new_run_over_a_finished_one_changes_nothing(finished: Path) -> None:
    before = state(finished)
    done = run_script("train.py", *SMALL, "seed=3", f"hydra.run.dir={finished}")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "already holds a run" in done.stderr
    assert state(finished) == before


def test_a_wrong_option_leaves_no_folder_behind(tmp_path: Path) -> None:
    for option in ("optimizer.lr=0", "dataset.train=0", "loss.gamma=3"):
        done = run_script("train.py", *SMALL, option, folder=tmp_path)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    done = run_script("evaluate.py", "checkpoint=nowhere.ckpt", folder=tmp_path)
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_a_strangers_links_lead_nowhere(finished: Path, tmp_path: Path) -> None:
    victim = tmp_path / "bashrc"
    victim.write_text("precious")
    for name in ("run.log", "curves.png", "checkpoints/best.ckpt"):
        run = tmp_path / "stranger"
        run.symlink_to(finished)  # the folder itself may be a link
        (finished / name).rename(tmp_path / "kept")
        (finished / name).symlink_to(victim)
        done = run_script("train.py", f"resume={run}", "trainer.max_epochs=2")
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert "is a symbolic link" in done.stderr and victim.read_text() == "precious"
        (tmp_path / "kept").replace(finished / name)
        run.unlink()


def test_hydras_record_is_that_of_the_run(finished: Path) -> None:
    overrides = yaml.safe_load((finished / ".hydra" / "overrides.yaml").read_text())
    assert overrides == [*SMALL, "trainer.max_epochs=1"]
    assert json.dumps(yaml.safe_load((finished / ".hydra" / "config.yaml").read_text())["data"])
    assert not list(finished.rglob("*.part")) and os.access(finished / "run.log", os.W_OK)
