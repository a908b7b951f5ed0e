"""Large pictures in memory: seen through tiles, answered whole."""

from collections.abc import Callable

import numpy as np

from segmentation.classes import Classes
from segmentation.inference.prediction import Prediction
from segmentation.inference.tiles import Tiling, Write


def predict_array(
    pixels_HWC: np.ndarray, tiling: Tiling, label: Callable[[np.ndarray], np.ndarray], classes: Classes
) -> Prediction:
    """The mask of a uint8 (H, W, C) picture, tile by tile; `label` maps probabilities (K, H, W) to labels (H, W).

    Probabilities are not kept, but computed anew if they are asked for.
    """
    height, width, _ = pixels_HWC.shape
    mask_HW = np.empty((height, width), np.uint8)

    def keep_labels(top: int, left: int, found_KHW: np.ndarray) -> None:
        mask_HW[_place(top, left, found_KHW)] = label(found_KHW)

    def probabilities() -> np.ndarray:
        found_HWK = np.empty((height, width, classes.outputs), np.float32)

        def keep_all(top: int, left: int, found_KHW: np.ndarray) -> None:
            found_HWK[_place(top, left, found_KHW)] = found_KHW.transpose(1, 2, 0)

        run(keep_all)
        return found_HWK

    def run(write: Write) -> None:
        tiling.run(lambda rows, columns: pixels_HWC[rows, columns], write, size=(height, width))

    run(keep_labels)
    return Prediction(mask_HW, classes, pixels_HWC, probabilities)


def _place(top: int, left: int, found_KHW: np.ndarray) -> tuple[slice, slice]:
    _, height, width = found_KHW.shape
    return slice(top, top + height), slice(left, left + width)
