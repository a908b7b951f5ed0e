"""The notebooks run from the first cell to the last and contain no logic of their own."""

import ast
import json
import re
from pathlib import Path

import pytest
from conftest import ROOT
from scripts import run_script

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALLER = {
    r"dataset\.(train|val|test)=\d+": r"dataset.\1=8",
    r"trainer\.max_epochs=\d+": "trainer.max_epochs=1",
    r"data\.size=\[\d+,\d+\]": "data.size=[64,64]",
    r"dataset\.size=\d+": "dataset.size=64",
    "side = 768": "side = 512",
    "count = 60": "count = 12",
}
"""What the cells ask for, as regular expressions, and what is enough to run them."""

PICTURES = {"augmentations": 5, "backbones": 2, "geo": 2, "quickstart": 3, "your_data": 2}

# Runs a list of cells as Jupyter's kernel does, and prints how many pictures they show.
RUN = """
import json, sys
from pathlib import Path
import matplotlib
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.pylabtools import select_figure_formats
from IPython.utils.capture import capture_output

shell, pictures = InteractiveShell.instance(), 0
matplotlib.use("module://matplotlib_inline.backend_inline")
select_figure_formats(shell, {"png"})
for cell in json.loads(Path(sys.argv[1]).read_text()):
    with capture_output() as captured:
        shell.run_cell(cell).raise_error()
    pictures += sum("image/png" in output.data for output in captured.outputs)
print(pictures)
"""


def cells(path: Path) -> list[str]:
    """The code."""
    found = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert found
    assert not any(cell["outputs"] for cell in found)  # saved outputs would be outdated by the next change
    return ["".join(cell["source"]) for cell in found]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_shows_pictures(path: Path, tmp_path: Path) -> None:
    small = cells(path)
    for large, few in SMALLER.items():
        small = [re.sub(large, few, cell) for cell in small]
    (tmp_path / "cells.json").write_text(json.dumps(small))
    (tmp_path / "run.py").write_text(RUN)
    # The quickstart keeps its run in the first, and shows its curves.
    environment = {"TMPDIR": str(tmp_path), "IPYTHONDIR": str(tmp_path), "FIGURES": "1"}
    before = sorted(path.parent.iterdir())
    done = run_script(
        str(tmp_path / "run.py"), str(tmp_path / "cells.json"), folder=path.parent, environment=environment
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == PICTURES[path.stem]
    assert sorted(path.parent.iterdir()) == before  # nothing is left beside it


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_imports_and_shows(path: Path) -> None:
    logic = (ast.FunctionDef, ast.ClassDef, ast.For, ast.While, ast.If, ast.Try, ast.Lambda)
    for cell in cells(path):
        found = [node for node in ast.walk(ast.parse(cell)) if isinstance(node, logic)]
        assert not found, cell
