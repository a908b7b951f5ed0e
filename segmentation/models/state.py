"""From somebody's state dict to our tensors: naming its keys, filling a model."""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from segmentation.errors import UserError
from segmentation.models.channels import adapt_filters, in_turn
from segmentation.models.files import unwrapped
from segmentation.models.segmenter import Segmenter

_HEADS = {"classifier.": "head.", "aux_classifier.": "aux_head."}  # torchvision's names and ours


@dataclass(frozen=True)
class WeightsReport:
    """What was loaded from where; `skipped` gives the reason for each key that the model did not take.

    `adapted` are the keys, among the loaded ones, that were made for another number of channels; `parts` are how
    many of each part's tensors were loaded: `{"backbone": (120, 120)}`.
    """

    source: str
    loaded: int = 0
    skipped: Mapping[str, str] = field(default_factory=dict)
    adapted: Sequence[str] = ()
    parts: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.loaded:
            return "weights: from scratch (weights=imagenet starts from a trained backbone)"
        reasons = dict.fromkeys(self.skipped.values())
        skipped = (
            f"; skipped, {reason}: {', '.join(key for key, why in self.skipped.items() if why == reason)}"
            for reason in reasons
        )
        adapted = f"; adapted to the number of channels: {', '.join(self.adapted)}" if self.adapted else ""
        parts = ", ".join(f"{part} {count} of {whole}" for part, (count, whole) in self.parts.items())
        return f"weights: {self.loaded} tensors of {self.source} ({parts}){adapted}{''.join(skipped)}"


def fill(model: Segmenter, state: Mapping[str, Any], source: str) -> WeightsReport:
    """Loads what fits, of a classifier (the backbone alone) or of a whole segmentation model.

    A layer of another shape, or of a head that the model does not have, keeps its fresh start. A backbone
    that fits in part would be half untrained without a word: it is an error.

    Raises `UserError` where the backbone's tensors are not those of the model.
    """
    own = model.state_dict()
    named = _named(model, state)
    given = {name: (key, value) for key, name, value in named}
    if len(given) < len(named):
        twice = next(key for key, name, _ in named if given[name][0] != key)
        raise UserError(
            f"weights={source} holds {twice} twice, under another name. Give a file with one of them."
        )
    fitted = {name: _fitted(model, name, value) for name, (_, value) in given.items() if name in own}
    # A layer is taken as a whole: beside a fresh weight, a bias made for another one would be noise.
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


def _fitted(model: Segmenter, name: str, value: Tensor) -> Tensor:
    """The tensor for the model's number of channels, where it is one that depends on it."""
    channels = model.mean.shape[1]
    if value.ndim != 4 or value.shape[1] in (channels, 0):
        return value
    if name in ("mean", "std"):
        return value.mean(1, keepdim=True) if channels == 1 else in_turn(value, channels, dim=1)
    return adapt_filters(value, channels) if name == _first_filters(model) else value


def _first_filters(model: Segmenter) -> str:
    modules = model.backbone.named_modules(prefix="backbone")
    return next(f"{name}.weight" for name, module in modules if isinstance(module, nn.Conv2d))


def _require_backbone(model: Segmenter, given: Set[str], fitting: Set[str], source: str) -> None:
    own = {name for name in model.state_dict() if name.startswith("backbone.")}
    # The counters are younger than many files.
    missing = [name for name in own - fitting if not name.endswith("num_batches_tracked")]
    blocks = tuple(f"backbone.{block}." for block in model.backbone.blocks())
    foreign = [name for name in given - own if name.startswith(blocks)]
    if missing or foreign:
        name = model.description["backbone"]["name"]
        raise UserError(
            f"weights={source} is not of {name}: {len(missing)} of the backbone's {len(own)} tensors do not"
            f" fit and {len(foreign)} are unknown to it. Give the file of this backbone."
        )


def _named(model: Segmenter, state: Mapping[str, Any]) -> list[tuple[str, str, Tensor]]:
    """(key, our name, tensor) of each tensor; a file without "backbone." in it is a classifier's."""
    tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    bare = {key: unwrapped(key) for key in tensors}
    if any(name.startswith("backbone.") for name in bare.values()):
        return [(key, _in_segmenter(bare[key]), value) for key, value in tensors.items()]
    return [(key, f"backbone.{model.backbone.key(bare[key])}", value) for key, value in tensors.items()]


def _in_segmenter(name: str) -> str:
    prefix = next((prefix for prefix in _HEADS if name.startswith(prefix)), "")
    return _HEADS.get(prefix, "") + name.removeprefix(prefix)


def _layer(name: str) -> str:
    return name.rpartition(".")[0]
