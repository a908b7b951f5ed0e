"""What a model answers for one picture."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from segmentation.classes import Classes
from segmentation.errors import UserError, closest
from segmentation.inference import writing

ALPHA = 0.5
"""How much of the classes' colours an overlay shows."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answer at the picture's own size.

    `mask` is uint8 (H, W), class indices; `image` uint8 (H, W, C), the pixels that were judged, turned upright;
    `classes` says names and colours.
    """

    mask: np.ndarray
    classes: Classes
    image: np.ndarray = field(repr=False)
    compute: Callable[[], np.ndarray] = field(repr=False)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """float32 (H, W, K): of each class, or for binary data (K = 1) of the foreground.

        With tiles they are computed when they are first asked for: they may be much larger than the picture.
        """
        return self.compute()

    def overlay(self, alpha: float = ALPHA) -> Image.Image:
        """The picture in the classes' colours; `alpha` is 0 (none of them) to 1, else `UserError` is raised."""
        if not 0 <= alpha <= 1:
            raise UserError(f"alpha={alpha} is no share: give a number from 0 to 1.")
        return Image.fromarray(writing.tint(self.image, self.mask, self.classes, alpha))

    def save(self, path: str | Path, what: Literal["mask", "overlay", "probability"] = "mask") -> Path:
        """Writes the file, its folders too, over what was there.

        The mask is an 8-bit PNG (0 and 255 for binary, else indices with a palette), the overlay any picture
        that Pillow writes, probabilities a 16-bit PNG (binary) or an .npz. Raises `UserError` for other endings.
        """
        path = Path(path).expanduser()
        if what == "mask":
            writing.save_mask(path, self.mask, self.classes)
        elif what == "probability":
            writing.save_probabilities(path, self.probabilities, self.classes)
        elif what == "overlay":
            writing.save_picture(path, self.overlay())
        else:
            raise UserError(
                f"There is no '{what}' to save.{closest(what, ('mask', 'overlay', 'probability'))}"
            )
        return path
