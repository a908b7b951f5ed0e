"""What choosing the images to label is worth: CamVid with a quarter of its labels, then 50 more, chosen or at random.

    python perf/active.py --root DATA --output docs/active

For each seed a quarter of the training images is drawn and a model trained on them; `select_images.py` chooses 50 of
the others by that model, and as many are drawn at random. Both sets are trained on anew, from the same beginning and
for as many steps, and judged on the test split. `OUTPUT.png` is the learning curve, `OUTPUT.json` has every number.
"""

import json
import shutil
import statistics
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from measure import markdown, options, parse, print_table, provenance

_WAYS = {"chosen": "#2f6fed", "random": "#d6336c"}


def main() -> None:
    """Train, write the curve and the numbers, and print the table."""
    args = parse(_parser())
    args.output.parent.mkdir(parents=True, exist_ok=True)
    rounds: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        for seed in range(1, args.rounds + 1):
            rounds.append({"seed": seed, **_round(Path(folder) / str(seed), seed, args)})
            # After every seed: hours of training are not lost where one is interrupted.
            content = {**provenance(), "epochs": args.epochs, "rounds": rounds}
            args.output.with_suffix(".json").write_text(json.dumps(content, indent=2))
            _draw(args.output.with_suffix(".png"), rounds)
    rows = [_line(f"seed {each['seed']}", [each]) for each in rounds]
    rows.append(_line("mean", rounds))
    first, more = rounds[0]["start"]["images"], rounds[0]["chosen"]["images"]
    print_table(markdown(["test mIoU", f"{first} images", *(f"{more}, {way}" for way in _WAYS)], rows))


def _parser() -> ArgumentParser:
    parser = options(__doc__ or "", rounds=3)
    parser.add_argument("--root", type=Path, required=True, help="CamVid: {train,val,test}/{images,masks}")
    parser.add_argument("--output", type=Path, required=True, help="the figure and the JSON, without ending")
    parser.add_argument("--share", type=float, default=0.25, help="of the training images, labelled at first")
    parser.add_argument("--count", type=int, default=50, help="images to label then")
    parser.add_argument(
        "--epochs", type=int, default=16, help="of the first training; the others have its steps"
    )
    parser.add_argument("--val", type=int, default=32, help="images of val to watch the training by")
    parser.add_argument("--test", type=int, help="images of test; all unless given")
    parser.add_argument("--size", type=int, nargs=2, default=(180, 240), metavar=("H", "W"))
    parser.add_argument("--select", nargs="*", default=["group='^([^_]+)_'"], metavar="KEY=VALUE")
    parser.add_argument(
        "--set", nargs="*", default=["backbone=efficientnet_lite0", "weights=imagenet"], metavar="KEY=VALUE"
    )
    return parser


def _round(folder: Path, seed: int, args: Namespace) -> dict[str, Any]:
    """The scores of one seed: of the first images, and with those that were chosen or drawn."""
    random = np.random.default_rng(seed)
    names = sorted(path.stem for path in (args.root / "train" / "images").iterdir())
    order = random.permutation(len(names)).tolist()
    start = [names[index] for index in order[: round(args.share * len(names))]]
    others = [names[index] for index in order[len(start) :]]
    run, scores = _train(folder / "start", start, len(start), seed, args)
    chosen = _chosen(folder, run, start, others, args)
    drawn = random.permutation(len(others))[: args.count].tolist()
    found = {"start": {"images": len(start), **scores}}
    for way, more in (("chosen", chosen), ("random", [others[index] for index in drawn])):
        own, scores = _train(folder / way, [*start, *more], len(start), seed, args)
        shutil.rmtree(own)
        found[way] = {"images": len(start) + len(more), **scores, "added": sorted(more)}
    shutil.rmtree(folder)
    return found


def _train(
    folder: Path, names: Sequence[str], first: int, seed: int, args: Namespace
) -> tuple[Path, dict[str, float]]:
    """A training on these images; returns the run's folder and its scores on the test split."""
    from ours import open_settings

    from segmentation.cli import compose
    from segmentation.training import train

    data, run = folder / "data", folder / "run"
    run.mkdir(parents=True)
    _link(args.root / "train", data / "train", names)
    for split, count in (("val", args.val), ("test", args.test)):
        every = sorted(path.stem for path in (args.root / split / "images").iterdir())
        _link(args.root / split, data / split, every[:: max(1, len(every) // (count or len(every)))][:count])
    config = compose(
        "train",
        *("experiment=camvid_resnet18", f"dataset.root='{data}'", f"seed={seed}"),
        *(f"data.size={list(args.size)}", f"trainer.accelerator={args.device}"),
        f"trainer.max_epochs={max(1, round(args.epochs * first / len(names)))}",
        *args.set,
    )
    train(config, open_settings(config)[1], run)
    metrics = json.loads((run / "report.json").read_text())["metrics"]
    return run, {name: metrics[f"test/{name}"] for name in ("miou", "pixel_accuracy")}


def _link(source: Path, target: Path, names: Sequence[str]) -> None:
    """The images and masks of these names, without a copy."""
    for kind in ("images", "masks"):
        (target / kind).mkdir(parents=True)
        for path in (source / kind).iterdir():
            if path.stem in names:
                (target / kind / path.name).symlink_to(path.resolve())


def _chosen(
    folder: Path, run: Path, start: Sequence[str], others: Sequence[str], args: Namespace
) -> list[str]:
    """The names of the images that `select_images.py` chooses of the others."""
    from segmentation.cli import compose
    from segmentation.config import read_selection_settings
    from segmentation.selection import select

    output = folder / "selection"
    for name, part in (("labelled", start), ("unlabelled", others)):
        _link(args.root / "train", folder / name, part)
    config = compose(
        "select",
        *(f"checkpoint='{run}'", f"input='{folder / 'unlabelled' / 'images'}'"),
        f"labelled='{folder / 'labelled' / 'images'}'",
        *(f"output='{output}'", f"count={args.count}", "accelerator=cpu", *args.select),
    )
    select(read_selection_settings(config))
    return [Path(line).stem for line in (output / "selected.txt").read_text().splitlines()]


def _line(name: str, rounds: Sequence[dict[str, Any]]) -> list[str]:
    means = (statistics.mean(each[part]["miou"] for each in rounds) for part in ("start", *_WAYS))
    return [name, *(f"{mean:.4f}" for mean in means)]


def _draw(path: Path, rounds: Sequence[dict[str, Any]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for way, colour in _WAYS.items():
        lines = [[(each[part]["images"], each[part]["miou"]) for part in ("start", way)] for each in rounds]
        for line in lines:
            axes.plot(*zip(*line, strict=True), color=colour, alpha=0.3, linewidth=1)
        mean = np.mean(lines, axis=0)
        axes.plot(*mean.T, color=colour, marker="o", linewidth=2, label=f"{way}: {mean[-1, 1]:.3f}")
    axes.set_xticks([rounds[0][part]["images"] for part in ("start", "chosen")])
    axes.set_xlabel("labelled images of CamVid's training split")
    axes.set_ylabel("mIoU on the test split")
    axes.set_title(f"Mean of {len(rounds)} seeds; thin: each of them", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)


if __name__ == "__main__":
    main()
