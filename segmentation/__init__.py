"""DeepLabV3-family semantic segmentation on any torchvision backbone.

`segmentation.load("best.ckpt").predict("photo.jpg")` is all that using a model takes; `segmentation.train`,
`segmentation.evaluate` and `segmentation.inspect` run the commands of these names.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segmentation.api import evaluate, inspect, train
    from segmentation.inference import load

__all__ = ["evaluate", "inspect", "load", "train"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # torch takes seconds to import, and most of the package does not need it.
    if name == "load":
        from segmentation.inference import load

        return load
    if name in __all__:
        from segmentation import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
