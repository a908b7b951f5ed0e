"""How far ONNX Runtime's answers are from torch's: every head on backbones of several families, at odd sizes.

    python perf/export.py                          the table in docs/export.md
    python perf/export.py --heads fpn --backbones swin_t timm:resnet10t

Untrained models whose batch norms have seen pictures. Every model is exported once and computed at each size with each
batch; the largest difference of a probability and the share of pixels with the same label are those of all.
"""

import argparse
import itertools
import time

import torch
from torch import nn

from segmentation.errors import UserError
from segmentation.export.graph import Network, export_part
from segmentation.models import HEADS, Segmenter, create_segmenter
from segmentation.models.onnx_network import LOGITS, PIXELS, session

BACKBONES = ("resnet18", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "timm:resnet10t")
SIZES = ((64, 64), (81, 130), (31, 45))
BATCHES = (1, 2, 3)
OUTPUTS = 5


def made(backbone: str, head: str) -> Segmenter:
    """A model of one head and backbone in evaluation mode."""
    torch.manual_seed(0)
    source, _, name = backbone.rpartition(":")
    model = create_segmenter(
        backbone={"source": source or "torchvision", "name": name}, head={"name": head}, outputs=OUTPUTS
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.randint(0, 256, (4, 3, 96, 96), dtype=torch.uint8))
    return model.eval().requires_grad_(False)


def compared(model: Segmenter) -> tuple[float, float]:
    """The largest difference of a probability, and the share of pixels with the same label."""
    example = {PIXELS: torch.zeros(2, 3, 70, 101)}
    run = session(export_part(Network(model), example, [LOGITS]).SerializeToString())
    largest, same, pixels = 0.0, 0, 0
    for (height, width), batch in itertools.product(SIZES, BATCHES):
        image = torch.randint(0, 256, (batch, 3, height, width)).float()
        expected = model(image).softmax(dim=1)
        found = torch.from_numpy(run.run([LOGITS], {PIXELS: image.numpy()})[0]).softmax(dim=1)
        largest = max(largest, float((found - expected).abs().max()))
        same += int((found.argmax(1) == expected.argmax(1)).sum())
        pixels += batch * height * width
    return largest, same / pixels


def main() -> None:
    """Prints a row for each model as it is done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--heads", nargs="+", default=list(HEADS), choices=list(HEADS))
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES))
    given = parser.parse_args()
    print(
        "| backbone | head | largest difference | same labels | export, s |\n| --- | --- | --- | --- | --- |"
    )
    for backbone, head in itertools.product(given.backbones, given.heads):
        start = time.perf_counter()
        try:
            largest, same = compared(made(backbone, head))
        except UserError as error:
            print(f"| {backbone} | {head} | {error} | | |", flush=True)
            continue
        seconds = time.perf_counter() - start
        print(f"| {backbone} | {head} | {largest:.1e} | {same:.4%} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
