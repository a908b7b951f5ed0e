"""What a job does with what an earlier command left in its folder."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import composed
from filelock import FileLock

from segmentation.cli.resume import differences, latest_unfinished, take_up
from segmentation.errors import UserError


def leave(
    folder: Path, config: dict[str, Any], *, last: bool = True, report: str | None = None, age: int = 0
) -> Path:
    """A run folder as far as these questions go."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "best.ckpt").write_text("weights")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    if last:
        path = folder / "checkpoints" / "last.ckpt"
        path.write_text("weights")
        os.utime(path, (1e9 - age, 1e9 - age))
    if report is not None:
        (folder / "report.json").write_text(report)
    return folder


def reported(value: float | None) -> str:
    return json.dumps({"metrics": {"val/miou": value}})


def test_an_empty_folder_begins(tmp_path: Path) -> None:
    config = composed()
    assert take_up(config, tmp_path) == (config, None)


@pytest.mark.parametrize("value", [0.5, None])
def test_a_finished_run_has_its_value(value: float | None, tmp_path: Path) -> None:
    config = composed("seed=3")
    folder = leave(tmp_path / "run", config | {"resume": "earlier"}, report=reported(value))
    found = take_up(config, folder)[1]
    assert found is not None
    assert found == value or (value is None and math.isnan(found))


@pytest.mark.parametrize("report", [None, "", '{"metrics": {', "[]"])
def test_a_cut_off_run_goes_on(report: str | None, tmp_path: Path) -> None:
    config = composed()
    folder = leave(tmp_path / "run", config, report=report)
    assert take_up(config, folder) == ({**config, "resume": str(folder)}, None)


def test_a_run_without_a_whole_epoch_begins_anew(tmp_path: Path) -> None:
    config = composed()
    folder = leave(tmp_path / "run", config, last=False)
    assert take_up(config, folder) == (config, None)
    assert not (folder / "checkpoints").exists()


def test_a_run_of_other_options_is_left_as_it_is(tmp_path: Path) -> None:
    folder = leave(tmp_path / "run", composed("trainer.max_epochs=5", "+loss.more=1"), report=reported(0.5))
    with pytest.raises(UserError) as caught:
        take_up(composed("trainer.max_epochs=7"), folder)
    for words in (str(folder), "trainer.max_epochs 5, now 7", "loss.more 1, now None", "name="):
        assert words in str(caught.value)
    assert (folder / "checkpoints" / "best.ckpt").exists()


def begun(folder: Path, config: dict[str, Any]) -> None:
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump({**config, "name": "${dataset.name}"}))


def test_a_finished_run_that_was_prolonged_by_hand_is_finished(tmp_path: Path) -> None:
    config = composed("name=shapes", "trainer.max_epochs=5")
    longer = composed("name=shapes", "trainer.max_epochs=9", "resume=somewhere")
    folder = leave(tmp_path / "run", longer, report=reported(0.5))
    begun(folder, config)
    assert take_up(config, folder) == (config, 0.5)
    with pytest.raises(UserError, match="max_epochs 5, now 9"):
        take_up(longer, folder)
    (folder / "report.json").unlink()
    with pytest.raises(UserError, match=r"resumed with other options .*max_epochs 9, now 5"):
        take_up(config, folder)


def test_a_run_whose_config_was_torn_goes_on(tmp_path: Path) -> None:
    config = composed("name=shapes")
    folder = leave(tmp_path / "run", config)
    begun(folder, config)
    text = (folder / "config.yaml").read_text()
    for torn in ("", text[:100], text[:-40] + "\n: ["):
        (folder / "config.yaml").write_text(torn)
        assert take_up(config, folder) == ({**config, "resume": str(folder)}, None)


def test_being_resumed_is_no_difference() -> None:
    assert differences({"a": {"b": 1}, "resume": "x"}, {"a": {"b": 1}, "resume": None}) == []
    assert differences({"a": {"b": None}}, {"a": {}}) == ["a.b None, now None"]


def test_auto_takes_the_latest_of_these_options(tmp_path: Path) -> None:
    typed = ["name=auto", "trainer.max_epochs=4", f"hydra.run.dir='{tmp_path}/${{seed}}_${{now:%S}}'"]
    assert latest_unfinished(typed) is None
    config = composed("name=auto", "trainer.max_epochs=4")
    leave(tmp_path / "finished", config, report=reported(0.5))
    leave(tmp_path / "young", config, last=False)
    leave(tmp_path / "other", composed("name=auto", "seed=1"))
    older = leave(tmp_path / "older", config, age=100)
    # An explicit folder is the only one that is asked.
    assert latest_unfinished([*typed[:2], f"hydra.run.dir={older}"]) == older
    assert latest_unfinished([*typed[:2], f"hydra.run.dir={tmp_path / 'finished'}"]) is None


def test_auto_looks_where_a_new_run_would_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = Path("outputs/auto")
    config = composed("name=auto")
    leave(place / "a", config, age=100)
    latest = leave(place / "b", config, age=50)
    leave(place / "c", composed("name=auto", "seed=1"))
    leave(place / "d", config, report=reported(0.5))
    assert latest_unfinished(["name=auto"]) == latest
    # More epochs, or other devices, are for this time only.
    assert latest_unfinished(["name=auto", "trainer.max_epochs=99"]) == latest
    with FileLock(latest / ".lock"):
        assert latest_unfinished(["name=auto"]) == place / "a"
