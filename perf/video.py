"""Video from file to file, frames per second: the tutorial's OpenCV loop against predict.py.

    python perf/video.py
    python perf/video.py --video PATH --backbone resnet50

Both decode, resize, predict with the same weights, draw and encode. Ours writes H.264, which browsers play; OpenCV's
wheels can only write MPEG-4. Without --video a synthetic one is made at the size that the model sees.
"""

import shutil
import time
from argparse import Namespace
from collections.abc import Callable
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import alternate, comparison, options, parse, print_table


def main() -> None:
    """Print the table."""
    parser = options(__doc__ or "", rounds=3)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, nargs=2, default=(416, 512), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--frames", type=int, default=60, help="frames of the synthetic video")
    parser.add_argument("--batch", type=int, default=8, help="frames per step of ours")
    parser.add_argument("--video", type=Path)
    parser.add_argument(
        "--train", type=int, default=64, help="images that the model is trained on; not timed"
    )
    parser.add_argument("--compile", action="store_true", help="compile our model; on a GPU with CUDA graphs")
    args = parse(parser)
    shares: list[str] = []
    with TemporaryDirectory() as folder:
        rates = alternate(_contenders(Path(folder), args, shares), args.rounds)
    table = comparison(rates, ("tutorial",), "frames/s", args.device)
    height, width = args.size
    print_table(table, f"{args.backbone} at {height}x{width}, from file to file. Ours: {shares[-1]}.")


def _contenders(folder: Path, args: Namespace, shares: list[str]) -> dict[str, Callable[[], float]]:
    import ours
    import tutorial
    from photographs import make_folder, make_video

    import segmentation
    from segmentation.inference.video import overlays, predict_video

    size = tuple(args.size)
    root = make_folder(folder / "data", train=args.train)
    source = args.video or make_video(folder / "video.mp4", args.frames, height=size[0], width=size[1])
    plain = tutorial.trained(args.backbone, root / "train", size, args.device)
    config = ours.configure(root, args.backbone, size=size, batch_size=8)
    checkpoint = ours.save_checkpoint(config, plain, folder / "model.ckpt")
    render = overlays(segmentation.load(checkpoint, compile=args.compile))
    numbers = count()

    def loop() -> float:
        start = time.perf_counter()
        frames = tutorial.predict_video(plain, source, folder / "tutorial.mp4", size, args.device)
        return frames / (time.perf_counter() - start)

    def own() -> float:
        output = folder / str(next(numbers))
        start = time.perf_counter()
        summary = predict_video(render, source, output, batch_size=args.batch)
        rate = summary.frames / (time.perf_counter() - start)
        shutil.rmtree(output)
        shares.append(", ".join(f"{stage} busy {share:.0%}" for stage, share in summary.shares.items()))
        return rate

    return {"tutorial": loop, "predict.py": own}


if __name__ == "__main__":
    main()
