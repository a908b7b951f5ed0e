"""The predictor: images and raw pixels in, masks and probabilities out."""

from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from segmentation.checkpoint import Trained
from segmentation.data.augmentation import evaluation_transform
from segmentation.data.image_io import read_size
from segmentation.environment import autocast, check_picture, choose_device, choose_precision, enough_memory
from segmentation.errors import UserError
from segmentation.inference.inputs import Picture, pixels_for
from segmentation.inference.outputs import Prediction
from segmentation.inference.tta import Augmentation, describe_tta, tta_views
from segmentation.inference.uncertainty import disagreement, entropy
from segmentation.models.compile import compile_whole
from segmentation.models.onnx_network import OnnxNetwork
from segmentation.options import checked
from segmentation.tiling import Tiling, Write, block


class Predictor:
    """A `Trained` model in evaluation mode on its device, in one precision, with test-time augmentation.

    `device` is "auto" (the GPU where there is one), "cpu", "gpu" or torch's own name; `precision` is "auto"
    (as in training), "32-true", "bf16-mixed" or "16-mixed"; `tta` is "none", "flip", "vertical_flip",
    "scales", a scale as a number, or a list of these; `compile` spends a minute on the first prediction of each image
    size to make the others faster; on a processor it freezes the weights as they are then. An exported model
    (`OnnxNetwork`) is computed by ONNX Runtime, on the processor and in its own precision.

    With `disagreement`, predictions also say where the views disagree; what is "found" for a pixel then has the mean
    `entropy` of the views as one more plane behind the probabilities.

    Raises `UserError` for values that are not possible here, and for `disagreement` of a single view.
    """

    def __init__(
        self,
        trained: Trained,
        *,
        device: str = "auto",
        precision: str = "auto",
        tta: Augmentation = "none",
        compile: bool = False,
        disagreement: bool = False,
    ) -> None:
        if isinstance(trained.model, OnnxNetwork):
            trained.model.check_use(device=device, precision=precision, compile=compile)
            device, precision = "cpu", "32-true"
        self.trained = trained
        self.device = choose_device(device)
        self._views = tta_views(tta)
        self._disagreement = disagreement
        self.precision = choose_precision(precision, self.device)
        self._model = self._prepared(trained.model, compile)
        self._transform = evaluation_transform(size=trained.size, resize=trained.resize)

    @property
    def voters(self) -> int:
        """How many answers are averaged: those of the views."""
        return len(self._views)

    @property
    def description(self) -> dict[str, Any]:
        """The model as plain data, for a report."""
        model = self.trained.model
        return {
            **model.description,
            "parameters": model.weight_count,
            "training": self.trained.training,
        }

    @property
    def planes(self) -> int:
        """Values that are found for a pixel: a probability an output, and with `disagreement` one more."""
        return self.trained.classes.outputs + self._disagreement

    @property
    def tta(self) -> str:
        """The test-time augmentation in words, for a report's protocol."""
        return describe_tta(self._views)

    def predict(
        self,
        picture: Picture,
        *,
        tta: Augmentation | None = None,
        tile: int | None = None,
        overlap: int | None = None,
        batch_size: int = 1,
    ) -> Prediction:
        """The prediction for a path, a Pillow image or an array (uint8, (H, W) or (H, W, C)), at its own size.

        `tta` is the predictor's own unless given. With `tile` the image is predicted in square tiles of so many
        pixels, `batch_size` at a time, that overlap by `overlap` (an eighth of the tile unless given) and blend into
        each other: see `tiling.py`. A model trained on images resized to one size gets each tile resized to it;
        one trained on windows of large images has a tile of its own.

        Raises `UserError` for an image that cannot be read and for options that are not possible.
        """
        asked = self if tta is None else self._with(tta)
        tiling = asked.tiling(tile=tile, overlap=overlap, batch_size=batch_size)
        pixels_HWC = pixels_for(self.trained, picture)
        return (
            asked.predict_all([pixels_HWC])[0] if tiling is None else asked.predict_tiles(pixels_HWC, tiling)
        )

    def check_picture(self, path: Path) -> None:
        """Raises `UserError` for a picture that is too large to be predicted at once, before it is decoded."""
        check_picture(path, *read_size(path), self.planes, self.device)

    def tiling(
        self,
        *,
        tile: int | None,
        overlap: int | None,
        batch_size: Annotated[int, Field(ge=1)],
        progress: bool = False,
    ) -> Tiling | None:
        """The tiling that `predict` uses; None without `tile`. Raises `UserError` for sizes that do not fit."""
        # Called from Python, where any value may be passed.
        given = checked("", self.tiling, {"tile": tile, "overlap": overlap, "batch_size": batch_size})
        if given["tile"] is not None:
            if given["overlap"] is None:
                given["overlap"] = given["tile"] // 8
            return Tiling(predict=self.window_probabilities, progress=progress, **given)
        if overlap is not None:
            raise UserError("overlap has no use without tile: give both, or neither.")
        return None

    @property
    def tiling_of_training(self) -> Tiling | None:
        """The tiles by which training validated images larger than `trained.tile`; None if it saw them whole."""
        return self.tiling(tile=self.trained.tile, overlap=None, batch_size=1)

    def predict_tiles(self, pixels_HWC: np.ndarray, tiling: Tiling) -> Prediction:
        """The prediction for pixels uint8 (H, W, C) by tiles.

        Probabilities are not kept: they are computed again when they are asked for.
        """
        mask_HW = np.empty(pixels_HWC.shape[:2], np.uint8)
        disagreement_HW = np.empty(mask_HW.shape, np.float32) if self._disagreement else None

        def keep_labels(top: int, left: int, found_KHW: np.ndarray) -> None:
            place = block(top, left, found_KHW)
            mask_HW[place] = self.label(found_KHW)
            if disagreement_HW is not None:
                disagreement_HW[place] = self.disagreement(found_KHW)

        _run(tiling, pixels_HWC, keep_labels)
        probabilities = partial(_blended, tiling, pixels_HWC, self.trained.classes.outputs)
        return Prediction(mask_HW, self.trained.classes, pixels_HWC, probabilities, disagreement_HW)

    def predict_all(self, pictures_HWC: Sequence[np.ndarray]) -> list[Prediction]:
        """The predictions for images of one size, uint8 (H, W, C) each, in one batch.

        Probabilities equal those of the images one by one, except for rounding.
        """
        found_BKHW = self._batch_probabilities(pictures_HWC)
        masks_BHW = self.labels(found_BKHW).cpu().numpy()
        classes = self.trained.classes
        found_BHWK = found_BKHW[:, : classes.outputs].permute(0, 2, 3, 1).cpu().numpy()
        spread_BHW = self._spread(found_BKHW).cpu().numpy() if self._disagreement else [None] * len(masks_BHW)
        return [
            Prediction(mask_HW, classes, pixels_HWC, partial(np.asarray, found_HWK), spread_HW)
            for mask_HW, pixels_HWC, found_HWK, spread_HW in zip(
                masks_BHW, pictures_HWC, found_BHWK, spread_BHW, strict=True
            )
        ]

    def window_probabilities(self, pictures_HWC: Sequence[np.ndarray]) -> np.ndarray:
        """Pixels of one size, uint8 (H, W, C) each -> float32 (B, `planes`, H, W) at that size: what is found.

        Raises `UserError` if there is not enough memory.
        """
        return self._batch_probabilities(pictures_HWC, whole=True).cpu().numpy()

    def label(self, found_KHW: np.ndarray) -> np.ndarray:
        """What is found for one picture (`planes`, H, W) -> uint8 (H, W)."""
        return self.labels(torch.from_numpy(found_KHW)[None])[0].numpy()

    def disagreement(self, found_KHW: np.ndarray) -> np.ndarray:
        """What is found for one picture (`planes`, H, W) -> how much its voters `disagree`, float32 (H, W) in 0..1."""
        return self._spread(torch.from_numpy(found_KHW)[None])[0].numpy()

    @torch.inference_mode()
    def probabilities(self, images_BCHW: Tensor, *, size: tuple[int, int]) -> Tensor:
        """Raw pixels 0..255 on any device -> float32 (B, `planes`, H, W) on the predictor's, at `size` (H, W).

        The images must be as the model saw them in training: at `trained.size` where `trained.resize`, else
        at their own. K is 1 for binary data, the foreground's probability. Logits are resized, then made
        probabilities, as in training's own evaluation; those of several views are averaged. Images larger than
        `trained.tile` are predicted by tiles of that side, as there.
        """
        tiling = self.tiling_of_training
        if tiling is None or max(size) <= tiling.tile:
            return self._probabilities(images_BCHW, size)
        pictures_BHWC = images_BCHW.permute(0, 2, 3, 1).cpu().numpy()
        found = [_blended(tiling, pixels_HWC, self.planes) for pixels_HWC in pictures_BHWC]
        return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).to(self.device)

    def _probabilities(self, images_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
        image_BCHW = images_BCHW.to(self.device, non_blocking=True)
        total_BKHW: Tensor | None = None
        with autocast(self.precision, self.device):
            for view in self._views:
                logits_BKHW = view.undo(self._model(view.apply(image_BCHW)), size)
                probabilities_BKHW = self.trained.decision.probabilities(logits_BKHW)
                if self._disagreement:
                    entropy_BHW = entropy(probabilities_BKHW, self.trained.decision)
                    probabilities_BKHW = torch.cat([probabilities_BKHW, entropy_BHW[:, None]], dim=1)
                total_BKHW = probabilities_BKHW if total_BKHW is None else total_BKHW + probabilities_BKHW
        assert total_BKHW is not None
        return total_BKHW / len(self._views) if len(self._views) > 1 else total_BKHW

    def labels(self, probabilities_BKHW: Tensor) -> Tensor:
        """(B, H, W) uint8 class indices: the most probable, or whether the threshold is reached."""
        return self.trained.decision.most_probable(probabilities_BKHW[:, : self.trained.classes.outputs])

    def _spread(self, found_BKHW: Tensor) -> Tensor:
        return disagreement(found_BKHW, self.trained.decision, self.voters)

    @torch.inference_mode()
    def _batch_probabilities(
        self, pictures_HWC: Sequence[np.ndarray], *, whole: bool = False, size: tuple[int, int] | None = None
    ) -> Tensor:
        """What is found for pictures of one size, each prepared as in training, at `size` or their own."""
        height, width = size or pictures_HWC[0].shape[:2]
        no_mask = np.empty((0, 0), np.uint8)
        seen = [
            self._transform({"image": pixels_HWC, "mask": no_mask, "name": ""}, 0)["image"]
            for pixels_HWC in pictures_HWC
        ]
        # As a view, the stack of (H, W, C) pictures already is a channels-last (B, C, H, W) tensor.
        images_BCHW = torch.from_numpy(np.stack(seen)).permute(0, 3, 1, 2)
        values = len(pictures_HWC) * self.planes
        with enough_memory(height, width, values, self.device):
            if whole:
                return self._probabilities(images_BCHW, (height, width))
            return self.probabilities(images_BCHW, size=(height, width))

    @torch.inference_mode(False)
    def _prepared(self, model: nn.Module, compile: bool) -> Callable[[Tensor], Tensor]:
        model = model.to(self.device).to(memory_format=torch.channels_last).eval()
        return compile_whole(model, self.device) if compile else model

    def _with(self, tta: Augmentation) -> "Predictor":
        other = copy(self)
        other._views = tta_views(tta)
        return other


def _blended(tiling: Tiling, pixels_HWC: np.ndarray, kept: int) -> np.ndarray:
    """float32 (H, W, K): the first `kept` planes of what is found in all tiles."""
    found_HWK = np.empty((*pixels_HWC.shape[:2], kept), np.float32)

    def keep(top: int, left: int, found_KHW: np.ndarray) -> None:
        found_HWK[block(top, left, found_KHW)] = found_KHW[:kept].transpose(1, 2, 0)

    _run(tiling, pixels_HWC, keep)
    return found_HWK


def _run(tiling: Tiling, pixels_HWC: np.ndarray, write: Write) -> None:
    height, width, _ = pixels_HWC.shape
    tiling.run(lambda rows, columns: pixels_HWC[rows, columns], write, size=(height, width))
