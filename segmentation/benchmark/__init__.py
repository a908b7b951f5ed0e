"""What a model costs: parameters, operations, memory and time, in one table for many."""

from segmentation.benchmark.measure import benchmark
from segmentation.benchmark.results import gather

__all__ = ["benchmark", "gather"]
