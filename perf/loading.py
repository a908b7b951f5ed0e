"""Loading and augmenting: images a second on one core, the tutorial's data set against train.py's, also cached.

    python perf/loading.py
    python perf/loading.py --data PATH --size 256 256 --set augmentation=strong

480x360 JPEGs with PNG masks (made here, or {train,val}/{images,masks} of 0/255 under --data) become batches
through a DataLoader without worker processes, epoch after epoch. Ours are augmented too, the tutorial's are not.
"""

import os
import time
from argparse import Namespace
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from measure import alternate, begin, comparison, options, show


def main() -> None:
    """Prints the table."""
    parser = options(__doc__ or "")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 256), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--images", type=int, default=200, help="to an epoch, where they are made here")
    parser.add_argument("--data", type=Path, help="a folder with {train,val}/{images,masks}")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="more options of train.py")
    parser.set_defaults(threads=1)
    chosen = begin(parser)
    with TemporaryDirectory() as folder:
        if chosen.data is None:
            from photographs import make_folder

            chosen.data = make_folder(Path(folder), train=chosen.images)
        os.environ["XDG_CACHE_HOME"] = folder  # where cache=disk keeps what it decoded
        rates = alternate(_contenders(chosen), chosen.rounds)
    table = comparison(rates, ("tutorial",), "images/s a core", "cpu")
    height, width = chosen.size
    show(
        table,
        f"Loading with masks to {height}x{width}, one core, no worker processes, files in the system's cache.",
    )


def _contenders(chosen: Namespace) -> dict[str, Callable[[], float]]:
    import cv2
    import ours
    import tutorial
    from torch.utils.data import DataLoader

    cv2.setNumThreads(0)  # one core, as a loader's process has it
    size = tuple(chosen.size)
    plain = DataLoader(tutorial.Pictures(chosen.data / "train", size), batch_size=8, shuffle=True)

    def loader(*overrides: str) -> Iterable[Any]:
        config = ours.configure(
            *(chosen.data, "resnet18", "data.workers=0", *chosen.set, *overrides), size=size, batch_size=8
        )
        return ours.data(config).train_dataloader()

    contenders = {
        "tutorial": lambda: _rate(plain, lambda batch: len(batch[0])),
        "ours, light augmentation": _timed(loader()),
        "ours, not augmented": _timed(loader("augmentation=none")),
    }
    cached = loader("data.cache=disk", "augmentation=none")
    for _ in cached:  # filled before it is timed
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
