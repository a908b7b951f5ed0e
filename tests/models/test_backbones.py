"""torchvision's backbones: strides by shape; dilation compared with the undilated network and with torchvision."""

from collections.abc import Iterator, Mapping

import pytest
import torch
from made_models import assert_depends_on_image, assert_same, randomize_norms, uninitialized_weights
from torch import nn
from torchvision.models import get_model, get_model_weights, list_models
from torchvision.ops import SqueezeExcitation

from segmentation.errors import UserError
from segmentation.models.backbones import OUTPUT_STRIDES, STRIDES, Backbone, create_backbone
from segmentation.models.backbones.torchvision import backbone_names

# One of each way of building: (channels of strides 4, 8, 16, 32).
FAMILIES = {
    "resnet18": (64, 128, 256, 512),
    "resnext50_32x4d": (256, 512, 1024, 2048),
    "regnet_x_400mf": (32, 64, 160, 400),
    "regnet_y_400mf": (48, 104, 208, 440),
    "mobilenet_v2": (24, 32, 96, 1280),
    "mobilenet_v3_small": (16, 24, 48, 576),
    "mobilenet_v3_large": (24, 40, 112, 960),
    "mnasnet0_5": (16, 24, 48, 1280),
    "shufflenet_v2_x0_5": (24, 48, 96, 1024),
    "efficientnet_b0": (24, 40, 112, 1280),
    "efficientnet_v2_s": (48, 64, 160, 1280),
    "convnext_tiny": (96, 192, 384, 768),
    "densenet121": (256, 512, 1024, 1024),
    "vgg11_bn": (256, 512, 512, 512),
    "swin_t": (96, 192, 384, 768),
    "swin_v2_t": (96, 192, 384, 768),
}
WINDOWED = ("swin",)  # what these halve is not a convolution


def create(name: str, output_stride: int | None = 32, in_channels: int = 3, **options: object) -> Backbone:
    section = {"source": "torchvision", "name": name, **options}
    return create_backbone(section, output_stride=output_stride, in_channels=in_channels)


@pytest.fixture
def fresh_memory() -> Iterator[None]:
    """Uninitialised weights, for tests of shapes and names only."""
    with uninitialized_weights():
        yield


@pytest.mark.usefixtures("fresh_memory")
@pytest.mark.parametrize("name", backbone_names())
def test_features_come_at_the_stride_asked_for_from_the_parameters_that_torchvision_publishes(
    name: str,
) -> None:
    """`strides` come from the shapes of the feature maps; at 8 all that can be dilated is."""
    stride = 32 if name.startswith(WINDOWED) else 8
    backbone, theirs = create(name, stride), get_model(name, weights=None)
    if stride == 32:
        with pytest.raises(UserError, match=f"{name}: it can do 32"):
            create(name, 8)
    assert backbone.strides == {each: min(each, stride) for each in STRIDES}
    published = get_model_weights(name).DEFAULT.meta["num_params"]
    own = {id(parameter) for parameter in theirs.parameters()}
    behind = [getattr(theirs, part) for part in ("classifier", "fc", "head") if hasattr(theirs, part)]
    classifying = sum(parameter.numel() for part in behind for parameter in part.parameters())
    assert len(own) > 10
    assert sum(parameter.numel() for parameter in backbone.parameters()) == published - classifying


@pytest.mark.usefixtures("fresh_memory")
@pytest.mark.parametrize("name", FAMILIES)
def test_feature_maps_have_the_strides_and_channels_of_the_last_block_of_each(name: str) -> None:
    for output_stride in (32,) if name.startswith(WINDOWED) else OUTPUT_STRIDES:
        backbone = create(name, output_stride)
        with torch.no_grad():
            features = backbone.eval()(torch.zeros(1, 3, 64, 96))
        assert tuple(backbone.channels.values()) == FAMILIES[name]
        for stride in STRIDES:
            true = min(stride, output_stride)
            assert features[stride].shape == (1, backbone.channels[stride], 64 // true, 96 // true)


@pytest.mark.usefixtures("fresh_memory")
def test_the_default_output_stride_is_16_if_possible() -> None:
    assert create("resnet18", None).strides[32] == 16
    assert create("swin_t", None).strides[32] == 32


def test_classifiers_that_cannot_be_backbones() -> None:
    left = set(list_models(module=__import__("torchvision").models)) - set(backbone_names())
    families = {name.rstrip("0123456789_").split("_")[0].rstrip("0123456789") for name in left}
    assert families == {"alexnet", "googlenet", "inception", "squeezenet", "maxvit", "vit"}


def with_weights(state: Mapping[str, torch.Tensor], name: str, output_stride: int) -> Backbone:
    """A backbone in evaluation mode with these weights."""
    with uninitialized_weights():
        backbone = create(name, output_stride)
    backbone.load_state_dict(state)
    return backbone.eval()


# MobileNetV3 is dilated as torchvision trained it, which is not this; see below. What is windowed cannot be.
@pytest.mark.parametrize(
    "name", [name for name in FAMILIES if not name.startswith(("mobilenet_v3", *WINDOWED))]
)
def test_dilation_keeps_the_features_and_adds_those_between(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It looks at the map as a whole, of which there is more then.
    monkeypatch.setattr(SqueezeExcitation, "forward", lambda self, values: values)
    torch.manual_seed(0)
    plain = create(name)
    randomize_norms(plain, torch.randn(2, 3, 64, 64))
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        coarse = plain(images)
        assert_depends_on_image(coarse[32])
        for output_stride in (8, 16):
            fine = with_weights(plain.state_dict(), name, output_stride)(images)
            for stride in STRIDES:
                step = stride // min(stride, output_stride)
                assert_same(fine[stride][..., ::step, ::step], coarse[stride])


@pytest.mark.parametrize(
    ("name", "output_stride", "options"),
    [
        ("resnet50", 16, {"replace_stride_with_dilation": [False, False, True]}),
        ("resnet50", 8, {"replace_stride_with_dilation": [False, True, True]}),
        ("wide_resnet50_2", 8, {"replace_stride_with_dilation": [False, True, True]}),
        ("resnext50_32x4d", 8, {"replace_stride_with_dilation": [False, True, True]}),
        ("mobilenet_v3_small", 16, {"dilated": True}),
        ("mobilenet_v3_large", 16, {"dilated": True}),
    ],
)
def test_dilation_equals_torchvisions(name: str, output_stride: int, options: dict[str, object]) -> None:
    plain = create(name)
    randomize_norms(plain, torch.randn(2, 3, 64, 64))
    ours = with_weights(plain.state_dict(), name, output_stride)
    with uninitialized_weights():
        theirs = get_model(name, weights=None, **options).eval()
    blocks = getattr(theirs, "features", theirs)
    blocks.load_state_dict(ours.state_dict(), strict=False)
    image = torch.randn(2, 3, 65, 97)
    expected = image
    with torch.no_grad():
        for block in ours.blocks():
            expected = getattr(blocks, block)(expected)
        assert_depends_on_image(expected)
        assert_same(ours(image)[32], expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_undilated_features_are_what_torchvision_classifies(name: str) -> None:
    torch.manual_seed(0)
    theirs = get_model(name, weights=None)
    randomize_norms(theirs, torch.randn(2, 3, 64, 64))
    with uninitialized_weights():
        ours = create(name).eval()
    state = {ours.key(key): value for key, value in theirs.state_dict().items()}
    ours.load_state_dict({key: state[key] for key in ours.state_dict()})
    image = torch.randn(2, 3, 65, 97)
    with torch.no_grad():
        expected, found = theirs(image), ours(image)[32]
        assert_depends_on_image(expected)
        assert_same(_classify(theirs, found), expected)


def _classify(classifier: nn.Module, features_BCHW: torch.Tensor) -> torch.Tensor:
    if isinstance(getattr(classifier, "avgpool", None), nn.AdaptiveAvgPool2d):
        pooled_BCHW = classifier.avgpool(features_BCHW)
    else:
        pooled_BCHW = features_BCHW.mean((2, 3), keepdim=True)
    last = next(
        getattr(classifier, name) for name in ("classifier", "fc", "head") if hasattr(classifier, name)
    )
    keeps_map = any(isinstance(layer, nn.Flatten) for layer in last.modules())
    result: torch.Tensor = last(pooled_BCHW if keeps_map else pooled_BCHW.flatten(1))
    return result


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "densenet121", "swin_t"])
def test_any_number_of_input_channels(name: str, channels: int) -> None:
    backbone = create(name, in_channels=channels).eval()
    features = backbone(torch.randn(1, channels, 64, 96))
    assert features[32].shape == (1, backbone.channels[32], 2, 3)


@pytest.mark.parametrize(("momentum", "expected"), [(None, 0.01), (0.1, 0.1), (1.0, 1.0)])
def test_momentum_of_the_norms(momentum: float | None, expected: float) -> None:
    backbone = create("mobilenet_v3_small", norm_momentum=momentum)
    found = {module.momentum for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)}
    assert found == {expected}


def test_the_first_block_of_a_stride_can_be_tapped() -> None:
    first, last = create("mobilenet_v3_large", taps="first"), create("mobilenet_v3_large", taps="last")
    assert first.channels == {**last.channels, 16: 80}
    image = torch.randn(1, 3, 64, 64)
    blocks = dict(first.eval().named_children())
    values = image
    for name in ("0", "1", "2", "3", "4"):  # features.4 is where torchvision's LR-ASPP looks
        values = blocks[name](values)
    assert torch.equal(first(image)[8], values)
    assert not torch.equal(last.eval()(image)[8], values)


@pytest.mark.parametrize(
    ("output_stride", "section", "message"),
    [
        (16, {"name": "resnet19"}, "Did you mean 'resnet18'?"),
        (16, {"name": "vit_b_16"}, "backbone.name=vit_b_16 is unknown"),
        (4, {"name": "resnet18"}, "it can do 8, 16, 32"),
        (64, {"name": "mobilenet_v3_small"}, "it can do 8, 16, 32"),
        (16, {"name": "swin_t"}, "swin_t: it can do 32"),
        (16, {"name": "resnet18", "source": "keras"}, "backbone=keras is unknown"),
        (16, {"name": "resnet18", "taps": "middle"}, "backbone.taps=middle"),
        (16, {"name": "resnet18", "norm_momentum": 0.0}, "norm_momentum=0.0"),
        (16, {"name": "resnet18", "norm_momentum": 1.5}, "norm_momentum=1.5"),
        (16, {"name": "resnet18", "norm_momentum": float("nan")}, "norm_momentum=nan"),
        (16, {"name": "resnet18", "in_channels": 4}, "no option 'backbone.in_channels'"),
    ],
)
def test_an_impossible_option_is_an_error(
    output_stride: int, section: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        create_backbone({"source": "torchvision", **section}, output_stride=output_stride, in_channels=3)
    assert message in str(caught.value)
