"""Hides messages of libraries about which a user can do nothing."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_KNOWN = (
    ".*does not have many workers.*",  # data.workers is the user's choice, and auto was measured to be the fastest
    ".*number of training batches.*smaller than the logging interval.*",  # scores are logged per epoch
    ".*isinstance\\(treespec, LeafSpec\\).*",  # Lightning calls a deprecated function of torch
    ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run continues in its own folder
    ".*sync_dist=True.*",  # scores come from counts that are already summed over the processes
    ".*your dataloader is not resumable.*",  # the data module resumes itself
    ".*FSDP2-wrapped module.*returned a view.*",  # we change no output in place
    ".*GPU available but not used.*",  # the user chose accelerator=cpu
    ".*WeightAveraging callback with a model that overrides.*",  # about sharded models; fsdp refuses ema_decay anyway
    ".*callbacks used to create the checkpoint.*",  # we report the missing callbacks of a resumed run ourselves
    # rasterio hides it from the thread that draws outlines, and shows it where several threads draw.
    ".*Dataset has no geotransform.*",
    ".*`srun` command is available.*",  # on a machine with Slurm, commands may also run without it
)


_LEVELS = {
    "pytorch_lightning": logging.WARNING,
    "lightning_fabric": logging.WARNING,
    "lightning.pytorch": logging.WARNING,
    "pytorch_lightning.loggers.mlflow": logging.ERROR,  # that the first run of an experiment creates it
    "httpx": logging.WARNING,  # by which gradio asks whether its own server is up
    # With compile=true it warns about a CUDA toolkit on a machine without a GPU.
    "torch.utils.cpp_extension": logging.ERROR,
}


def hide_library_warnings() -> None:
    """Hides the messages for the rest of the process."""
    for name, level in _LEVELS.items():
        logging.getLogger(name).setLevel(level)
    for message in _KNOWN:
        warnings.filterwarnings("ignore", message)


@contextmanager
def library_warnings_hidden() -> Iterator[None]:
    """Hides the messages inside the block, and then restores the filters and levels of the calling program."""
    levels = {name: logging.getLogger(name).level for name in _LEVELS}
    try:
        with warnings.catch_warnings():
            hide_library_warnings()
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
