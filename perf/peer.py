"""segmentation-models-pytorch's DeepLabV3 in a LightningModule, following that project's CamVid example.

Images are read with OpenCV, counts come from `smp.metrics.get_stats`, the loss is Dice.
"""

import logging
import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import albumentations as A  # noqa: N812 - as in its documentation
import cv2
import numpy as np
import pytorch_lightning as pl
import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

ENCODERS = {"mobilenetv3_small": "tu-mobilenetv3_small_100", "mobilenetv3_large": "tu-mobilenetv3_large_100"}
"""Its names of our backbones, where they differ."""


class Pictures(Dataset[tuple[np.ndarray, np.ndarray]]):
    """A folder of images and a folder of masks, resized by albumentations."""

    def __init__(self, root: Path, size: tuple[int, int]) -> None:
        self.images = sorted((root / "images").iterdir())
        self.masks = sorted((root / "masks").iterdir())
        self.augmentation = A.Compose([A.Resize(*size), A.HorizontalFlip(p=0.5)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image = cv2.cvtColor(cv2.imread(str(self.images[index])), cv2.COLOR_BGR2RGB)
        mask = (cv2.imread(str(self.masks[index]), 0) > 127).astype(np.uint8)
        sample = self.augmentation(image=image, mask=mask)
        return sample["image"].transpose(2, 0, 1), sample["mask"]


class Module(pl.LightningModule):
    """The model of the example, for one class."""

    def __init__(self, backbone: str, output_stride: int, steps: int) -> None:
        super().__init__()
        self.model = smp.create_model(
            "DeepLabV3",
            encoder_name=ENCODERS.get(backbone, backbone),
            encoder_weights=None,
            encoder_output_stride=output_stride,
            in_channels=3,
            classes=1,
        )
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.loss_fn = smp.losses.DiceLoss(smp.losses.BINARY_MODE, from_logits=True)
        self.steps = steps
        self.outputs: list[dict[str, Tensor]] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Loss and counts of one batch."""
        image, mask = batch
        mask = mask.long().unsqueeze(1)
        logits = self.model((image.float() / 255.0 - self.mean) / self.std)
        loss = self.loss_fn(logits, mask)
        labels = (logits.sigmoid() > 0.5).float()
        counts = smp.metrics.get_stats(labels.long(), mask, mode="binary")
        step = {"loss": loss, **dict(zip(("tp", "fp", "fn", "tn"), counts, strict=True))}
        self.outputs.append(step)
        return step

    def on_train_epoch_end(self) -> None:
        """IoU per image and over the data set."""
        names = ("tp", "fp", "fn", "tn")
        counts = [torch.cat([output[name] for output in self.outputs]) for name in names]
        scores = {
            "train_per_image_iou": smp.metrics.iou_score(*counts, reduction="micro-imagewise"),
            "train_dataset_iou": smp.metrics.iou_score(*counts, reduction="micro"),
        }
        self.log_dict(scores, prog_bar=True)
        self.outputs.clear()

    def configure_optimizers(self) -> dict[str, Any]:
        """Adam with a cosine schedule."""
        optimizer = torch.optim.Adam(self.parameters(), lr=2e-4)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.steps, eta_min=1e-5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Clock(pl.Callback):
    """Seconds of the last epoch, from its start to the end of its last step."""

    seconds = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """Update `seconds`."""
        self.seconds = time.perf_counter() - self._start


def train(module: Module, loader: DataLoader[Any], steps: int, device: str) -> float:
    """Images per second in the second of two epochs of `steps` steps, with loading."""
    clock = Clock()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        trainer = pl.Trainer(
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=1,
            max_epochs=2,
            limit_train_batches=steps,
            log_every_n_steps=1,
            default_root_dir=folder,
            callbacks=[clock],
            enable_model_summary=False,
            enable_progress_bar=False,  # it would slow the peer down a little
        )
        trainer.fit(module, train_dataloaders=loader)
    assert loader.batch_size is not None
    return steps * loader.batch_size / clock.seconds
