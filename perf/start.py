"""Start-up time of the commands, and time and memory before the first batch of a million images.

    python perf/start.py
    python perf/start.py --images 1000000

Each figure is of a new process with the files in the page cache. "First step" is the first optimizer step of
`python train.py` on the built-in data; it is compared with `import torch, pytorch_lightning` alone.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import ROOT, alternate, comparison, markdown, options, parse, print_table

_LINKS = 30_000  # hard links per file: a million real files would take gigabytes
_FIRST_STEP = (
    "import os, runpy, sys; sys.argv = sys.argv[1:]\n"
    "from torch.optim.optimizer import register_optimizer_step_post_hook\n"
    "register_optimizer_step_post_hook(lambda *_: os._exit(0))\n"
    "runpy.run_path('train.py', run_name='__main__')"
)
_LARGE = (
    "import resource, sys, time\n"
    "import torch, pytorch_lightning, albumentations\n"
    "import ours\n"
    "from pathlib import Path\n"
    "begun, held = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
    "config = ours.configure(Path(sys.argv[1]), 'resnet18', size=(256, 256), batch_size=8)\n"
    "ours.data(config).train_dataloader()\n"
    "seconds = time.perf_counter() - begun\n"
    "print(seconds, held, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
)


def main() -> None:
    """Print both tables."""
    parser = options(__doc__ or "")
    parser.add_argument(
        "--images", type=int, default=0, help="size of the large data set; 0: no second table"
    )
    args = parse(parser)
    with TemporaryDirectory() as folder:
        begins = alternate(_contenders(Path(folder)), args.rounds) if args.rounds else {}
        rows = [_measure_large(Path(folder), args.images)] if args.images else []
    tables = [comparison(begins, ("bare imports",), "seconds", "cpu")] if begins else []
    heads = ["images", "seconds to the loader", "MB beside the imports", "MB in all"]
    tables += [markdown(heads, rows)] if rows else []
    print_table("\n\n".join(tables), "Seconds: less is better.")


def _contenders(folder: Path) -> dict[str, Callable[[], float]]:
    first_step = ["-c", _FIRST_STEP, "train.py", f"hydra.run.dir='{folder}/run'"]
    commands = {
        "bare imports": ["-c", "import torch, pytorch_lightning"],
        "train.py to its first step": first_step,
        "train.py --help": ["train.py", "--help"],
        "train.py --cfg job": ["train.py", "--cfg", "job"],
    }
    for arguments in commands.values():  # so that no round reads from a cold disk
        _seconds(arguments)
    return {name: lambda arguments=arguments: _seconds(arguments) for name, arguments in commands.items()}


def _seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - start


def _measure_large(folder: Path, count: int) -> list[str]:
    from photographs import make_folder

    small = make_folder(folder / "small", train=1, height=64, width=64) / "train"
    for part, ending in (("images", "jpg"), ("masks", "png")):
        (folder / part).mkdir()
        (original,) = (small / part).iterdir()
        for index in range(count):
            name = folder / part / f"picture_{index:07d}.{ending}"
            if index % _LINKS:
                os.link(original, name)
            else:
                original = Path(shutil.copy(original, name))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", _LARGE, str(folder)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, env=environment)
    seconds, held, peak = (float(value) for value in done.stdout.split())
    return [f"{count:,}", f"{seconds:.1f}", f"{(peak - held) / 1024:.0f}", f"{peak / 1024:.0f}"]


if __name__ == "__main__":
    main()
