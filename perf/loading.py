"""Loading and augmentation: images per second on one core, the tutorial's data set against train.py's, also cached.

    python perf/loading.py
    python perf/loading.py --data PATH --size 256 256 --set augmentation=strong

A DataLoader without worker processes makes batches of 480x360 JPEGs with PNG masks: synthetic ones, or those of --data,
a folder with {train,val}/{images,masks} of 0/255. The tutorial does not augment; ours is measured with and without.
"""

import os
import time
from argparse import Namespace
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from measure import alternate, comparison, options, parse, print_table


def main() -> None:
    """Print the table."""
    parser = options(__doc__ or "")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 256), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--images", type=int, default=200, help="images per epoch, without --data")
    parser.add_argument("--data", type=Path, help="a folder with {train,val}/{images,masks}")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="more options of train.py")
    parser.set_defaults(threads=1)
    args = parse(parser)
    with TemporaryDirectory() as folder:
        if args.data is None:
            from photographs import make_folder

            args.data = make_folder(Path(folder), train=args.images)
        os.environ["XDG_CACHE_HOME"] = folder  # the folder of cache=disk
        rates = alternate(_contenders(args), args.rounds)
    table = comparison(rates, ("tutorial",), "images/s per core", "cpu")
    height, width = args.size
    print_table(
        table,
        f"Images and masks at {height}x{width}, one core, no worker processes, files in the page cache.",
    )


def _contenders(args: Namespace) -> dict[str, Callable[[], float]]:
    import cv2
    import ours
    import tutorial
    from torch.utils.data import DataLoader

    cv2.setNumThreads(0)  # one core, as in a loader process
    size = tuple(args.size)
    plain = DataLoader(tutorial.Pictures(args.data / "train", size), batch_size=8, shuffle=True)

    def loader(*overrides: str) -> Iterable[Any]:
        config = ours.configure(
            *(args.data, "resnet18", "data.workers=0", *args.set, *overrides), size=size, batch_size=8
        )
        return ours.data(config).train_dataloader()

    contenders = {
        "tutorial": lambda: _rate(plain, lambda batch: len(batch[0])),
        "ours, light augmentation": _timed(loader()),
        "ours, not augmented": _timed(loader("augmentation=none")),
    }
    cached = loader("data.cache=disk", "augmentation=none")
    for _ in cached:  # fill the cache before it is timed
        pass
    contenders["ours, cache=disk"] = _timed(cached)
    return contenders


def _timed(loader: Iterable[Any]) -> Callable[[], float]:
    return lambda: _rate(loader, lambda batch: len(batch["name"]))


def _rate(loader: Iterable[Any], count: Callable[[Any], int]) -> float:
    start = time.perf_counter()
    images = sum(count(batch) for batch in loader)
    return images / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
