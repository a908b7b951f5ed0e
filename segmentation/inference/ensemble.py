"""Several checkpoints as one model: the mean of their probabilities, or one network of the mean of their weights."""

from collections.abc import Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segmentation import checkpoint
from segmentation.checkpoint import Trained
from segmentation.config import EnsembleKind, Threshold
from segmentation.errors import UserError
from segmentation.inference.predictor import Predictor
from segmentation.inference.tta import Augmentation
from segmentation.inference.uncertainty import check_voters
from segmentation.models import Decision
from segmentation.models.onnx_network import is_exported
from segmentation.tiling import Tiling

AVERAGED = (
    "The weights of {count} checkpoints were averaged, and so were the statistics of their batch normalisation, "
    "which were counted with each one's own weights."
)


class Ensemble(Predictor):
    """The mean of the probabilities of several predictors, whose views are all one's.

    Each prepares an image in its own way: its size, its normalisation, its tiles. `trained` is what they are together,
    as by `joined`.
    """

    def __init__(self, trained: Trained, members: Sequence[Predictor]) -> None:
        self.trained = trained
        self.members = tuple(members)
        first = self.members[0]
        self.device, self._views, self._disagreement = first.device, first._views, first._disagreement
        self.precision = ", ".join(dict.fromkeys(member.precision for member in self.members))

    @property
    def voters(self) -> int:
        """The views of all members."""
        return sum(member.voters for member in self.members)

    @property
    def description(self) -> dict[str, Any]:
        """The members as plain data, for a report."""
        members = [member.description for member in self.members]
        return {
            "ensemble": "mean of the probabilities",
            "members": members,
            "parameters": sum(member["parameters"] for member in members),
        }

    @property
    def tiling_of_training(self) -> Tiling | None:
        """As of one predictor. Raises `UserError` where the members have tiles of different sizes."""
        tiles = sorted({member.trained.tile or 0 for member in self.members})
        if len(tiles) > 1:
            raise UserError(
                f"The checkpoints were trained for tiles of {tiles} pixels (0: none): give tile=, which predict.py has,"
                " or checkpoints of one size."
            )
        return super().tiling_of_training

    @torch.inference_mode()
    def probabilities(self, images_BCHW: Tensor, *, size: tuple[int, int]) -> Tensor:
        """As of one predictor; images are at their own size unless all members were trained on one size."""
        if self.trained.resize:
            return self._mean([member.probabilities(images_BCHW, size=size) for member in self.members])
        pictures_HWC = list(images_BCHW.permute(0, 2, 3, 1).cpu().numpy())
        return self._batch_probabilities(pictures_HWC, size=size)

    @torch.inference_mode()
    def _batch_probabilities(
        self, pictures_HWC: Sequence[np.ndarray], *, whole: bool = False, size: tuple[int, int] | None = None
    ) -> Tensor:
        return self._mean(
            [member._batch_probabilities(pictures_HWC, whole=whole, size=size) for member in self.members]
        )

    def _mean(self, found: Sequence[Tensor]) -> Tensor:
        total_BKHW = found[0].clone()
        for found_BKHW in found[1:]:
            total_BKHW += found_BKHW
        return total_BKHW / len(found)

    def _with(self, tta: Augmentation) -> "Ensemble":
        other = copy(self)
        other.members = tuple(member._with(tta) for member in self.members)
        other._views = other.members[0]._views
        return other


def joined(models: Mapping[Path, Trained]) -> Trained:
    """What several models are together: the model of the first, and the threshold that is the mean of theirs.

    With it the mean of their probabilities is foreground where they exceed their own thresholds on the whole.
    Raises `UserError` for models that do not answer the same question, or not from the same values.
    """
    (first_path, first), *others = models.items()
    for path, other in others:
        for what, one, two in _must_agree(first, other):
            if one != two:
                raise UserError(
                    f"{first_path} and {path} cannot be one model: their {what} differ ({one} and {two}). "
                    "Give checkpoints that agree, or use them one by one."
                )
    every = list(models.values())
    alike = len({(trained.size, trained.resize) for trained in every}) == 1
    thresholds = [trained.decision.threshold for trained in every]
    sources = list(dict.fromkeys(trained.threshold_source for trained in every))
    splits = [trained.protocol.get("split_sha256", {}) for trained in every]
    shared = {
        split: digest
        for split, digest in splits[0].items()
        if all(one.get(split) == digest for one in splits)
    }
    return replace(
        first,
        decision=Decision(
            first.classes.binary, sum(thresholds) / len(thresholds), one_vs_rest=first.decision.one_vs_rest
        ),
        threshold_source=sources[0] if len(sources) == 1 else f"the mean of {len(every)} checkpoints'",
        resize=first.resize and alike,
        tile=first.tile if len({trained.tile for trained in every}) == 1 else None,
        protocol={**first.protocol, "split_sha256": shared},
    )


def _must_agree(first: Trained, other: Trained) -> list[tuple[str, Any, Any]]:
    def kind(trained: Trained) -> str:
        return "binary" if trained.classes.binary else "several classes"

    def answers(trained: Trained) -> str:
        return "each class for itself" if trained.decision.one_vs_rest else "one class of all"

    names = [trained.classes.names for trained in (first, other)]
    left, right = (", ".join(name for name in one if name not in two) for one, two in (names, names[::-1]))
    return [
        ("kinds", kind(first), kind(other)),
        ("classes", left, right) if left or right else ("orders of classes", names[0], names[1]),
        ("channels", first.channels, other.channels),
        ("bands", first.bands, other.bands),
        ("ranges of pixel values", first.pixel_range, other.pixel_range),
        ("probabilities", answers(first), answers(other)),
    ]


def averaged(models: Mapping[Path, Trained]) -> Trained:
    """One model of the mean of the weights of several, batch normalisation's statistics included ("model soup").

    Wortsman et al. 2022: it works for models that were trained from the same beginning, or in one run. Raises
    `UserError` for exported models, for those that are built or normalised differently, and where `joined` does.
    """
    together = joined(models)
    (first_path, first), *_ = models.items()
    for path, other in models.items():
        if is_exported(path):
            raise UserError(f"{path} is an exported model, and only weights of checkpoints can be averaged.")
        for what, one, two in (
            ("models", first.model.description, other.model.description),
            ("sizes", (first.size, first.resize, first.tile), (other.size, other.resize, other.tile)),
        ):
            if one != two:
                raise UserError(
                    f"The weights of {first_path} and {path} cannot be averaged: their {what} differ. "
                    "Take ensemble=mean."
                )
    states = [trained.model.state_dict() for trained in models.values()]
    for name in ("mean", "std"):
        if any(not torch.equal(state[name], states[0][name]) for state in states):
            raise UserError(
                "The checkpoints normalise pixels differently, and their weights cannot be averaged."
            )
    model = deepcopy(first.model)
    model.load_state_dict(
        {
            name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(value.dtype)
            for name, value in states[0].items()
        }
    )
    temperatures = [trained.decision.temperature for trained in models.values()]
    decision = replace(together.decision, temperature=sum(temperatures) / len(temperatures))
    training = {"weights": f"the mean of {len(models)} checkpoints"}
    licences = dict.fromkeys(trained.training.get("licence") for trained in models.values())
    if any(licences):
        training["licence"] = "; ".join(licence or "unknown" for licence in licences)
    return replace(together, model=model, decision=decision, training=training)


def open_models(
    paths: Sequence[Path], *, threshold: Threshold = "auto", ensemble: EnsembleKind | None = "mean"
) -> tuple[Trained, list[Trained]]:
    """What the checkpoints are together, and the models that answer: each of them, or their average.

    Raises `UserError` where `checkpoint.load`, `checkpoint.with_threshold`, `joined` and `averaged` do.
    """
    models = {path: checkpoint.with_threshold(checkpoint.load(path), path, threshold) for path in paths}
    if len(models) == 1:
        (alone,) = models.values()
        return alone, [alone]
    if ensemble == "weights":
        average = averaged(models)
        return average, [average]
    return joined(models), list(models.values())


def open_predictor(
    paths: Sequence[Path],
    *,
    device: str = "auto",
    threshold: Threshold = "auto",
    ensemble: EnsembleKind | None = "mean",
    **how: Any,
) -> Predictor:
    """The predictor of one checkpoint, or of several as one; `how` are the options of `Predictor`.

    Raises `UserError` where `open_models` and `Predictor` do.
    """
    together, models = open_models(paths, threshold=threshold, ensemble=ensemble)
    if device == "auto" and any(map(is_exported, paths)):
        device = "cpu"  # exported models are computed there, and checkpoints beside them
    members = [Predictor(trained, device=device, **how) for trained in models]
    predictor = members[0] if len(members) == 1 else Ensemble(together, members)
    if how.get("disagreement"):
        check_voters(predictor.voters)
    return predictor
