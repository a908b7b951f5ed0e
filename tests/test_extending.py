"""The snippets of docs/extending.md are short, and a training run with them works."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from scripts import run_script

from segmentation.data.shapes import Shapes

_GROUPS = ("backbone", "head", "loss", "dataset")
_SECTIONS = (ROOT / "docs" / "extending.md").read_text().split("\n## ")[1:]
SNIPPETS = dict(zip(_GROUPS, _SECTIONS, strict=True))
SMALL = (
    *("trainer=debug", "data.batch_size=4", "augmentation=none", "logger=none", "callbacks.grid.images=0"),
    *("trainer.accelerator=cpu", "data.size=[64,64]", "precision=32-true"),
)
OPTIONS = {
    ("backbone", "loss"): (
        *("backbone=plain", "backbone.width=8", "head=fcn"),
        *("loss=robust", "loss.q=0.5", "dataset=shapes_binary"),
    ),
    ("head", "dataset"): (
        *("head=linear", "head.stride=8", "backbone=mobilenetv3_small"),
        *("dataset=archives", "dataset.names=[a,b,c,d]"),
    ),
}
"""Of two snippets at a time, which are of different parts of a run."""


def _block(group: str, language: str) -> str:
    (block,) = re.findall(rf"```{language}\n(.*?)```", SNIPPETS[group], re.DOTALL)
    return str(block)


@pytest.mark.parametrize("group", SNIPPETS)
def test_a_snippet_has_under_20_lines(group: str) -> None:
    lines = [line for line in _block(group, "python").splitlines() if line and "import " not in line]
    assert 0 < len(lines) < 20


@pytest.mark.parametrize("groups", OPTIONS, ids="-".join)
def test_snippets_train(groups: tuple[str, ...], tmp_path: Path) -> None:
    files = {}
    for group in groups:
        config = _block(group, "yaml")
        path = re.search(r"# conf/(\w+/\w+\.yaml)", config)
        assert path
        files[group] = tmp_path / "conf" / path[1]
        assert files[group].parent.name == group
        files[group].parent.mkdir(parents=True)
        files[group].write_text(config)
    script = tmp_path / "my_train.py"
    script.write_text(
        "\n".join([*(_block(group, "python") for group in groups), "from train import main\n\nmain()\n"])
    )
    data = [f"dataset.root={_make_archives(tmp_path)}"] if "dataset" in groups else []
    run = tmp_path / "run"
    arguments = [f"--config-dir={tmp_path / 'conf'}", *OPTIONS[groups], *SMALL, *data, f"hydra.run.dir={run}"]
    done = run_script(str(script), *arguments)
    assert done.returncode == 0, done.stderr
    report = json.loads((run / "report.json").read_text())
    assert 0 <= report["metrics"]["test/miou"] <= 1
    for group in {"backbone", "head"} & {*groups}:
        assert report["model"][group]["name"] == files[group].stem


def _make_archives(root: Path) -> Path:
    """Folders of archives with an image and a mask of four classes."""
    samples = Shapes(12, 64, (0,))
    for index, split in enumerate(["train"] * 8 + ["val"] * 2 + ["test"] * 2):
        (root / split).mkdir(exist_ok=True)
        np.savez(root / split / f"{index}.npz", image=samples[index]["image"], mask=samples[index]["mask"])
    return root
