"""One process among those that judge together."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from pytorch_lightning import Trainer
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from segmentation.callbacks import plugins, spread
from segmentation.errors import UserError
from segmentation.evaluation.settings import EvaluationSettings
from segmentation.inference.device import choose_device
from segmentation.options import checked
from segmentation.processes import company

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Place:
    """This process's number among `processes`."""

    process: int = 0
    processes: int = 1

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes and speaks."""
        return self.process == 0

    def gathered(self, own: list[Thing]) -> list[Thing]:
        """For the first process what all have, in no order; nothing for the others. All must call it."""
        if self.processes == 1:
            return own
        from torch import distributed

        parts: list[list[Thing]] | None = [[] for _ in range(self.processes)] if self.is_first else None
        distributed.gather_object(own, parts)
        return [thing for part in parts or () for thing in part]


ALONE = Place()


def open_trainer(settings: EvaluationSettings) -> Trainer:
    """A trainer that trains nothing: it knows the other processes, and the device of this one.

    Raises `UserError` for a device that is not there, and for a number of processes that cannot be.
    """
    device = choose_device(settings.accelerator)
    options = spread({"strategy": "auto", **settings.trainer}, {}, device)
    try:
        return Trainer(
            **checked("trainer", Trainer, options),
            accelerator=device.type,
            plugins=plugins(),
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise UserError(f"trainer: {str(error).splitlines()[0]}") from error


@contextmanager
def among(trainer: Trainer) -> Iterator[Place]:
    """This process's place, beside the others for as long as the block runs; see `company` for what it raises."""
    with company(trainer):
        trainer.strategy.setup_environment()
        yield Place(trainer.global_rank, trainer.world_size)
