"""Inference, one image at a time: the tutorial's eager torchvision model against ours, eager, compiled and exported.

    python perf/inference.py --compile
    python perf/inference.py --compile --exported --backbones mobilenetv3_small efficientnet_lite0 resnet50

All contenders have the same weights. Images are decoded in memory; the time is from pixels to probabilities. Ours runs
in fp32 and, if the hardware has it, in reduced precision, each also compiled with `--compile` (on a CPU with Inductor's
freezing, on a GPU with CUDA graphs); with `--exported` also by ONNX Runtime on the processor, in float32 and in INT8.
A backbone that the tutorial does not have is compared with ours in fp32, untrained. Below the table: the largest
difference in probability to the first contender, and how many pixels get the same label.
"""

import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from measure import NOT_RUN, alternate, comparison, options, parse, print_table

TUTORIAL = "torchvision"


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
    parser.add_argument(
        "--train", type=int, default=64, help="images that the model is trained on; not timed"
    )
    parser.add_argument(
        "--compile", action="store_true", help="also measure our model compiled; that takes minutes first"
    )
    parser.add_argument(
        "--exported", action="store_true", help="also measure ONNX Runtime; needs the extra `export`"
    )
    args = parse(parser)
    tables, notes = [], []
    for backbone in args.backbones:
        with TemporaryDirectory() as folder:
            contenders, agreement = _contenders(Path(folder), backbone, args)
        rates = alternate(contenders, args.rounds)
        tables.append(
            f"{backbone}:\n\n" + comparison(rates, (next(iter(contenders)),), "images/s", args.device)
        )
        notes += [f"{backbone}, {note}" for note in agreement]
    height, width = args.size
    print_table("\n\n".join(tables), f"{height}x{width}, batch 1.", *notes)


def _contenders(
    folder: Path, backbone: str, args: Namespace
) -> tuple[dict[str, Callable[[], float]], list[str]]:
    import ours
    import torch
    import tutorial
    from photographs import make_folder

    import segmentation
    from segmentation.environment import choose_precision

    size = tuple(args.size)
    root = make_folder(folder / "data", train=args.train, test=args.images)
    known = backbone in tutorial.STRIDES
    plain = tutorial.trained(backbone, root / "train", size, args.device) if known else None
    config = ours.configure(root, backbone, size=size, batch_size=1)
    checkpoint = ours.save_checkpoint(config, plain, folder / "model.ckpt")
    images = [batch["image"] for batch in ours.data(config).test_dataloader()]

    @torch.no_grad()
    def eager(image_BCHW: torch.Tensor) -> torch.Tensor:
        pixels = (image_BCHW.to(args.device).float() / 255).contiguous()
        answer: torch.Tensor = plain(pixels)["out"].sigmoid()
        return answer

    def predict(precision: str, compile: bool) -> Callable[[Any], Any]:
        model = segmentation.load(checkpoint, precision=precision, compile=compile)
        return lambda image: model.probabilities(image, size=size)

    contenders = {TUTORIAL: eager} if known else {}
    contenders["ours, fp32"] = predict("32-true", False)
    reduced = choose_precision(args.reduced, torch.device(args.device))
    if reduced != "32-true":
        contenders[f"ours, {reduced}"] = predict(reduced, False)
    if args.compile:
        contenders["ours, fp32, compiled"] = predict("32-true", True)
        if reduced != "32-true":
            contenders[f"ours, {reduced}, compiled"] = predict(reduced, True)
    if args.exported:
        contenders |= _exported(checkpoint, images, size)
    # A compiled model may write its next answer into the same tensor.
    answers = {name: [call(image).clone() for image in images] for name, call in contenders.items()}
    first, *others = answers
    notes = [_agreement(name, answers[name], answers[first], first) for name in others]
    if reduced == "32-true":
        notes.append(f"reduced precision: {NOT_RUN}, this processor does not compute in bf16")
    return {name: _timed(call, images) for name, call in contenders.items()}, notes


def _exported(checkpoint: Path, images: list[Any], size: tuple[int, int]) -> dict[str, Callable[[Any], Any]]:
    """ONNX Runtime with the files that export.py writes; INT8 is calibrated on the images themselves."""
    import numpy as np

    import segmentation
    from segmentation.checkpoint import load
    from segmentation.cli import compose
    from segmentation.config import read_export_settings
    from segmentation.export.graph import export_network, whole_graph
    from segmentation.export.precision import Quantisation, layers

    trained = replace(load(checkpoint), resize=False)  # all images have its size
    network = export_network(trained)
    pixels_BCHW = (np.ascontiguousarray(image.numpy(), np.float32) for image in images)
    networks = {
        "ours, ONNX Runtime": network,
        "ours, ONNX Runtime, INT8": Quantisation(network, pixels_BCHW).apply(layers(network)),
    }
    contenders = {}
    for name, one in networks.items():
        settings = read_export_settings(compose("export", f"checkpoint='{checkpoint}'"))
        file = checkpoint.with_name(f"{len(contenders)}.onnx")
        file.write_bytes(whole_graph(one, checkpoint, trained, settings).SerializeToString())
        model = segmentation.load(file)
        contenders[name] = partial(model.probabilities, size=size)
    return contenders


def _agreement(name: str, found: list[Any], expected: list[Any], first: str) -> str:
    """How far the probabilities of all images are from those of the first contender."""
    import torch

    ours, theirs = (torch.stack(answers) for answers in (found, expected))
    same, foreground = (ours >= 0.5) == (theirs >= 0.5), theirs >= 0.5
    return (
        f"{name}: the largest difference in probability to {first} is {(ours - theirs).abs().max():.1e}, and"
        f" {same.float().mean():.3%} of the pixels get the same label ({foreground.float().mean():.0%} are foreground)"
    )


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
