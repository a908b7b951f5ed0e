"""The types shared by all parts of the package: samples, batches, and the classes with their names and colours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict
from unicodedata import category

from segmentation.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import torch


IGNORE_INDEX = 255
"""The label of ignored pixels.

It comes from the mask files (`data/masks.py`, `data/binary_masks.py`), from augmentation outside the image and where
dropout covers it (`data/augmentation.py`), and from padding between processes (`data/datamodule.py`). Losses drop it in
`losses/functional.py`. Metrics drop it in `image_counts` (`metrics/confusion.py`), `BoundaryCounts`
(`metrics/boundary.py`), `ScoreHistogram` (`metrics/curves.py`), `Calibration` (`metrics/calibration.py`), `matched`
(`metrics/objects.py`) and where losses are averaged (`metrics/collections.py`). Pictures show it in `IGNORE_COLOUR`,
and error pictures (`report/gallery.py`) count it as no error. `data/checks.py` refuses data whose masks hold nothing
else.
"""


def is_ignored(mask: "torch.Tensor") -> "torch.Tensor":
    """A bool tensor, True where a mask of any shape and integer type equals `IGNORE_INDEX`."""
    # Comparing two uint8 tensors is 8x faster than comparing a tensor with a scalar.
    return mask == mask.new_full(mask.shape, IGNORE_INDEX)


class Sample(TypedDict):
    """One image and its labels, as returned by data sets and by augmentations."""

    image: "np.ndarray"  # uint8 (H, W, C), raw pixels 0..255
    mask: "np.ndarray"  # uint8 (H, W), class indices, 255 is ignore
    name: str  # the file's stem, unique within its split


class Area(NamedTuple):
    """A rectangle of a scene, which is known by its number, in the scene's pixels."""

    scene: int
    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.bottom - self.top, self.right - self.left


class Batch(TypedDict):
    """A batch of samples for the model, with raw pixels: a quarter of the bytes of float32."""

    image: "torch.Tensor"  # uint8 (B, C, H, W)
    mask: "torch.Tensor | list[torch.Tensor]"  # training: uint8 (B, H, W); else one (H, W) per image at its own size
    name: list[str]


Colour = tuple[int, int, int]

IGNORE_COLOUR: Colour = (224, 224, 192)
"""The colour of ignored pixels in figures: that of the object borders in PASCAL VOC's masks."""

_TWO_COLOURS: tuple[Colour, Colour] = ((0, 0, 0), (240, 180, 40))

_LONGEST_NAME = 200
_BACKGROUNDS = {"background", "_background_", "__background__", "bg"}  # of labelme, of Pascal VOC's tools
_CONTROLS = frozenset({"Cc", "Cs", "Zl", "Zp"})  # Cs: halves of letters, which no file can hold


def hexadecimal(colour: Colour) -> str:
    """The colour as #rrggbb, for HTML."""
    return "#" + bytes(colour).hex()


def voc_palette(count: int) -> tuple[Colour, ...]:
    """The first `count` (0..256) colours of PASCAL VOC's colour map, which are made of the bits of the index."""

    def colour(index: int) -> Colour:
        red = green = blue = 0
        for shift in range(7, -1, -1):
            red |= (index & 1) << shift
            green |= (index >> 1 & 1) << shift
            blue |= (index >> 2 & 1) << shift
            index >>= 3
        return red, green, blue

    return tuple(colour(index) for index in range(count))


@dataclass(frozen=True)
class Classes:
    """Names and colours in the order of the labels 0, 1, ...; label 255 is ignore and not a class.

    `binary` data has two names, background and foreground, and models give one logit.

    Raises `UserError` if names repeat, hold control characters, are empty or have more than 200 letters, if colours
    are missing or outside 0..255, or if there are more classes than 8 bits can hold.
    """

    names: tuple[str, ...]
    palette: tuple[Colour, ...] = field(default=())
    binary: bool = False

    def __post_init__(self) -> None:
        if not self.palette:
            # The colour map's own second colour is a dark red, which is hard to tell from black.
            colours = _TWO_COLOURS if len(self.names) == 2 else voc_palette(len(self.names))
            object.__setattr__(self, "palette", colours)
        repeated = {name for name in self.names if self.names.count(name) > 1}
        if repeated:
            raise UserError(
                f"Class names repeat: {', '.join(sorted(repeated))}. Give each class its own name."
            )
        unclean = next((name for name in self.names if set(map(category, name)) & _CONTROLS), None)
        if unclean is not None:  # a terminal would execute them
            raise UserError(
                f"The class name {unclean!r} has control characters or halves of letters: use letters only."
            )
        wordy = next((name for name in self.names if not 0 < len(name) <= _LONGEST_NAME), None)
        if wordy is not None:  # tables, pictures and notes would be unreadable
            raise UserError(
                f"The class name '{wordy[:50]}' has {len(wordy)} letters: give it 1 to {_LONGEST_NAME}."
            )
        if not 2 <= len(self.names) <= IGNORE_INDEX:
            raise UserError(f"{len(self.names)} classes: between 2 and {IGNORE_INDEX} are possible.")
        if len(self.palette) != len(self.names):
            raise UserError(
                f"{len(self.names)} classes but {len(self.palette)} colours: give one colour per class."
            )
        wrong = next(
            (colour for colour in self.palette if not all(0 <= part <= 255 for part in colour)), None
        )
        if wrong is not None:
            raise UserError(
                f"The colour {list(wrong)} is not within 0..255: give red, green and blue in this range."
            )
        if self.binary and len(self.names) != 2:
            raise UserError(f"Binary data has 2 classes, background and foreground, not {len(self.names)}.")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def foreground(self) -> range:
        """The labels of all classes but the background: label 0 of binary data, or a first class that is called so."""
        return range(int(self.binary or self.names[0].lower() in _BACKGROUNDS), len(self))

    @property
    def outputs(self) -> int:
        """The number of logits of a model for these classes: 1 for binary data, else one per class."""
        return 1 if self.binary else len(self.names)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for a checkpoint."""
        return {
            "names": list(self.names),
            "palette": [list(colour) for colour in self.palette],
            "binary": self.binary,
            "ignore_index": IGNORE_INDEX,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Classes":
        """The inverse of `to_dict`."""
        names: Sequence[str] = data["names"]
        red_green_blue = (tuple(int(part) for part in colour) for colour in data["palette"])
        palette = tuple((red, green, blue) for red, green, blue in red_green_blue)
        return cls(tuple(str(name) for name in names), palette, bool(data["binary"]))
