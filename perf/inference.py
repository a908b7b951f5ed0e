"""Inference, one image at a time: eager torchvision against our model in full and in reduced precision.

    python perf/inference.py
    python perf/inference.py --backbones resnet50 --size 512 512

Both have the same weights. Images are decoded in memory; the time is from pixels to probabilities.
The notes under the table say how far ours in fp32 is from torchvision, and how often reduced precision gives the same
label.
"""

import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import NOT_RUN, alternate, comparison, options, parse, print_table


def main() -> None:
    """Print a table for each backbone."""
    parser = options(__doc__ or "")
    parser.add_argument("--backbones", nargs="+", default=["mobilenetv3_small", "resnet50"])
    parser.add_argument("--size", type=int, nargs=2, default=(256, 256), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--images", type=int, default=16, help="images per round")
    parser.add_argument(
        "--reduced",
        default="auto",
        help="reduced precision: bf16-mixed or 16-mixed; auto: what the hardware supports",
    )
    parser.add_argument("--compile", action="store_true", help="compile our model; on a GPU with CUDA graphs")
    args = parse(parser)
    tables, notes = [], []
    for backbone in args.backbones:
        with TemporaryDirectory() as folder:
            contenders, note = _contenders(Path(folder), backbone, args)
        rates = alternate(contenders, args.rounds)
        tables.append(f"{backbone}:\n\n" + comparison(rates, ("torchvision",), "images/s", args.device))
        notes.append(f"{backbone}: {note}")
    height, width = args.size
    print_table("\n\n".join(tables), f"{height}x{width}, batch 1.", *notes)


def _contenders(folder: Path, backbone: str, args: Namespace) -> tuple[dict[str, Callable[[], float]], str]:
    import ours
    import torch
    import tutorial
    from photographs import make_folder

    import segmentation
    from segmentation.environment import choose_precision

    size = tuple(args.size)
    root = make_folder(folder / "data", train=64, test=args.images)
    plain = tutorial.trained(backbone, root / "train", size, args.device)
    config = ours.configure(root, backbone, size=size, batch_size=1)
    checkpoint = ours.save_checkpoint(config, plain, folder / "model.ckpt")
    images = [batch["image"] for batch in ours.data(config).test_dataloader()]

    @torch.no_grad()
    def eager(image_BCHW: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = plain((image_BCHW.to(args.device).float() / 255).contiguous())["out"].sigmoid()
        return answer

    full = segmentation.load(checkpoint, precision="32-true", compile=args.compile)
    contenders = {"torchvision": eager, "ours, fp32": lambda image: full.probabilities(image, size=size)}
    off = max(float((contenders["ours, fp32"](one) - eager(one)).abs().max()) for one in images)
    note = f"probabilities in fp32 differ by at most {off:.1e}"
    precision = choose_precision(args.reduced, torch.device(args.device))
    if precision == "32-true":
        note += f"; reduced precision: {NOT_RUN}, this processor does not compute in bf16"
    else:
        less = segmentation.load(checkpoint, precision=precision, compile=args.compile)
        contenders[f"ours, {precision}"] = lambda image: less.probabilities(image, size=size)
        labels, reduced = (
            torch.stack([found >= 0.5 for found in map(call, images)])
            for call in (eager, contenders[f"ours, {precision}"])
        )
        note += (
            f"; {precision} gives the same label to {(labels == reduced).float().mean():.3%} of the pixels, of which"
            f" {labels.float().mean():.0%} are foreground"
        )
    return {name: _timed(call, images) for name, call in contenders.items()}, note


def _timed(call: Callable[..., object], images: list) -> Callable[[], float]:
    import torch

    def rate() -> float:
        call(images[0])
        start = time.perf_counter()
        for image_BCHW in images:
            call(image_BCHW)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return len(images) / (time.perf_counter() - start)

    return rate


if __name__ == "__main__":
    main()
