"""Training the head first."""

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn

from segmentation.task import SegmentationTask


class FreezeBackbone(Callback):
    """Keeps the backbone as it was loaded for the first `epochs` epochs: neither weights nor statistics move."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A run may be resumed in the middle of an epoch, whose start it does not see."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Freezes, or from epoch `epochs` on lets go; it follows from the epoch alone, so also on resume."""
        assert isinstance(pl_module, SegmentationTask)
        frozen = trainer.current_epoch < self._epochs
        backbone: nn.Module = pl_module.model.backbone
        backbone.requires_grad_(not frozen)
        backbone.train(not frozen)
