"""Backbones: strides and channels by shape, dilation against the undilated net and torchvision's own."""

import pytest
import torch
from made_models import assert_same, assert_seen, lively
from torchvision.models import get_model

from segmentation.errors import UserError
from segmentation.models.backbone import BACKBONES, STRIDES, Backbone, create_backbone

CHANNELS = {
    "resnet18": (64, 128, 256, 512),
    "resnet34": (64, 128, 256, 512),
    "resnet50": (256, 512, 1024, 2048),
    "resnet101": (256, 512, 1024, 2048),
    "mobilenetv3_small": (16, 24, 48, 576),
    "mobilenetv3_large": (24, 40, 112, 960),
}


def pair(name: str, output_stride: int) -> tuple[Backbone, Backbone]:
    """The same weights undilated and dilated."""
    plain = create_backbone(name=name, output_stride=32)
    lively(plain, torch.randn(2, 3, 64, 64))
    dilated = create_backbone(name=name, output_stride=output_stride)
    dilated.load_state_dict(plain.state_dict())
    return plain, dilated.eval()


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("name", BACKBONES)
def test_feature_maps_come_at_the_strides_and_channels_it_states(name: str, output_stride: int) -> None:
    with torch.device("meta"):  # shapes alone
        backbone = create_backbone(name=name, output_stride=output_stride).eval()
        features = backbone(torch.randn(1, 3, 64, 96))
    assert backbone.strides == {stride: min(stride, output_stride) for stride in STRIDES}
    assert tuple(backbone.channels.values()) == CHANNELS[name]
    for stride, values_BCHW in features.items():
        true = min(stride, output_stride)
        assert values_BCHW.shape == (1, backbone.channels[stride], 64 // true, 96 // true)


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_dilation_keeps_the_features_and_adds_those_between(name: str, output_stride: int) -> None:
    plain, dilated = pair(name, output_stride)
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        coarse, fine = plain(images), dilated(images)
    assert_seen(coarse[32])
    for stride in STRIDES:
        step = stride // min(stride, output_stride)
        assert_same(fine[stride][..., ::step, ::step], coarse[stride])


@pytest.mark.parametrize(
    ("name", "output_stride", "options"),
    [
        ("resnet50", 16, {"replace_stride_with_dilation": [False, False, True]}),
        ("resnet50", 8, {"replace_stride_with_dilation": [False, True, True]}),
        ("mobilenetv3_small", 16, {"dilated": True}),
        ("mobilenetv3_large", 16, {"dilated": True}),
    ],
)
def test_dilation_is_torchvisions(name: str, output_stride: int, options: dict[str, object]) -> None:
    _, ours = pair(name, output_stride)
    theirs = get_model(BACKBONES[name].torchvision, weights=None, **options).eval()
    blocks = getattr(theirs, "features", theirs)
    blocks.load_state_dict(ours.state_dict(), strict=False)
    image = torch.randn(2, 3, 65, 97)
    expected = image
    with torch.no_grad():
        for block in ours:
            expected = getattr(blocks, block)(expected)
        assert_seen(expected)
        assert_same(ours(image)[32], expected)


@pytest.mark.parametrize("name", BACKBONES)
def test_keys_are_those_of_torchvisions_classifier(name: str) -> None:
    with torch.device("meta"):
        theirs = get_model(BACKBONES[name].torchvision, weights=None)
        backbone = create_backbone(name=name, output_stride=16)
    blocks = getattr(theirs, "features", theirs)
    expected = {key for key in blocks.state_dict() if not key.startswith("fc.")}
    assert backbone.state_dict().keys() == expected


@pytest.mark.parametrize(("momentum", "expected"), [(None, 0.01), (0.1, 0.1), (1.0, 1.0)])
def test_momentum_of_the_norms(momentum: float | None, expected: float) -> None:
    backbone = create_backbone(name="mobilenetv3_small", output_stride=16, norm_momentum=momentum)
    found = {module.momentum for module in backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)}
    assert found == {expected}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet19", "output_stride": 16}, "Did you mean 'resnet18'?"),
        ({"name": "resnet18", "output_stride": 4}, "it can do 8, 16, 32"),
        ({"name": "mobilenetv3_small", "output_stride": 64}, "it can do 8, 16, 32"),
        ({"name": "resnet18", "output_stride": 16, "norm_momentum": 0.0}, "norm_momentum=0.0"),
        ({"name": "resnet18", "output_stride": 16, "norm_momentum": 1.5}, "norm_momentum=1.5"),
        ({"name": "resnet18", "output_stride": 16, "norm_momentum": float("nan")}, "norm_momentum=nan"),
    ],
)
def test_what_is_not_possible_says_what_is(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        create_backbone(**options)  # type: ignore[arg-type]
    assert message in str(caught.value)
