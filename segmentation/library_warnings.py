"""Hide messages of libraries that a user cannot act on."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_KNOWN = (
    ".*does not have many workers.*",  # data.workers is the user's own choice, and auto is measured
    ".*number of training batches.*smaller than the logging interval.*",  # the scores are logged by epoch
    ".*isinstance\\(treespec, LeafSpec\\).*",  # between Lightning and torch
    ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run goes on in its own folder
    ".*sync_dist=True.*",  # scores come from counts that are summed over the processes already
    ".*your dataloader is not resumable.*",  # the data module resumes itself
    ".*FSDP2-wrapped module.*returned a view.*",  # nothing here changes it in place
    ".*GPU available but not used.*",  # accelerator=cpu says so
    ".*WeightAveraging callback with a model that overrides.*",  # fsdp, which shards the model, refuses ema_decay
    ".*callbacks used to create the checkpoint.*",  # a resumed run names those that are missing itself
    ".*`srun` command is available.*",  # a machine with Slurm may also run commands without it
)


_LEVELS = {
    "pytorch_lightning": logging.WARNING,
    "lightning_fabric": logging.WARNING,
    "lightning.pytorch": logging.WARNING,
    # With compile=true it warns about a CUDA toolkit on a machine without a GPU.
    "torch.utils.cpp_extension": logging.ERROR,
}


def hide_library_warnings() -> None:
    """Hides them for the rest of the process."""
    for name, level in _LEVELS.items():
        logging.getLogger(name).setLevel(level)
    for message in _KNOWN:
        warnings.filterwarnings("ignore", message)


@contextmanager
def library_warnings_hidden() -> Iterator[None]:
    """Hides them inside the block: a program that calls the package keeps its own filters and levels."""
    levels = {name: logging.getLogger(name).level for name in _LEVELS}
    try:
        with warnings.catch_warnings():
            hide_library_warnings()
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
