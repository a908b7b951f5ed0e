"""Evaluation with all binary scores and curves: images per second, and memory by the number of images.

    python perf/evaluation.py
    python perf/evaluation.py --counts 100 1000 10000

The tutorial collects all pixels and calls scikit-learn; evaluate.py counts. Both read the same JPEGs, which already
have the size that the model sees, and use the same weights. "Forward pass alone" is our model on a batch in memory.
Memory is the peak of a separate process for each count; its images are links to the same few files.
"""

import json
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import ROOT, alternate, comparison, markdown, options, parse, print_table, ratio

_BATCH = 8
_WATCHED = (
    "import resource, runpy, sys; sys.argv = sys.argv[1:]\n"
    "runpy.run_path('evaluate.py', run_name='__main__')\n"
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
)


def main() -> None:
    """Print both tables."""
    parser = options(__doc__ or "", rounds=3)
    parser.add_argument("--backbone", default="mobilenetv3_small")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 256), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--images", type=int, default=128, help="number of images for the speed")
    parser.add_argument(
        "--counts", type=int, nargs="*", default=(100, 1000), help="numbers of images for the memory"
    )
    parser.add_argument(
        "--train", type=int, default=64, help="images that the model is trained on; not timed"
    )
    parser.add_argument("--compile", action="store_true", help="compile our model; on a GPU with CUDA graphs")
    args = parse(parser)
    with TemporaryDirectory() as folder:
        contenders, checkpoint = _contenders(Path(folder), args)
        rates = alternate(contenders, args.rounds)
        rows = [_watch(checkpoint, Path(folder), count) for count in args.counts]
    aside = 1 - ratio(rates, "evaluate.py", "forward pass alone")
    table = comparison(rates, ("tutorial",), "images/s", args.device)
    memory = markdown(["images", "seconds", "images/s", "peak MB"], rows)
    print_table(
        f"{table}\n\n{memory}" if rows else table,
        f"{args.backbone}, {args.images} images. Time not in the forward pass: {aside:.0%} of evaluate.py.",
    )


def _contenders(folder: Path, args: Namespace) -> tuple[dict[str, Callable[[], float]], Path]:
    import ours
    import tutorial
    from photographs import make_folder
    from torch.utils.data import DataLoader

    import segmentation
    from segmentation.cli import compose
    from segmentation.config import read_evaluation_settings
    from segmentation.evaluation import evaluate_split, open_context

    size, count = tuple(args.size), args.images
    root = make_folder(folder / "data", train=args.train, test=count, height=size[0], width=size[1])
    plain = tutorial.trained(args.backbone, root / "train", size, args.device)
    config = ours.configure(root, args.backbone, size=size, batch_size=_BATCH)
    checkpoint = ours.save_checkpoint(config, plain, folder / "model.ckpt")
    loader = DataLoader(tutorial.Pictures(root / "test", size), batch_size=_BATCH)
    settings = read_evaluation_settings(
        compose("evaluate", f"checkpoint='{checkpoint}'", f"batch_size={_BATCH}")
    )
    predictor = segmentation.load(checkpoint, compile=args.compile)
    context = open_context(checkpoint, settings)
    batch = next(iter(ours.data(config).test_dataloader()))["image"]

    def forward() -> None:
        for _ in range(-(-count // _BATCH)):
            predictor.probabilities(batch, size=size).cpu()

    def own() -> None:
        evaluate_split(predictor, context, settings, None)[0].curves()

    contenders: dict[str, Callable[[], object]] = {
        "tutorial": lambda: tutorial.evaluate(plain, loader, args.device),
        "evaluate.py": own,
        "forward pass alone": forward,
    }
    return {name: _timed(call, count) for name, call in contenders.items()}, checkpoint


def _timed(call: Callable[[], object], images: int) -> Callable[[], float]:
    def rate() -> float:
        start = time.perf_counter()
        call()
        return images / (time.perf_counter() - start)

    return rate


def _watch(checkpoint: Path, folder: Path, count: int) -> list[str]:
    """Run evaluate.py as a user would: a row with its seconds and its peak of resident memory."""
    output = folder / f"of_{count}"
    options = (f"checkpoint='{checkpoint}'", f"output='{output}'", "dataset=binary", "dataset.threshold=127")
    root = _repeated(folder / "data", folder / f"data_{count}", count)
    command = [sys.executable, "-c", _WATCHED, "evaluate.py", *options, f"dataset.root='{root}'"]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    seconds = json.loads((output / "report.json").read_text())["seconds"]
    peak = int(done.stdout.splitlines()[-1]) / 1024
    return [str(count), f"{seconds:.1f}", f"{count / seconds:.0f}", f"{peak:.0f}"]


def _repeated(root: Path, target: Path, count: int) -> Path:
    """A folder with the data of `root` and `count` links to its test images."""
    for split in ("train", "val"):
        (target / split).mkdir(parents=True)
        for kind in ("images", "masks"):
            (target / split / kind).symlink_to(root / split / kind)
    for kind in ("images", "masks"):
        files = sorted((root / "test" / kind).iterdir())
        (target / "test" / kind).mkdir(parents=True)
        for index in range(count):
            file = files[index % len(files)]
            (target / "test" / kind / f"{index:06}{file.suffix}").symlink_to(file)
    return target


if __name__ == "__main__":
    main()
