"""Test-time augmentation: flipped and scaled views of an image, and how their logits are brought back."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from torch import Tensor

from segmentation.errors import UserError, closest
from segmentation.models import resize

Augmentation = str | float | Sequence[str | float]
"""What users write: "none", "flip", "vertical_flip", "scales", a scale as a number, or a list of these."""

SCALES = (0.75, 1.25)
"""What "scales" adds to the image's own size: the range of training's random zoom."""

_FLIPS = {"flip": -1, "vertical_flip": -2}


@dataclass(frozen=True)
class View:
    """The image flipped along `axes` and resized to `scale` times its size."""

    axes: tuple[int, ...] = ()
    scale: float = 1.0

    def apply(self, image_BCHW: Tensor) -> Tensor:
        """Raw pixels of this view."""
        if self.scale != 1:
            height, width = (max(1, round(side * self.scale)) for side in image_BCHW.shape[-2:])
            image_BCHW = resize(image_BCHW.float(), (height, width))
        return image_BCHW.flip(self.axes) if self.axes else image_BCHW

    def undo(self, logits_BKHW: Tensor, size: tuple[int, int]) -> Tensor:
        """The view's logits flipped back, at `size` (H, W)."""
        return resize(logits_BKHW.flip(self.axes) if self.axes else logits_BKHW, size)


def tta_views(augmentation: Augmentation) -> tuple[View, ...]:
    """The image as it is first, then every combination of the flips and the scales that are named.

    Raises `UserError` for an unknown name and for a scale outside 0.1..4.
    """
    named = list(augmentation) if isinstance(augmentation, list | tuple) else [augmentation]
    flips: list[tuple[int, ...]] = [()]
    scales = [1.0]
    for name in named:
        if name == "scales":
            scales += SCALES
        elif isinstance(name, str) and name in _FLIPS:
            flips += [(*axes, _FLIPS[name]) for axes in flips if _FLIPS[name] not in axes]
        elif isinstance(name, int | float) and not isinstance(name, bool):
            scales.append(_checked(name))
        elif name != "none":
            raise UserError(f"tta={name} is unknown.{closest(str(name), ['none', 'scales', *_FLIPS])}")
        elif len(named) > 1:
            raise UserError(f"tta={list(named)} asks for none and more: leave one of them out.")
    chosen = product(dict.fromkeys(scales), dict.fromkeys(flips))
    return tuple(View(axes, scale) for scale, axes in chosen)


def describe_tta(chosen: Sequence[View]) -> str:
    """The views in words, for a report's protocol."""
    names = {axis: name for name, axis in _FLIPS.items()}
    flips = sorted({names[axis] for view in chosen for axis in view.axes})
    scales = sorted({view.scale for view in chosen})
    words = flips if scales == [1.0] else [*flips, f"scales {' '.join(f'{scale:g}' for scale in scales)}"]
    return f"{', '.join(words)}; mean probability of {len(chosen)} views" if words else "none"


def _checked(scale: float) -> float:
    if not 0.1 <= scale <= 4:
        raise UserError(f"tta={scale:g} is no scale: give a number from 0.1 to 4.")
    return float(scale)
