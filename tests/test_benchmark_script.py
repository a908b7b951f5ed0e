"""benchmark.py: a sweep in which one job fails, results, and errors."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import CONF
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from scripts import Done, run_script

from segmentation.benchmark import benchmark
from segmentation.config import read_benchmark_settings
from segmentation.errors import UserError

QUICK = ["data.size=[48,48]", "data.batch_size=2", "measure.seconds=0.01", "measure.warmup=0"]


def composed(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(compose("benchmark", list(overrides)), resolve=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    folder = tmp_path_factory.mktemp("sweep")
    model = {"backbone": {"name": "mobilenet_v3_small"}, "head": {"name": "lraspp"}, "output_stride": 16}
    report = {"metrics": {"test/miou": 0.625}, "model": model, "data": {"name": "shapes"}}
    (folder / "run" / "checkpoints").mkdir(parents=True)
    (folder / "run" / "report.json").write_text(json.dumps(report))
    done = run_script(
        "benchmark.py",
        *("-m", "output_stride=4,16", *QUICK),
        *("head=lraspp", "backbone=torchvision", "backbone.name=mobilenet_v3_small"),
        *(f"runs='{folder / 'run'}'", f"hydra.sweep.dir='{folder / 'out'}'"),
    )
    return folder / "out", done


def test_a_sweep_writes_table_and_figure_and_names_the_failed_job(
    sweep: tuple[Path, Done],
) -> None:
    folder, done = sweep
    assert done.returncode == 2, done.stderr
    told, count, listed = done.stderr.splitlines()
    assert told.startswith("error: job 1 of 2 (output_stride=4")
    assert count == "1 of 2 jobs failed:"
    assert listed.strip() == told.removeprefix("error: ")
    text = (folder / "table.md").read_text()
    assert text in done.stdout
    row = next(line for line in text.splitlines() if line.startswith("| mobilenet_v3_small"))
    assert row.endswith("| 0.625 |")
    assert "- 0_mobilenet_v3_small_lraspp: " in text
    assert "python benchmark.py -m output_stride=4,16 'data.size=[48,48]' data.batch_size=2 measure" in text
    assert (folder / "table.csv").is_file() and (folder / "speed.png").is_file()


def test_the_result_holds_measurements_and_conditions(
    sweep: tuple[Path, Done],
) -> None:
    (path,) = sweep[0].glob("*/result.json")
    result = json.loads(path.read_text())
    assert set(result) == {
        *("model", "parameters", "flops", "output_stride", "input", "batch_size", "precision"),
        *("channels_last", "loss", "optimizer", "measurements", "score", "environment"),
    }
    assert result["output_stride"] == 16
    assert result["input"] == {"channels": 3, "size": [48, 48]}
    assert result["score"]["mean"] == 0.625
    assert {"device", "torch", "torchvision", "threads", "date", "command"} <= set(result["environment"])
    taken = [(part["mode"], part["batch_size"]) for part in result["measurements"]]
    assert taken == [("train", 1), ("train", 2), ("infer", 1), ("infer", 2)]
    for part in result["measurements"]:
        assert part["steps"] >= 3
        assert part["images_per_second"] == pytest.approx(part["batch_size"] * 1e3 / part["median_ms"])
        assert part["quartile_range_ms"] >= 0
    memory = {key: part["peak_bytes"] for key, part in zip(taken, result["measurements"], strict=True)}
    assert memory["train", 2] > memory["train", 1] > 4 * 4 * result["parameters"]
    assert 4 * result["parameters"] < memory["infer", 1] < memory["infer", 2] < memory["train", 1]


def test_a_binary_model_of_four_channels_and_one_batch_size_as_a_user_runs_it(tmp_path: Path) -> None:
    options = ["outputs=1", "data.channels=4", "data.batch_size=1", "measure.steps=1", "head.aux=true"]
    done = run_script(
        *("benchmark.py", "backbone=mobilenetv3_small", "head=lraspp", *QUICK, *options),
        *("loss=bce_dice", "optimizer=sgd", f"hydra.run.dir={tmp_path}"),
        fresh=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["model"]["outputs"] == 1
    assert [(part["mode"], part["steps"]) for part in result["measurements"]] == [("train", 1), ("infer", 1)]
    assert f" {result['measurements'][-1]['images_per_second']:.4g} images/s" in done.stdout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"outputs": 0}, "outputs=0"),
        ({"batchsize": 3}, "no option 'batchsize'"),
        ({"precision": "fp8"}, "precision=fp8"),
        ({"data": {"size": [64, 64], "channels": 3, "batch_siz": 2}}, "Did you mean 'batch_size'"),
        ({"measure": {"warmup": 1, "seconds": 0, "steps": 3}}, "measure.seconds=0"),
    ],
)
def test_wrong_options_raise_errors(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_benchmark_settings({**composed(), **change})


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("runs=nowhere", "nowhere holds no finished run"),
        ("++loss.gama=1", "loss.gama"),
        ("data.size=[8,8]", "one cell"),
    ],
)
def test_models_that_cannot_be_measured_raise_errors(override: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        benchmark(composed("backbone=mobilenetv3_small", *QUICK, override), tmp_path)
    assert not list(tmp_path.iterdir())
