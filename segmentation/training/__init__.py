"""A training run from config to report, in one process or several."""

from segmentation.training.run import train

__all__ = ["train"]
