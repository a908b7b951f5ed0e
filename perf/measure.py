"""Shared by all measurements: options, running contenders in turn, ratios, and the printed table."""

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
    """A parser with the options that all measurements share; `about` is the script's docstring."""
    parser = ArgumentParser(description=about.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=rounds, help="how often each contender runs")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="torch's threads, for all contenders"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    return parser


def parse(parser: ArgumentParser) -> Namespace:
    """Parse the options and decide `device`; sets torch's threads and seed."""
    args = parser.parse_args()
    # torch reads it when it is imported, and so do the processes that a measurement starts.
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    import torch

    from segmentation.library_warnings import hide_library_warnings

    hide_library_warnings()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if args.device == "auto":
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    return args


def alternate(contenders: Mapping[str, Callable[[], float]], rounds: int) -> Rates:
    """Call the contenders in turn, once per round: A B C, A B C, and so on; returns their results.

    If the machine slows down for a while, it slows all contenders; only results of the same round are compared.
    """
    rates: Rates = {name: [] for name in contenders}
    for number in range(1, rounds + 1):
        for name, run in contenders.items():
            rates[name].append(run())
            print(f"round {number}/{rounds}: {name} {rates[name][-1]:.4g}", file=sys.stderr, flush=True)
    return rates


def ratio(rates: Rates, name: str, base: str) -> float:
    """The median over the rounds of one contender's rate divided by another's in the same round."""
    return statistics.median(own / other for own, other in zip(rates[name], rates[base], strict=True))


def spread(values: Sequence[float]) -> float:
    """Range of the values as a share of their median: how far a single run may be off."""
    return (max(values) - min(values)) / statistics.median(values)


def comparison(rates: Rates, bases: Sequence[str], unit: str, device: str) -> str:
    """A Markdown table: for each contender its ratio to each of `bases`, for CPU and GPU, and its median."""
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
    """A Markdown table with numbers aligned to the right."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def provenance() -> dict[str, str]:
    """What is needed to repeat a measurement: when and where it was made, with what, and its command."""
    from segmentation.environment import choose_device, device_name

    return {
        "date": f"{datetime.now().astimezone():%Y-%m-%d %H:%M %z}",
        "machine": f"{device_name(choose_device('auto'))}, {os.cpu_count()} cores",
        "load": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown",
        "versions": ", ".join(f"{package} {version(package)}" for package in _PACKAGES),
        "command": shlex.join(["python", f"perf/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
    }


def print_table(table: str, *notes: str) -> None:
    """Print the table, notes, and its `provenance`."""
    made = provenance()
    when = f"Measured on {made['date']} on {made['machine']}, load {made['load']}; {made['versions']}."
    print(f"\n{table}\n")
    print("  \n".join([*notes, when, f"Command: `{made['command']}`"]), flush=True)
