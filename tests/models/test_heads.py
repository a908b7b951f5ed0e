"""Any head on any backbone: forward, backward and export."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import CONF
from made_models import TINY, made, pictures, uninitialized_weights
from torch import Tensor, nn

from segmentation.models import HEADS, create_segmenter
from segmentation.models.backbones import Backbone
from segmentation.models.compile import free_sizes
from segmentation.models.heads import mean_of_cells

BACKBONES: dict[str, dict[str, Any]] = {
    path.stem: yaml.safe_load(path.read_text()) for path in sorted(Path(CONF, "backbone").glob("[!_]*.yaml"))
}


# The same layers as those of a smaller one, wider or more often. That they are built: tests/test_configs.py.
LARGER = (
    *("convnext_small", "efficientnet_b3", "efficientnet_lite1", "efficientnet_lite2", "mnasnet1_0"),
    *("mobilenetv3_large", "regnet_y_1_6gf", "regnet_y_8gf", "shufflenetv2_x1_0"),
    *("resnet34", "resnet50", "resnet101", "resnet152", "torchvision", "wide_resnet50"),
)
KINDS = [name for name in BACKBONES if name not in LARGER]


def section(name: str) -> dict[str, Any]:
    options = {key: value for key, value in BACKBONES[name].items() if key != "defaults"}
    return {**options, "norm_momentum": None}


@pytest.mark.parametrize("backbone", KINDS)
def test_one_image_of_odd_size_trains_every_parameter_with_every_head(backbone: str) -> None:
    """A batch of one, which a batch norm over a pooled image cannot train.

    The backbone runs once: each head trains the last of its feature maps, and that one all of the backbone.
    """
    model = create_segmenter(backbone=section(backbone), head={"name": "fcn"}, outputs=3, aux=True).train()
    trunk, image = model.backbone, pictures(1, 3, 49, 67)
    features: list[dict[int, Tensor]] = []
    trunk.register_forward_hook(lambda *call: features.append(call[-1]))
    model.with_auxiliary(image)
    leaves = {stride: values.detach().requires_grad_() for stride, values in features[0].items()}
    model.backbone = Given(trunk, leaves)
    for name, head in HEADS.items():
        model.head = head(channels=trunk.channels, strides=trunk.strides, outputs=3).train()
        logits, auxiliary = model.with_auxiliary(image)
        assert auxiliary is not None
        assert logits.shape == auxiliary.shape == (1, 3, 49, 67)
        leaves[32].grad = None
        (logits.square().mean() + auxiliary.square().mean()).backward()
        check_trained([("features", leaves[32]), *model.named_parameters()], name)
    features[0][32].backward(leaves[32].grad)
    check_trained(trunk.named_parameters(), backbone)


class Given(nn.Module):
    """Feature maps that a backbone has computed before."""

    def __init__(self, trunk: Backbone, features: dict[int, Tensor]) -> None:
        super().__init__()
        self.strides, self.features = trunk.strides, features

    def forward(self, image_BCHW: Tensor) -> dict[int, Tensor]:
        return self.features


def check_trained(parameters: Iterable[tuple[str, Tensor]], name: str) -> None:
    for key, parameter in parameters:
        assert parameter.grad is not None, (name, key)
        assert parameter.grad.sum().isfinite(), (name, key)


@pytest.mark.parametrize(
    ("head", "stride"),
    [
        *(("deeplabv3", 16), ("deeplabv3plus", 4), ("fpn", 4), ("unet", 2), ("upernet", 4), ("lraspp", 8)),
        ("fcn", 16),
    ],
)
def test_logits_come_at_the_heads_own_stride(head: str, stride: int) -> None:
    model = made("resnet18", head=head).eval()
    with torch.no_grad():
        logits = model.head(model.backbone(torch.randn(1, 3, 64, 96)))
    assert logits.shape == (1, 3, 64 // stride, 96 // stride)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("output_stride", [8, 32])
def test_every_head_at_every_output_stride(head: str, output_stride: int) -> None:
    model = made("mobilenet_v3_small", head=head, output_stride=output_stride).eval()
    with torch.no_grad():
        assert model(pictures(1, 3, 65, 97)).shape == (1, 3, 65, 97)


def test_deeplabv3plus_has_the_parameters_of_its_parts() -> None:
    def separable(given: int, made: int) -> int:
        return 9 * given + given * made + 2 * made

    channels, detail, width = 512, 48, 256
    pyramid = 2 * (channels * width + 2 * width) + 3 * separable(channels, width) + 5 * width**2 + 2 * width
    decoder = separable(width + detail, width) + separable(width, width) + width * 3 + 3
    expected = pyramid + 64 * detail + 2 * detail + decoder
    head = made("resnet18", head="deeplabv3plus").head
    assert sum(parameter.numel() for parameter in head.parameters()) == expected


@pytest.mark.parametrize(("backbone", "finest"), [("efficientnet_lite0", 2), ("resnet18", 2), ("swin_t", 4)])
def test_unet_uses_the_features_of_stride_2_where_there_are_some(backbone: str, finest: int) -> None:
    model = create_segmenter(backbone=section(backbone), head={"name": "unet"}, outputs=3).eval()
    with torch.no_grad():
        features = model.backbone(torch.randn(1, 3, 64, 96))
        logits = model.head(features)
    assert min(features) == min(model.backbone.channels) == finest
    assert logits.shape == (1, 3, 64 // finest, 96 // finest)
    plain = create_segmenter(backbone=section(backbone), head={"name": "fcn"}, outputs=3)
    assert min(plain.backbone.channels) == 4  # nothing is kept in memory for a head that does not use it


@pytest.mark.parametrize("bins", [1, 2, 3, 6])
def test_cells_are_those_of_adaptive_pooling(bins: int) -> None:
    values = torch.randn(2, 3, 5, 13)
    torch.testing.assert_close(mean_of_cells(values, bins), nn.AdaptiveAvgPool2d(bins)(values))


@pytest.mark.parametrize("backbone", KINDS)
def test_every_kind_of_backbone_can_be_exported(backbone: str) -> None:
    with uninitialized_weights():  # the graph needs no values
        model = create_segmenter(backbone=section(backbone), head={"name": "fcn"}, outputs=3)
    # What is exported is for inference: no gradient need be traced.
    model = model.eval().requires_grad_(False).to("meta")
    exported = torch.export.export(model, (torch.empty(2, 3, 64, 96, dtype=torch.uint8, device="meta"),))
    (output,) = (node for node in exported.graph.nodes if node.op == "output")
    assert output.args[0][0].meta["val"].shape == (2, 3, 64, 96)


@pytest.mark.parametrize("backbone", ["convnext_tiny", "vgg16", "densenet121", "swin_t", "resnet18"])
def test_small_images_pass_where_strides_round_down(backbone: str) -> None:
    torch.manual_seed(0)
    model = create_segmenter(backbone=section(backbone), head={"name": "deeplabv3plus"}, outputs=3).eval()
    for size in ((1, 1), (31, 31), (20, 70)):
        image = pictures(1, 3, *size)
        with torch.no_grad():
            logits = model(image)
            # The same as of the image whose edge goes on to 32 pixels.
            beyond = (0, max(32 - size[1], 0), 0, max(32 - size[0], 0))
            whole = model(torch.nn.functional.pad(image.float(), beyond, mode="replicate"))
        assert logits.shape == (1, 3, *size)
        assert torch.equal(logits, whole[..., : size[0], : size[1]]), size


@pytest.mark.parametrize("head", HEADS)
def test_every_head_can_be_exported_for_any_size(head: str) -> None:
    torch.manual_seed(0)
    model = made(**TINY, head=head).eval().requires_grad_(False)
    free = {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    with free_sizes():
        program = torch.export.export(model, (pictures(2, 3, 64, 96),), dynamic_shapes={"image_BCHW": free})
    other = pictures(3, 3, 81, 130)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(other), model(other), rtol=1e-4, atol=1e-5)
