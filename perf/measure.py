"""Shared by all performance measurements: alternating runs, ratios, and a table with device and versions."""

import os
import shlex
import statistics
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOT_RUN = "not run"

_PACKAGES = ("torch", "torchvision", "pytorch-lightning", "albumentations", "segmentation-models-pytorch")

Rates = dict[str, list[float]]


def options(about: str, *, rounds: int = 5) -> ArgumentParser:
    """A parser with the options of all measurements; `about` is the docstring of the script."""
    parser = ArgumentParser(description=about.partition("\n")[0])
    parser.add_argument(
        "--rounds", type=int, default=rounds, help="number of rounds; each contender runs once per round"
    )
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="number of torch threads, for all contenders"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    return parser


def begin(parser: ArgumentParser) -> Namespace:
    """Parse the options, choose the device, and set the threads and the seed of torch."""
    chosen = parser.parse_args()
    # Torch reads this on import, and so do the processes that a measurement starts.
    os.environ["OMP_NUM_THREADS"] = str(chosen.threads)
    import torch

    from segmentation.library_warnings import hide_library_warnings

    hide_library_warnings()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    if chosen.device == "auto":
        chosen.device = "cuda" if torch.cuda.is_available() else "cpu"
    return chosen


def alternate(contenders: Mapping[str, Callable[[], float]], rounds: int) -> Rates:
    """Run the contenders in turns (A B C, A B C, ...) and return the rates of each.

    If the machine slows down for a while, it slows all of them; rates are compared only within a round.
    """
    rates: Rates = {name: [] for name in contenders}
    for number in range(1, rounds + 1):
        for name, run in contenders.items():
            rates[name].append(run())
            print(f"round {number}/{rounds}: {name} {rates[name][-1]:.4g}", file=sys.stderr, flush=True)
    return rates


def ratio(rates: Rates, name: str, base: str) -> float:
    """The median over the rounds of the rate of `name` divided by that of `base` in the same round."""
    return statistics.median(own / other for own, other in zip(rates[name], rates[base], strict=True))


def spread(values: Sequence[float]) -> float:
    """The range of the values divided by their median."""
    return (max(values) - min(values)) / statistics.median(values)


def comparison(rates: Rates, bases: Sequence[str], unit: str, device: str) -> str:
    """A Markdown table of the ratios to each of `bases` on this kind of device, with medians and spread."""
    kinds = {"CPU": device == "cpu", "GPU": device == "cuda"}
    heads = [f"x {base}, {kind}" for base in bases for kind in kinds]
    rows = []
    for name, values in rates.items():
        ratios = [
            f"{ratio(rates, name, base):.2f}" if run else NOT_RUN for base in bases for run in kinds.values()
        ]
        rows.append([name, *ratios, f"{statistics.median(values):.4g}", f"{spread(values):.0%}"])
    return markdown(["", *heads, unit, "spread"], rows)


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with numbers aligned right."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def show(table: str, *notes: str) -> None:
    """Print the table, notes, and all that is needed to repeat the measurement."""
    from segmentation.environment import choose_device, device_name

    device = device_name(choose_device("auto"))
    versions = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores" if hasattr(os, "getloadavg") else ""
    when = f"Measured on {datetime.now().astimezone():%Y-%m-%d %H:%M %z} on {device}, {load}; {versions}."
    command = shlex.join(["python", f"perf/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    print(f"\n{table}\n")
    print("  \n".join([*notes, when, f"Command: `{command}`"]), flush=True)
