"""What travels from file to report: samples, batches, and the classes with their names and colours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict
from unicodedata import category

from segmentation.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import torch


IGNORE_INDEX = 255
"""The label of ignored pixels: losses and metrics leave them out."""


def is_ignored(mask: "torch.Tensor") -> "torch.Tensor":
    """Where a mask of any shape and integer type holds `IGNORE_INDEX`, as bool."""
    # Comparing two uint8 tensors is 8x faster than comparing a tensor with a scalar.
    return mask == mask.new_full(mask.shape, IGNORE_INDEX)


class Sample(TypedDict):
    """One image and its labels, as the data sets give them and the augmentations keep them."""

    image: "np.ndarray"  # uint8 (H, W, C), raw pixels 0..255
    mask: "np.ndarray"  # uint8 (H, W), class indices, 255 is ignore
    name: str  # the file's stem, unique within its split


class Batch(TypedDict):
    """Samples on their way to the model. Raw pixels travel: a quarter of the bytes of float32."""

    image: "torch.Tensor"  # uint8 (B, C, H, W)
    mask: "torch.Tensor | list[torch.Tensor]"  # training: uint8 (B, H, W); else one (H, W) an image, at its own size
    name: list[str]


Colour = tuple[int, int, int]

IGNORE_COLOUR: Colour = (224, 224, 192)
"""How pictures show ignored pixels: the colour of the borders in PASCAL VOC's masks."""

_CONTROLS = frozenset({"Cc", "Zl", "Zp"})


def hexadecimal(colour: Colour) -> str:
    """#rrggbb, as pages write it."""
    return "#" + bytes(colour).hex()


def voc_palette(count: int) -> tuple[Colour, ...]:
    """The first `count` (0..256) colours of PASCAL VOC's map: the index's bits, three at a time, from the top."""

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
    """Names and colours in the order of the labels 0, 1, ...; label 255 is ignore and no class.

    `binary` data has two names, background and foreground, told apart by one logit.

    Raises `UserError` where names repeat or hold control characters, colours are missing or no 8 bits, or there are
    too many classes for 8 bits.
    """

    names: tuple[str, ...]
    palette: tuple[Colour, ...] = field(default=())
    binary: bool = False

    def __post_init__(self) -> None:
        if not self.palette:
            object.__setattr__(self, "palette", voc_palette(len(self.names)))
        repeated = {name for name in self.names if self.names.count(name) > 1}
        if repeated:
            raise UserError(
                f"Class names repeat: {', '.join(sorted(repeated))}. Give each class its own name."
            )
        unclean = next((name for name in self.names if set(map(category, name)) & _CONTROLS), None)
        if unclean is not None:  # a terminal would obey them
            raise UserError(f"The class name {unclean!r} holds control characters: give it letters alone.")
        if not 2 <= len(self.names) <= IGNORE_INDEX:
            raise UserError(f"{len(self.names)} classes: between 2 and {IGNORE_INDEX} are possible.")
        if len(self.palette) != len(self.names):
            raise UserError(
                f"{len(self.names)} classes but {len(self.palette)} colours: give one colour a class."
            )
        wrong = next(
            (colour for colour in self.palette if not all(0 <= part <= 255 for part in colour)), None
        )
        if wrong is not None:
            raise UserError(f"The colour {list(wrong)} is not within 0 to 255: give red, green and blue so.")
        if self.binary and len(self.names) != 2:
            raise UserError(f"Binary data has 2 classes, background and foreground, not {len(self.names)}.")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def outputs(self) -> int:
        """Logits a model gives for these classes: one for binary, else one a class."""
        return 1 if self.binary else len(self.names)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as a checkpoint keeps it."""
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
