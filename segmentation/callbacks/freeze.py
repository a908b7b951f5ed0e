"""Train the head before the backbone."""

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn

from segmentation.task import SegmentationTask


class FreezeBackbone(Callback):
    """Freezes the backbone for the first `epochs` epochs: neither its weights nor its batch statistics change."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """For a run resumed within an epoch, which does not see the start of that epoch."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Freeze or unfreeze, by the epoch's number alone, so that a resumed run does the same."""
        assert isinstance(pl_module, SegmentationTask)
        frozen = trainer.current_epoch < self._epochs
        backbone: nn.Module = pl_module.model.backbone
        backbone.requires_grad_(not frozen)
        backbone.train(not frozen)
