"""Optimizers over parameter groups, and learning-rate schedules."""

from segmentation.optim.optimizers import OPTIMIZERS, create_optimizer, match_memory_format
from segmentation.optim.schedulers import SCHEDULERS, create_schedulers

__all__ = ["OPTIMIZERS", "SCHEDULERS", "create_optimizer", "create_schedulers", "match_memory_format"]
