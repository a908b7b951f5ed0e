"""The predictor: images and raw pixels in, masks and probabilities out."""

from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from segmentation.checkpoint import Trained
from segmentation.data.augmentation import evaluation_transform
from segmentation.environment import autocast, choose_device, choose_precision, enough_memory
from segmentation.errors import UserError
from segmentation.inference.inputs import Picture, as_pixels
from segmentation.inference.outputs import Prediction
from segmentation.inference.tta import Augmentation, describe_tta, tta_views
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

    Raises `UserError` for values that are not possible here.
    """

    def __init__(
        self,
        trained: Trained,
        *,
        device: str = "auto",
        precision: str = "auto",
        tta: Augmentation = "none",
        compile: bool = False,
    ) -> None:
        if isinstance(trained.model, OnnxNetwork):
            trained.model.check_use(device=device, precision=precision, compile=compile)
            device, precision = "cpu", "32-true"
        self.trained = trained
        self.device = choose_device(device)
        self._views = tta_views(tta)
        self.precision = choose_precision(precision, self.device)
        self._model = self._prepared(trained.model, compile)
        self._transform = evaluation_transform(size=trained.size, resize=trained.resize)

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
        pixels_HWC = as_pixels(picture, self.trained.channels, self.trained.pixel_range)
        return (
            asked.predict_all([pixels_HWC])[0] if tiling is None else asked.predict_tiles(pixels_HWC, tiling)
        )

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

        def keep_labels(top: int, left: int, found_KHW: np.ndarray) -> None:
            mask_HW[block(top, left, found_KHW)] = self.label(found_KHW)

        _run(tiling, pixels_HWC, keep_labels)
        classes = self.trained.classes
        return Prediction(
            mask_HW, classes, pixels_HWC, partial(_blended, tiling, pixels_HWC, classes.outputs)
        )

    def predict_all(self, pictures_HWC: Sequence[np.ndarray]) -> list[Prediction]:
        """The predictions for images of one size, uint8 (H, W, C) each, in one batch.

        Probabilities equal those of the images one by one, except for rounding.
        """
        found_BKHW = self._batch_probabilities(pictures_HWC)
        masks_BHW = self.labels(found_BKHW).cpu().numpy()
        found_BHWK = found_BKHW.permute(0, 2, 3, 1).cpu().numpy()
        return [
            Prediction(mask_HW, self.trained.classes, pixels_HWC, partial(np.asarray, found_HWK))
            for mask_HW, pixels_HWC, found_HWK in zip(masks_BHW, pictures_HWC, found_BHWK, strict=True)
        ]

    def window_probabilities(self, pictures_HWC: Sequence[np.ndarray]) -> np.ndarray:
        """Pixels of one size, uint8 (H, W, C) each -> float32 probabilities (B, K, H, W) at that size.

        Raises `UserError` if there is not enough memory.
        """
        return self._batch_probabilities(pictures_HWC, whole=True).cpu().numpy()

    def label(self, found_KHW: np.ndarray) -> np.ndarray:
        """One picture's probabilities (K, H, W) -> uint8 (H, W)."""
        return self.labels(torch.from_numpy(found_KHW)[None])[0].numpy()

    @torch.inference_mode()
    def probabilities(self, images_BCHW: Tensor, *, size: tuple[int, int]) -> Tensor:
        """Raw pixels 0..255 on any device -> float32 (B, K, H, W) on the predictor's, at `size` (H, W).

        The images must be as the model saw them in training: at `trained.size` where `trained.resize`, else
        at their own. K is 1 for binary data, the foreground's probability. Logits are resized, then made
        probabilities, as in training's own evaluation; those of several views are averaged. Images larger than
        `trained.tile` are predicted by tiles of that side, as there.
        """
        tiling = self.tiling_of_training
        if tiling is None or max(size) <= tiling.tile:
            return self._probabilities(images_BCHW, size)
        pictures_BHWC = images_BCHW.permute(0, 2, 3, 1).cpu().numpy()
        found = [_blended(tiling, pixels_HWC, self.trained.classes.outputs) for pixels_HWC in pictures_BHWC]
        return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).to(self.device)

    def _probabilities(self, images_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
        image_BCHW = images_BCHW.to(self.device, non_blocking=True)
        total_BKHW: Tensor | None = None
        with autocast(self.precision, self.device):
            for view in self._views:
                logits_BKHW = view.undo(self._model(view.apply(image_BCHW)), size)
                probabilities_BKHW = self.trained.decision.probabilities(logits_BKHW)
                total_BKHW = probabilities_BKHW if total_BKHW is None else total_BKHW + probabilities_BKHW
        assert total_BKHW is not None
        return total_BKHW / len(self._views) if len(self._views) > 1 else total_BKHW

    def labels(self, probabilities_BKHW: Tensor) -> Tensor:
        """(B, H, W) uint8 class indices: the most probable, or whether the threshold is reached."""
        return self.trained.decision.most_probable(probabilities_BKHW)

    @torch.inference_mode()
    def _batch_probabilities(self, pictures_HWC: Sequence[np.ndarray], *, whole: bool = False) -> Tensor:
        height, width = pictures_HWC[0].shape[:2]
        no_mask = np.empty((0, 0), np.uint8)
        seen = [
            self._transform({"image": pixels_HWC, "mask": no_mask, "name": ""}, 0)["image"]
            for pixels_HWC in pictures_HWC
        ]
        # As a view, the stack of (H, W, C) pictures already is a channels-last (B, C, H, W) tensor.
        images_BCHW = torch.from_numpy(np.stack(seen)).permute(0, 3, 1, 2)
        values = len(pictures_HWC) * self.trained.classes.outputs
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


def _blended(tiling: Tiling, pixels_HWC: np.ndarray, outputs: int) -> np.ndarray:
    """float32 (H, W, K): the probabilities of all tiles."""
    found_HWK = np.empty((*pixels_HWC.shape[:2], outputs), np.float32)

    def keep(top: int, left: int, found_KHW: np.ndarray) -> None:
        found_HWK[block(top, left, found_KHW)] = found_KHW.transpose(1, 2, 0)

    _run(tiling, pixels_HWC, keep)
    return found_HWK


def _run(tiling: Tiling, pixels_HWC: np.ndarray, write: Write) -> None:
    height, width, _ = pixels_HWC.shape
    tiling.run(lambda rows, columns: pixels_HWC[rows, columns], write, size=(height, width))
