"""Training end to end: images a second of the tutorial's loop, of the peer, of train.py, and of its bare step.

    python perf/training.py --backbone resnet50
    python perf/training.py --backbone mobilenetv3_small --steps 20 --data PATH

All read the same JPEGs (made here, or {train,val}/{images,masks} of 0/255 under --data) from disk, decode and
resize them, and train the same DeepLabV3 at the same output stride. A rate is that of an epoch of `--steps` steps
after a first one. The bare step is ours on one batch that never changes: the most that train.py can reach.
"""

import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import alternate, begin, comparison, options, show


def main() -> None:
    """Prints the table."""
    parser = options(__doc__ or "", rounds=3)
    parser.add_argument("--backbone", default="resnet50", help="resnet50, resnet18, mobilenetv3_small, ...")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 256), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=8, help="images to a step")
    parser.add_argument("--steps", type=int, default=8, help="to an epoch")
    parser.add_argument("--workers", type=int, default=0, help="loader processes of the others; ours choose")
    parser.add_argument("--data", type=Path, help="a folder with {train,val}/{images,masks}")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="more options of train.py")
    chosen = begin(parser)
    with TemporaryDirectory() as folder:
        root = chosen.data or _photographs(Path(folder), chosen.batch * chosen.steps, chosen.batch)
        rates = alternate(_contenders(root, chosen), chosen.rounds)
    table = comparison(rates, ("tutorial", "bare step"), "images/s", chosen.device)
    height, width = chosen.size
    show(
        table, f"Training {chosen.backbone} at {height}x{width}, batch {chosen.batch}: {chosen.steps} steps."
    )


def _photographs(folder: Path, count: int, evaluated: int) -> Path:
    from photographs import make_folder

    return make_folder(folder, train=count, val=evaluated, test=evaluated)


def _contenders(root: Path, chosen: Namespace) -> dict[str, Callable[[], float]]:
    import ours
    import peer
    import torch
    import tutorial
    from torch.utils.data import DataLoader

    size, steps, device = tuple(chosen.size), chosen.steps, chosen.device
    pinned = device == "cuda"
    loading = {
        "batch_size": chosen.batch,
        "shuffle": True,
        "num_workers": chosen.workers,
        "pin_memory": pinned,
    }
    plain = tutorial.Training(
        tutorial.deeplab(chosen.backbone),
        DataLoader(tutorial.Pictures(root / "train", size), **loading),
        device,
    )
    stride = min(tutorial.STRIDES[chosen.backbone], 16)  # the peer has no other than 8 and 16
    pictures = DataLoader(peer.Pictures(root / "train", size), **loading)
    accelerator = "gpu" if pinned else "cpu"
    config = ours.configure(
        root,
        chosen.backbone,
        *(
            "trainer.limit_val_batches=1",
            "trainer.limit_test_batches=1",
            f"trainer.accelerator={accelerator}",
        ),
        *chosen.set,
        size=size,
        batch_size=chosen.batch,
    )
    step = ours.bare_step(config, device)

    def bare() -> float:
        step()
        start = time.perf_counter()
        for _ in range(steps):
            step()
        if pinned:
            torch.cuda.synchronize()
        return steps * chosen.batch / (time.perf_counter() - start)

    def loop() -> float:
        plain.epoch(1)
        return plain.epoch(steps)

    return {
        "tutorial": loop,
        "smp in Lightning": lambda: peer.train(
            peer.Module(chosen.backbone, stride, steps), pictures, steps, device
        ),
        "train.py": lambda: ours.train_epoch(config, steps),
        "bare step": bare,
    }


if __name__ == "__main__":
    main()
