"""DeepLabV3-family semantic segmentation on any torchvision backbone.

`segmentation.load("best.ckpt").predict("photo.jpg")` is all that using a model takes.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segmentation.inference import load

__all__ = ["load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # torch takes seconds to import, and most of the package does not need it.
    if name == "load":
        from segmentation.inference import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
