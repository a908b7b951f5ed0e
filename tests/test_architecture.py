"""Imports go down the floors only, and help does not pay for torch."""

import ast
import functools
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "segmentation"

FLOORS = (
    {
        "types",
        "errors",
        "config",
        "options",
        "ranges",
        "environment",
        "machine",
        "tiling",
        "components",
        "reading",
        "writing",
        "library_warnings",
        "hub",
        "timing",
    },
    {"data", "models", "losses", "metrics", "optim", "visualization"},
    {"task", "checkpoint", "report"},
    {"callbacks", "inference"},
    {"distributed"},
    {"build", "planner"},
    {"training", "evaluation", "predict", "benchmark", "leaderboard", "doctor", "cli"},
    {"export", "selection", "app"},
    {"commands"},
    {"console", "api"},
    {"__main__"},
)
HYDRA = {"hydra", "omegaconf"}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


@functools.cache
def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "segmentation":
            names |= {f"segmentation.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    own = room(path)
    for name in imported(path):
        if name.startswith("segmentation.") and not name.startswith("segmentation.__"):
            other = name.split(".")[1]
            # On the ground, and among the scripts' helpers, neighbours may know each other.
            assert other == own or floor(other) < floor(own) or floor(other) == floor(own) == 0, (
                f"{own} -> {other}"
            )


def test_no_files_import_each_other() -> None:
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in FILES
    }
    # An import of a package's module counts as one of the module alone.
    graph = {
        name: {
            other
            for other in imported(path) & modules.keys() - {name}
            if not any(deeper.startswith(f"{other}.") for deeper in imported(path) & modules.keys())
        }
        for name, path in modules.items()
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_no_two_test_files_have_one_name() -> None:
    """pytest would collect only one of them when all are run."""
    names = sorted(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert names == sorted(set(names))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_knows_hydra(path: Path) -> None:
    assert room(path) == "cli" or not {name.split(".")[0] for name in imported(path)} & HYDRA


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["--help"], ("torch", "hydra", "numpy", "pydantic")),
        (["--cfg", "job"], ("torch", "pytorch_lightning", "numpy")),
        (["optimizer.lr=abc"], ("torch", "pytorch_lightning", "numpy")),
        (["seed=abc"], ("torch", "pytorch_lightning")),
    ],
)
def test_asking_does_not_import_the_heavy_packages(arguments: list[str], absent: tuple[str, ...]) -> None:
    code = (
        "import runpy, sys; sys.argv[0] = 'train.py'\n"
        "try: runpy.run_path('train.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        f"print('loaded:', [name for name in {absent!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "loaded: []"
