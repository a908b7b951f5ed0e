"""Folded batch norms change the speed of a model, not its answers."""

import pytest
import torch
from torch import Tensor, nn

from segmentation.models import create_segmenter
from segmentation.models.folding import fold_batch_norms
from segmentation.models.segmenter import Segmenter


def settled(backbone: str, head: str) -> Segmenter:
    """A model whose batch norms have statistics and weights that are neither 0 nor 1."""
    torch.manual_seed(0)
    model = create_segmenter(backbone={"name": backbone}, head={"name": head}, outputs=3)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.2)
            layer.momentum = 0.5
    with torch.no_grad():
        for _ in range(3):
            model.train()(torch.randint(256, (2, 3, 48, 48)))
    return model.eval()


def norms(model: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())


@pytest.mark.parametrize(
    ("backbone", "head", "left"),
    [
        ("resnet18", "deeplabv3", 0),
        ("mobilenet_v3_small", "lraspp", 0),
        ("shufflenet_v2_x0_5", "deeplabv3plus", 0),
        ("densenet121", "fcn", 62),  # its layers begin with their norm: only the second can be folded
    ],
)
def test_answers_stay(backbone: str, head: str, left: int) -> None:
    model = settled(backbone, head)
    before = norms(model)
    image_BCHW = torch.randint(256, (1, 3, 48, 64))
    with torch.no_grad():
        answer_BKHW = model(image_BCHW)
        folded = fold_batch_norms(model)
        folded_BKHW = folded(image_BCHW)
        again_BKHW = model(image_BCHW)
    scale = float(answer_BKHW.abs().max())
    assert float((folded_BKHW - answer_BKHW).abs().max()) < 1e-5 * max(scale, 1)
    assert norms(folded) == left
    assert norms(model) == before
    assert torch.equal(again_BKHW, answer_BKHW)


class _Twice(nn.Module):
    """Something beside the norm reads the convolution's result."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(256, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, features: dict[int, Tensor]) -> Tensor:
        values = self.convolution(features[32][:, :256])
        total: Tensor = self.norm(values) + values
        return total


def test_what_others_read_is_not_folded() -> None:
    model = settled("resnet18", "fcn")
    model.head = _Twice().eval()
    nn.init.uniform_(model.head.norm.running_var, 0.5, 2.0)
    folded = fold_batch_norms(model)
    assert norms(folded) == 1
    image_BCHW = torch.randint(256, (1, 3, 64, 64))
    with torch.no_grad():
        assert torch.allclose(folded(image_BCHW), model(image_BCHW), atol=1e-5)
