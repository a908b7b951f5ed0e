"""Video end to end, frames a second: the tutorial's OpenCV loop, a frame at a time, against predict.py's path.

    python perf/video.py
    python perf/video.py --video PATH --backbone resnet50

Both decode, resize, predict with the same weights, draw and encode; ours writes H.264 that browsers play, OpenCV's
wheels can only write MPEG-4. Without --video one is made of the built-in shapes, at the size that the model sees.
"""

import shutil
import time
from argparse import Namespace
from collections.abc import Callable
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import alternate, begin, comparison, options, show


def main() -> None:
    """Prints the table."""
    parser = options(__doc__ or "", rounds=3)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, nargs=2, default=(416, 512), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--frames", type=int, default=60, help="of the video that is made")
    parser.add_argument("--batch", type=int, default=8, help="frames to a step of ours, as predict.py has it")
    parser.add_argument("--video", type=Path)
    parser.add_argument(
        "--compile", action="store_true", help="ours by torch.compile, on a GPU as CUDA graphs"
    )
    chosen = begin(parser)
    said: list[str] = []
    with TemporaryDirectory() as folder:
        rates = alternate(_contenders(Path(folder), chosen, said), chosen.rounds)
    table = comparison(rates, ("tutorial",), "frames/s", chosen.device)
    height, width = chosen.size
    show(table, f"{chosen.backbone} at {height}x{width}, from file to file. Ours: {said[-1]}.")


def _contenders(folder: Path, chosen: Namespace, said: list[str]) -> dict[str, Callable[[], float]]:
    import ours
    import tutorial
    from photographs import make_folder, make_video

    import segmentation
    from segmentation.inference.video import overlays, predict_video

    size = tuple(chosen.size)
    root = make_folder(folder / "data", train=64)
    source = chosen.video or make_video(folder / "video.mp4", chosen.frames, height=size[0], width=size[1])
    plain = tutorial.settled(chosen.backbone, root / "train", size, chosen.device)
    config = ours.configure(root, chosen.backbone, size=size, batch_size=8)
    checkpoint = ours.save_checkpoint(config, plain, folder / "model.ckpt")
    render = overlays(segmentation.load(checkpoint, compile=chosen.compile))
    numbers = count()

    def loop() -> float:
        start = time.perf_counter()
        frames = tutorial.predict_video(plain, source, folder / "tutorial.mp4", size, chosen.device)
        return frames / (time.perf_counter() - start)

    def own() -> float:
        output = folder / str(next(numbers))
        start = time.perf_counter()
        summary = predict_video(render, source, output, batch_size=chosen.batch)
        rate = summary.frames / (time.perf_counter() - start)
        shutil.rmtree(output)
        said.append(", ".join(f"{stage} busy {share:.0%}" for stage, share in summary.shares.items()))
        return rate

    return {"tutorial": loop, "predict.py": own}


if __name__ == "__main__":
    main()
