"""How weights move: optimizers over groups of parameters, and schedules of their learning rates."""

from segmentation.optim.optimizers import OPTIMIZERS, create_optimizer, settle
from segmentation.optim.schedulers import SCHEDULERS, create_schedulers

__all__ = ["OPTIMIZERS", "SCHEDULERS", "create_optimizer", "create_schedulers", "settle"]
