"""Optimizers over parameter groups, and learning-rate schedules."""

from segmentation.optim.optimizers import OPTIMIZERS, create_optimizer, match_memory_format
from segmentation.optim.schedulers import SCHEDULERS, Curve, Plateau, create_scheduler

__all__ = [
    "OPTIMIZERS",
    "SCHEDULERS",
    "Curve",
    "Plateau",
    "create_optimizer",
    "create_scheduler",
    "match_memory_format",
]
