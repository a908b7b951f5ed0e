"""Training: images per second of the tutorial's loop, of segmentation-models-pytorch, of train.py, of its bare step.

    python perf/training.py --backbone resnet50
    python perf/training.py --backbone mobilenetv3_small --steps 20 --data PATH

All decode and resize the same JPEGs (synthetic, or those of --data, a folder with {train,val}/{images,masks} of 0/255)
and train the same DeepLabV3 at the same output stride. The rate is that of the second epoch of `--steps` steps. The
bare step is our training step on one batch in memory: an upper limit for train.py.
"""

import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import alternate, comparison, options, parse, print_table


def main() -> None:
    """Print the table."""
    parser = options(__doc__ or "", rounds=3)
    parser.add_argument("--backbone", default="resnet50", help="resnet50, resnet18, mobilenetv3_small, ...")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 256), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=8, help="images per step")
    parser.add_argument("--steps", type=int, default=8, help="steps per epoch")
    parser.add_argument("--workers", type=int, default=0, help="loader processes of the other contenders")
    parser.add_argument("--data", type=Path, help="a folder with {train,val}/{images,masks}")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="more options of train.py")
    args = parse(parser)
    with TemporaryDirectory() as folder:
        root = args.data or _photographs(Path(folder), args.batch * args.steps, args.batch)
        rates = alternate(_contenders(root, args), args.rounds)
    table = comparison(rates, ("tutorial", "bare step"), "images/s", args.device)
    height, width = args.size
    print_table(
        table, f"{args.backbone} at {height}x{width}, batch {args.batch}, {args.steps} steps per epoch."
    )


def _photographs(folder: Path, count: int, evaluated: int) -> Path:
    from photographs import make_folder

    return make_folder(folder, train=count, val=evaluated, test=evaluated)


def _contenders(root: Path, args: Namespace) -> dict[str, Callable[[], float]]:
    import ours
    import peer
    import torch
    import tutorial
    from torch.utils.data import DataLoader

    size, steps, device = tuple(args.size), args.steps, args.device
    pinned = device == "cuda"
    loading = {
        "batch_size": args.batch,
        "shuffle": True,
        "num_workers": args.workers,
        "pin_memory": pinned,
    }
    plain = tutorial.Training(
        tutorial.deeplab(args.backbone),
        DataLoader(tutorial.Pictures(root / "train", size), **loading),
        device,
    )
    stride = min(tutorial.STRIDES[args.backbone], 16)  # the peer supports 8 and 16 only
    pictures = DataLoader(peer.Pictures(root / "train", size), **loading)
    accelerator = "gpu" if pinned else "cpu"
    config = ours.configure(
        root,
        args.backbone,
        *(
            "trainer.limit_val_batches=1",
            "trainer.limit_test_batches=1",
            f"trainer.accelerator={accelerator}",
        ),
        *args.set,
        size=size,
        batch_size=args.batch,
    )
    step = ours.bare_step(config, device)

    def bare() -> float:
        step()
        start = time.perf_counter()
        for _ in range(steps):
            step()
        if pinned:
            torch.cuda.synchronize()
        return steps * args.batch / (time.perf_counter() - start)

    def loop() -> float:
        plain.epoch(1)
        return plain.epoch(steps)

    return {
        "tutorial": loop,
        "smp in Lightning": lambda: peer.train(
            peer.Module(args.backbone, stride, steps), pictures, steps, device
        ),
        "train.py": lambda: ours.train_epoch(config, steps),
        "bare step": bare,
    }


if __name__ == "__main__":
    main()
