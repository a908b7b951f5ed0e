"""Which images to label next: those a model is unsure of, unlike each other. `select_images.py` calls this.

First the most uncertain images are candidates, then those are taken that cover them best, as in "suggestive annotation"
(Yang et al. 2017, MICCAI); with a single candidate for each place, uncertainty alone decides.
"""

import csv
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from segmentation.config import SelectionSettings
from segmentation.data.splits import keys_of_names
from segmentation.errors import UserError
from segmentation.inference import Prediction, Predictor
from segmentation.inference.ensemble import Ensemble, open_predictor
from segmentation.inference.inputs import Input, find_inputs, pixels_for
from segmentation.inference.outputs import save_picture, written_whole
from segmentation.inference.uncertainty import entropy
from segmentation.library_warnings import library_warnings_hidden
from segmentation.models import Segmenter
from segmentation.predict import predict
from segmentation.visualization import contact_sheet, heated

log = logging.getLogger(__name__)

_BYTES = "surrogateescape"  # names of files that are not UTF-8 keep their bytes
_SHOWN = 60  # images of the contact sheet, so that viewers open it


@library_warnings_hidden()
def select(settings: SelectionSettings) -> float:
    """Write the images to label next to the output folder; returns their number.

    `selected.csv` has their rank, path, score and group, `selected.txt` their paths, which `predict.py input=` takes,
    `contact_sheet.png` shows them under their uncertainty, and `labels/` has what `save` asks for. The same images and
    checkpoints give the same choice. Memory holds one image at a time, and a row of features for each.

    Raises `UserError` for wrong options, and where there is no picture; those that cannot be read are left out.
    """
    folder = settings.folder
    if (folder / "selected.csv").exists():
        raise UserError(f"{folder} has a selection already: give another output.")
    labelled = _pictures(settings.labelled, folder) if settings.labelled else []
    known = {file.path.resolve() for file in labelled}
    files = [file for file in _pictures(str(settings.input), folder) if file.path.resolve() not in known]
    if not files:
        raise UserError("Every image of the input is in labelled: give others.")
    groups_of = dict.fromkeys(files, "")
    if settings.group is not None:
        names = [file.name.with_suffix("").as_posix() for file in files]
        groups_of = dict(zip(files, keys_of_names("group", settings.group, names), strict=True))
    predictor = open_predictor(
        settings.checkpoints,
        device=settings.accelerator,
        precision=settings.precision,
        tta=settings.tta,
        disagreement=settings.by == "disagreement",
    )
    diverse = settings.candidates != 1
    files, scores_N, features_NC = _survey(predictor, files, settings.by, features=diverse)
    _, _, centres_MC = _survey(predictor, labelled if diverse else [], settings.by, features=diverse)
    groups = [groups_of[file] for file in files]
    count = min(settings.count, len(files))
    if count < settings.count:
        log.info("note: there are %d images, all of which are chosen", count)
    pool = len(files) if settings.candidates == "all" else count * settings.candidates
    candidates = most_unsure(scores_N, groups, count=count, pool=pool)
    chosen, distances = candidates, [float("nan")] * count
    if diverse:
        chosen, distances = farthest(features_NC, scores_N, candidates, centres_MC, groups, count=count)
    rows = [
        (files[index], float(scores_N[index]), distance, groups[index])
        for index, distance in zip(chosen, distances, strict=True)
    ]
    _write(folder, rows)
    _write_sheet(folder / "contact_sheet.png", predictor, rows[:_SHOWN], settings.by)
    log.info("%d of %d images: %s", count, len(files), folder / "selected.csv")
    if settings.save:
        predict(_prediction(settings, folder))
    return float(count)


def _pictures(given: str, output: Path) -> list[Input]:
    found, _ = find_inputs(given, output)
    pictures = [file for file in found if not file.is_video]
    if len(pictures) < len(found):
        log.info("note: of %s %d videos are left out", given, len(found) - len(pictures))
    return pictures


def _survey(
    predictor: Predictor, files: Sequence[Input], by: str, *, features: bool
) -> tuple[list[Input], np.ndarray, np.ndarray]:
    """The files that can be read, the score of each, float32 (N,), and its features of length 1, float32 (N, C)."""
    trained = predictor.trained
    read, scores, rows = [], [], []
    with _pooled_features(predictor) if features else _nothing() as pooled:
        for file in tqdm(files, unit="image", leave=False, disable=not sys.stderr.isatty()):
            pooled.clear()
            try:
                pixels_HWC = pixels_for(trained, file.path)
                prediction = predictor.predict_all([pixels_HWC])[0]
            except UserError as error:
                log.warning("left out: %s", error)
                continue
            read.append(file)
            scores.append(uncertainty(predictor, prediction, by).mean())
            if features:
                mean_C = torch.cat(pooled).mean(dim=0)
                rows.append((mean_C / mean_C.norm().clamp_min(1e-12)).cpu().numpy())
    if files and not read:
        raise UserError(f"None of {len(files)} images can be read: give others.")
    return read, np.array(scores, np.float32), np.array(rows, np.float32)


def uncertainty(predictor: Predictor, prediction: Prediction, by: str) -> np.ndarray:
    """float32 (H, W) in 0..1: the `entropy` of a prediction's probabilities, or its "disagreement"."""
    if by == "disagreement":
        assert prediction.disagreement is not None
        return prediction.disagreement
    probabilities_1KHW = torch.from_numpy(prediction.probabilities).permute(2, 0, 1)[None]
    return entropy(probabilities_1KHW, predictor.trained.decision)[0].numpy()


@contextmanager
def _nothing() -> Iterator[list[Tensor]]:
    yield []


@contextmanager
def _pooled_features(predictor: Predictor) -> Iterator[list[Tensor]]:
    """What the backbone's deepest features are in the mean over each image that is predicted, (B, C) each.

    Of several models the first that is no exported file. Raises `UserError` if there is none.
    """
    members = predictor.members if isinstance(predictor, Ensemble) else (predictor,)
    models = (member.trained.model for member in members)
    model = next((model for model in models if isinstance(model, Segmenter)), None)
    if model is None:
        raise UserError("Exported models do not give their features: give a checkpoint, or candidates=1.")
    pooled: list[Tensor] = []

    def keep(module: object, given: object, features: dict[int, Tensor]) -> None:
        pooled.append(features[max(features)].float().mean(dim=(2, 3)))

    handle = model.backbone.register_forward_hook(keep)
    try:
        yield pooled
    finally:
        handle.remove()


def most_unsure(scores_N: np.ndarray, groups: Sequence[str], *, count: int, pool: int) -> list[int]:
    """The indices of the `pool` highest scores, the highest first.

    Those beyond a group's equal share of the pool come after all others.
    """
    share = -(-max(pool, count) // len(set(groups)))
    taken = dict.fromkeys(groups, 0)
    within: list[int] = []
    beyond: list[int] = []
    for index in np.argsort(-scores_N, kind="stable").tolist():
        taken[groups[index]] += 1
        (within if taken[groups[index]] <= share else beyond).append(index)
    return (within + beyond)[:pool]


def farthest(
    features_NC: np.ndarray,
    scores_N: np.ndarray,
    candidates: Sequence[int],
    centres_MC: np.ndarray,
    groups: Sequence[str],
    *,
    count: int,
) -> tuple[list[int], list[float]]:
    """Of the candidates those that cover them, in the order of choice, and how far each was from all before it.

    k-centre greedy (Sener & Savarese 2018, "Active learning for convolutional neural networks: a core-set approach",
    algorithm 1): always the candidate that is farthest from the nearest centre, `centres_MC` and those chosen before;
    among equals the highest score. No group gives more than its equal share of `count` while others have candidates.
    """
    waiting = np.array(candidates)
    of_N = np.array(groups)
    share = -(-count // len(set(groups)))
    nearest = np.full(len(waiting), np.inf)
    for centre_C in centres_MC:
        nearest = np.minimum(nearest, np.linalg.norm(features_NC[waiting] - centre_C, axis=1))
    taken = dict.fromkeys(groups, 0)
    chosen: list[int] = []
    distances: list[float] = []
    while len(chosen) < count:
        full = [group for group, number in taken.items() if number >= share]
        allowed = np.flatnonzero(~np.isin(of_N[waiting], full))
        if not len(allowed):
            share += 1
            continue
        ties = allowed[nearest[allowed] == nearest[allowed].max()]
        place = ties[np.argmax(scores_N[waiting[ties]])]
        index = int(waiting[place])
        chosen.append(index)
        distances.append(float(nearest[place]))
        taken[groups[index]] += 1
        waiting, nearest = np.delete(waiting, place), np.delete(nearest, place)
        nearest = np.minimum(nearest, np.linalg.norm(features_NC[waiting] - features_NC[index], axis=1))
    return chosen, distances


Row = tuple[Input, float, float, str]
"""A chosen image, its score, its distance to those before it, and its group."""


def _write(folder: Path, rows: Sequence[Row]) -> None:
    with (
        written_whole(folder / "selected.csv") as part,
        part.open("w", encoding="utf-8", errors=_BYTES, newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["rank", "path", "score", "distance", "group"])
        for rank, (image, score, distance, group) in enumerate(rows, 1):
            far = f"{distance:.6f}" if np.isfinite(distance) else ""
            writer.writerow([rank, image.path.absolute(), f"{score:.6f}", far, group])
    with written_whole(folder / "selected.txt") as part:
        part.write_text("".join(f"{image.path.absolute()}\n" for image, *_ in rows), "utf-8", _BYTES)


def _write_sheet(path: Path, predictor: Predictor, rows: Sequence[Row], by: str) -> None:
    trained = predictor.trained
    cells, captions = [], []
    for rank, (file, score, _, group) in enumerate(rows, 1):
        pixels_HWC = pixels_for(trained, file.path)
        prediction = predictor.predict_all([pixels_HWC])[0]
        cells.append((pixels_HWC, heated(pixels_HWC, uncertainty(predictor, prediction, by))))
        captions.append(f"{rank}  {by} {score:.3f}  {file.name.as_posix()}{f'  ({group})' if group else ''}")
    save_picture(path, contact_sheet(cells, captions))


def _prediction(settings: SelectionSettings, folder: Path) -> dict[str, Any]:
    """What `predict.py` is asked for the chosen images."""
    return {
        "checkpoint": settings.checkpoint,
        "input": str(folder / "selected.txt"),
        "output": str(folder / "labels"),
        "save": settings.save,
        "alpha": 0.5,
        "threshold": "auto",
        "tta": settings.tta,
        "tile": None,
        "overlap": None,
        "existing": "refuse",
        "batch_size": 1,
        "precision": settings.precision,
        "accelerator": settings.accelerator,
        "compile": False,
    }
