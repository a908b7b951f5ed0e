"""What a model costs: parameters, operations, memory and time, in one table for many."""

from segmentation.benchmark.gather import gather
from segmentation.benchmark.run import benchmark

__all__ = ["benchmark", "gather"]
