"""What other packages say that helps nobody here."""

import logging
import warnings

_KNOWN = (
    ".*does not have many workers.*",  # data.workers is the user's own choice, and auto is measured
    ".*number of training batches.*smaller than the logging interval.*",  # the scores are logged by epoch
    ".*isinstance\\(treespec, LeafSpec\\).*",  # between Lightning and torch
    ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run goes on in its own folder
    ".*sync_dist=True.*",  # scores come from counts that the processes have added up already
    ".*your dataloader is not resumable.*",  # the data module sees to it
    ".*FSDP2-wrapped module.*returned a view.*",  # which nothing here changes in place
    ".*GPU available but not used.*",  # accelerator=cpu says so
    ".*WeightAveraging callback with a model that overrides.*",  # fsdp, which cuts it up, refuses ema_decay
    ".*`srun` command is available.*",  # Slurm is there, and one may still run something beside it
)


def hush() -> None:
    """Leaves of the libraries' messages those that a user can act on."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # With compile=true it warns of a CUDA toolkit on a machine without a GPU.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    for message in _KNOWN:
        warnings.filterwarnings("ignore", message)
