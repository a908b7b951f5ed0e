"""The whole model: any size, any batch, any precision; and its description."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_models import TINY, assert_depends_on_image, assert_same, made, pictures, randomize_norms
from torch import nn

from segmentation.errors import UserError
from segmentation.models import Segmenter, create_segmenter
from segmentation.models.heads import ImagePooling, PooledBatchNorm
from segmentation.models.segmenter import DilatedGroups
from segmentation.options import call

DESCRIPTION: dict[str, Any] = {
    "backbone": {"source": "torchvision", "name": "mobilenet_v3_small", "norm_momentum": 0.1},
    "head": {"name": "deeplabv3", "rates": [2, 4, 6]},
    "outputs": 3,
    "output_stride": 8,
    "channels": 3,
    "aux": True,
}


@pytest.fixture(scope="module")
def model() -> Segmenter:
    """In evaluation mode; tests that change it copy it."""
    torch.manual_seed(0)
    ready = made("mobilenet_v3_small", aux=True)
    randomize_norms(ready, pictures(4, 3, 64, 64))
    return ready


def test_a_batch_of_one_leaves_the_poolings_statistics_alone() -> None:
    pooling = ImagePooling(8).train()
    norm = next(module for module in pooling if isinstance(module, PooledBatchNorm))
    one = torch.rand(1, 8, 4, 4)
    trained = pooling(one)
    assert torch.equal(trained, pooling.eval()(one))
    assert norm.running_mean is not None
    assert not norm.running_mean.any()
    pooling.train()(torch.rand(2, 8, 4, 4))
    assert norm.running_mean.any()


@settings(deadline=None, max_examples=12)
@given(height=st.integers(1, 90), width=st.integers(1, 90))
def test_images_of_any_size_pass(model: Segmenter, height: int, width: int) -> None:
    with torch.no_grad():
        logits, auxiliary = model.with_auxiliary(pictures(1, 3, height, width))
    assert auxiliary is not None
    assert logits.shape == auxiliary.shape == (1, 3, height, width)
    assert logits.isfinite().all()


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v3_large"])
@pytest.mark.parametrize("output_stride", [8, 32])
@pytest.mark.parametrize("size", [(1, 1), (97, 131)])
def test_odd_sizes_pass_at_every_stride(backbone: str, output_stride: int, size: tuple[int, int]) -> None:
    with torch.no_grad():
        logits = made(backbone, output_stride=output_stride).eval()(pictures(1, 3, *size))
    assert logits.shape == (1, 3, *size)
    assert logits.isfinite().all()


def test_an_image_is_judged_alike_in_any_batch(model: Segmenter) -> None:
    images = pictures(3, 3, 40, 56)
    with torch.no_grad():
        together, alone = model(images), torch.cat([model(image[None]) for image in images])
    assert_depends_on_image(together)
    assert_same(together, alone)


def test_bytes_and_floats_are_the_same_pixels(model: Segmenter) -> None:
    image = pictures(1, 3, 40, 56)
    with torch.no_grad():
        assert torch.equal(model(image), model(image.float()))


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_normalisation_comes_first(model: Segmenter, order: torch.memory_format) -> None:
    image = pictures(2, 3, 40, 56).contiguous(memory_format=order)
    bare = copy.deepcopy(model)
    bare.mean.zero_()
    bare.std.fill_(1)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None] * 255
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None] * 255
    with torch.no_grad():
        assert_same(model(image), bare((image - mean) / std))
        assert (model(image) - bare(image)).abs().max() > 0.1 * model(image).abs().max()


@pytest.mark.parametrize("shape", [(2, 3, 40, 56), (1, 3, 33, 1), (2, 1, 34, 35), (2, 5, 1, 40)])
@pytest.mark.parametrize(
    "layout",
    [
        lambda image: image,
        lambda image: image.contiguous(memory_format=torch.channels_last),
        lambda image: image.float().contiguous(memory_format=torch.channels_last),
        lambda image: image.repeat(1, 2, 1, 1)[:, ::2],
        lambda image: image.repeat(1, 1, 2, 2)[:, :, ::2, ::2].float(),
        lambda image: image.transpose(2, 3).contiguous().transpose(2, 3),
        lambda image: image.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1),
        lambda image: image[:1].expand(len(image), -1, -1, -1),
    ],
    ids=["plain", "last", "last float", "channels", "strided", "columns", "batch last", "expanded"],
)
def test_normalisation_is_right_in_every_memory_layout(
    shape: tuple[int, ...], layout: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    model = made("mobilenet_v3_small", head="lraspp", channels=shape[1])
    image = layout(pictures(*shape))
    before = image.clone()
    found = model._normalise(image)
    mean, std = (buffer.flatten().tolist() for buffer in (model.mean, model.std))
    for channel in range(shape[1]):
        expected = (image[:, channel].float() - mean[channel]) / std[channel]
        torch.testing.assert_close(found[:, channel], expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(image, before)


def test_forward_is_the_first_of_both_heads(model: Segmenter) -> None:
    image = pictures(1, 3, 40, 56)
    with torch.no_grad():
        assert torch.equal(model(image), model.with_auxiliary(image)[0])
        assert made("mobilenet_v3_small").eval().with_auxiliary(image)[1] is None


def test_logits_are_float32_under_autocast(model: Segmenter) -> None:
    image = pictures(1, 3, 40, 56)
    with torch.no_grad():
        expected = model(image)
        with torch.autocast("cpu", torch.bfloat16):
            logits, auxiliary = model.with_auxiliary(image)
    assert auxiliary is not None
    assert logits.dtype == auxiliary.dtype == torch.float32
    assert logits.shape == auxiliary.shape == (1, 3, 40, 56)
    # Resized in bf16, as few as 256 values would lie between 1 and 2.
    assert not torch.equal(logits, logits.bfloat16().float())
    assert (logits - expected).abs().max() < 0.5 * expected.abs().max()


def test_channels_last_changes_the_memory_alone(model: Segmenter) -> None:
    image = pictures(2, 3, 40, 56)
    turned = copy.deepcopy(model).to(memory_format=torch.channels_last)
    with torch.no_grad():
        logits = turned(image.to(memory_format=torch.channels_last))
        assert_same(logits, model(image))
    assert logits.is_contiguous(memory_format=torch.channels_last)


def test_export_takes_other_batches_sizes_and_orders() -> None:
    model = made(**TINY)
    randomize_norms(model, pictures(4, 3, 64, 64))
    free = torch.export.Dim.DYNAMIC
    shapes = ({0: free, 2: free, 3: free},)
    example = pictures(2, 3, 65, 97).contiguous(memory_format=torch.channels_last)
    program = torch.export.export(model, (example,), dynamic_shapes=shapes)
    image = pictures(3, 3, 72, 40)
    with torch.no_grad():
        assert_same(program.module()(image), model(image))


@pytest.mark.parametrize(
    ("output_stride", "given_rates", "expected"),
    [(8, None, 12), (16, None, 6), (32, None, 3), (16, [2, 5, 7], 2)],
)
def test_rates_follow_the_stride(output_stride: int, given_rates: list[int] | None, expected: int) -> None:
    model = made("mobilenet_v3_small", output_stride=output_stride, rates=given_rates)
    dilations = [module.dilation[0] for module in model.head.modules() if isinstance(module, nn.Conv2d)]
    found = [dilation for dilation in dilations if dilation > 1]
    assert found == (given_rates or [expected, 2 * expected, 3 * expected])


def test_the_description_builds_the_same_model_again() -> None:
    first = create_segmenter(**DESCRIPTION).eval()
    assert first.description == DESCRIPTION
    second = create_segmenter(**json.loads(json.dumps(first.description))).eval()
    second.load_state_dict(first.state_dict())
    image = pictures(1, 3, 40, 56)
    with torch.no_grad():
        assert torch.equal(first(image), second(image))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"backbone": {"name": "os.system"}}, "os.system"),
        ({"backbone": {"name": ["resnet18"]}}, "backbone.name"),
        ({"backbone": {"name": None}}, "backbone.name"),
        ({"backbone": {}}, "backbone.name is missing"),
        ({"backbone": "resnet18"}, "backbone=resnet18"),
        ({"backbone": {"name": "resnet18", "weights": "DEFAULT"}}, "weights"),
        ({"backbone": {"name": "resnet18", "output_stride": 8}}, "no option 'backbone.output_stride'"),
        ({"backbone": {"name": "resnet18", "norm_momentum": "much"}}, "backbone.norm_momentum=much"),
        ({"head": {"name": "torch.nn.Identity"}}, "torch.nn.Identity"),
        ({"head": {"name": {"deeplabv3": 1}}}, "Choose from: deeplabv3"),
        ({"head": {}}, "Choose from: deeplabv3"),
        ({"head": ["deeplabv3"]}, "head=['deeplabv3']"),
        ({"head": {"name": "deeplabv3", "rate": [6, 12, 18]}}, "Did you mean 'rates'?"),
        ({"head": {"name": "deeplabv3", "outputs": 5}}, "no option 'head.outputs'"),
        ({"head": {"name": "deeplabv3", "rates": "x"}}, "head.rates=x"),
        ({"head": {"name": "deeplabv3", "rates": []}}, "head.rates=[]"),
        ({"head": {"name": "deeplabv3", "rates": [6, 12]}}, "head.rates=[6, 12]"),
        ({"head": {"name": "deeplabv3", "rates": [0, 12, 18]}}, "head.rates=[0, 12, 18]"),
        ({"head": {"name": "deeplabv3", "rates": [6, 12, 10**9]}}, "head.rates"),
        ({"outputs": 0}, "outputs=0"),
        ({"outputs": 10**9}, "outputs=1000000000"),
        ({"channels": 0}, "channels=0"),
        ({"outputs": "many"}, "outputs=many"),
        ({"outputs": [3]}, "outputs=[3]"),
        ({"output_stride": -5}, "output_stride=-5"),
        ({"output_stride": 10**30}, "output_stride"),
        ({"output_stride": {"8": 8}}, "output_stride="),
        ({"aux": "perhaps"}, "aux=perhaps"),
        ({"_target_": "os.system"}, "_target_"),
    ],
)
def test_a_description_that_is_not_ours_is_refused(part: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        call("model", create_segmenter, **{**DESCRIPTION, **part})
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "resnext50_32x4d"])
def test_dilated_convolutions_in_groups_are_trained_in_float32(name: str) -> None:
    options: Any = {"backbone": {"name": name}, "head": {"name": "deeplabv3plus"}}
    model = create_segmenter(**options, outputs=2, output_stride=8)
    dilated = [
        each
        for each in model.modules()
        if isinstance(each, nn.Conv2d) and each.groups > 1 and max(each.dilation) > 1
    ]
    assert dilated
    assert {type(each) for each in dilated} == {DilatedGroups}


@pytest.mark.parametrize("batch", [2, 3, 8])
@pytest.mark.parametrize("kernel", [3, 5])
def test_their_gradients_in_bf16_are_those_of_float32(batch: int, kernel: int) -> None:
    # With nn.Conv2d several of these were wrong by many powers of ten in torch 2.15.
    torch.manual_seed(0)
    for channels in (88, 96, 120, 240, 288, 576):
        conv = DilatedGroups(channels, channels, kernel, padding=kernel - 1, dilation=2, groups=channels)
        conv = conv.to(memory_format=torch.channels_last)
        x_BCHW = torch.randn(batch, channels, 32, 32).to(memory_format=torch.channels_last)
        gradients = []
        for precision in (torch.float32, torch.bfloat16):
            conv.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
                y_BCHW = conv(x_BCHW)
            y_BCHW.float().square().mean().backward()
            assert conv.weight.grad is not None
            gradients.append(conv.weight.grad.clone())
        torch.testing.assert_close(*gradients)
