"""What other recipes train, with the same ImageNet weights of EfficientNet-Lite0, for a given number of steps.

`Notebook` is segmentation-models-pytorch's CamVid example; `Loop` is the plain loop of the tutorials: torchvision's
DeepLabV3 head on the dilated classifier, whole images resized. Nothing of this project trains here.
"""

import logging
import random
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import albumentations as A  # noqa: N812 - as in its documentation
import cv2
import numpy as np
import pytorch_lightning as pl
import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, Dataset
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

IGNORED = 255
_LITE = "tf_efficientnet_lite0"

Predict = Callable[[np.ndarray], np.ndarray]
"""RGB image (H, W, 3) -> labels (H, W)."""


@dataclass
class Clock:
    """Processor and wall seconds since the first step began, and of one step after the first."""

    ticks: list[tuple[float, float]] = field(default_factory=list)

    def tick(self) -> None:
        """Called before the first step and after each one."""
        self.ticks.append((time.process_time(), time.perf_counter()))

    def seconds(self, first: int = 0) -> tuple[float, float]:
        """Processor and wall seconds of all steps from number `first` on."""
        (cpu, wall), (cpu_end, wall_end) = self.ticks[first], self.ticks[-1]
        return cpu_end - cpu, wall_end - wall


class Ticks(pl.Callback):
    """A `Clock` in Lightning's Trainer."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def on_train_start(self, *_: Any) -> None:
        """The first step begins."""
        self._clock.tick()

    def on_train_batch_end(self, *_: Any) -> None:
        """A step has ended."""
        self._clock.tick()


class Pictures(Dataset[tuple[np.ndarray, np.ndarray]]):
    """A folder of images and a folder of masks, read with OpenCV; `labels` turns what a mask holds into classes."""

    def __init__(self, folder: Path, labels: np.ndarray, augmentation: A.Compose | None = None) -> None:
        self.images = sorted((folder / "images").iterdir())
        self.masks = sorted((folder / "masks").iterdir())
        self.labels = labels
        self.augmentation = augmentation

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image = cv2.cvtColor(cv2.imread(str(self.images[index])), cv2.COLOR_BGR2RGB)
        mask = self.labels[cv2.imread(str(self.masks[index]), 0)]
        if self.augmentation is not None:
            sample = self.augmentation(image=image, mask=mask)
            image, mask = sample["image"], sample["mask"]
        return image.transpose(2, 0, 1), mask


def batches(loader: DataLoader[Any], steps: int) -> Iterator[Any]:
    """`steps` batches of as many epochs as it takes."""
    return islice(chain.from_iterable(repeat(loader)), steps)


class Notebook(pl.LightningModule):
    """smp's `examples/camvid_segmentation_multiclass.ipynb` with DeepLabV3+ on Lite0 instead of its FPN on ResNeXt-50.

    Its Dice loss, Adam at 2e-4, cosine down to 1e-5, crops of 320x320 with its augmentations, batches of 32; one logit
    and its binary loss for two classes. Unlike there, pixels that are ignored are no class of their own.
    """

    def __init__(self, outputs: int, state: dict[str, Tensor] | None, steps: int) -> None:
        super().__init__()
        self.model = smp.create_model(
            "DeepLabV3Plus", encoder_name=f"tu-{_LITE}", encoder_weights=None, in_channels=3, classes=outputs
        )
        if state:
            own = self.model.encoder.model.state_dict()
            self.model.encoder.model.load_state_dict({name: state[name] for name in own})
        mode = smp.losses.BINARY_MODE if outputs == 1 else smp.losses.MULTICLASS_MODE
        self.loss_fn = smp.losses.DiceLoss(mode, from_logits=True, ignore_index=IGNORED)
        self.steps = steps

    @staticmethod
    def augmentation(crop: int) -> A.Compose:
        """Those of the notebook; what is padded is ignored."""
        return A.Compose(
            [
                A.HorizontalFlip(p=0.5),
                A.ShiftScaleRotate(
                    scale_limit=0.5, rotate_limit=0, shift_limit=0.1, p=1, border_mode=0, fill_mask=IGNORED
                ),
                A.PadIfNeeded(min_height=crop, min_width=crop, border_mode=0, fill_mask=IGNORED),
                A.RandomCrop(height=crop, width=crop),
                A.GaussNoise(p=0.2),
                A.Perspective(p=0.5, fill_mask=IGNORED),
                A.OneOf([A.CLAHE(p=1), A.RandomBrightnessContrast(p=1), A.RandomGamma(p=1)], p=0.9),
                A.OneOf([A.Sharpen(p=1), A.Blur(blur_limit=3, p=1), A.MotionBlur(blur_limit=3, p=1)], p=0.9),
                A.OneOf([A.RandomBrightnessContrast(p=1), A.HueSaturationValue(p=1)], p=0.9),
            ]
        )

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Pixels 0..255 -> logits."""
        logits: Tensor = self.model((image_BCHW.float() / 255.0 - 0.5) / 0.5)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of one batch; the notebook's counts of each step are left out, which makes it a little faster."""
        image, mask = batch
        loss: Tensor = self.loss_fn(self(image), mask.long())
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        """Adam with a cosine schedule over the steps of the run."""
        optimizer = torch.optim.Adam(self.parameters(), lr=2e-4)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.steps, eta_min=1e-5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def train_notebook(pictures: Path, labels: np.ndarray, outputs: int, batch: int, crop: int) -> Any:
    """`(state, steps, seed, clock) -> Predict`: the notebook's training."""

    def train(state: dict[str, Tensor] | None, steps: int, seed: int, clock: Clock) -> Predict:
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
        pl.seed_everything(seed, verbose=False)
        module = Notebook(outputs, state, steps)
        with warnings.catch_warnings(action="ignore"):
            data = Pictures(pictures, labels, Notebook.augmentation(crop))
            loader = DataLoader(data, batch_size=min(batch, len(data)), shuffle=True, drop_last=True)
            trainer = pl.Trainer(
                accelerator="cpu",
                max_steps=steps,
                logger=False,
                enable_checkpointing=False,
                enable_model_summary=False,
                enable_progress_bar=False,
                callbacks=[Ticks(clock)],
            )
            trainer.fit(module, loader)
        module.eval()

        @torch.no_grad()
        def predict(image: np.ndarray) -> np.ndarray:
            height, width = image.shape[:2]
            padded = A.PadIfNeeded(None, None, pad_height_divisor=32, pad_width_divisor=32)(image=image)[
                "image"
            ]
            top, left = (padded.shape[0] - height) // 2, (padded.shape[1] - width) // 2
            logits = module(torch.from_numpy(padded.transpose(2, 0, 1).copy())[None])
            return _labels(logits[..., top : top + height, left : left + width])

        return predict

    return train


class Classifier(nn.Module):
    """timm's Lite0 at output stride 16 and torchvision's DeepLabHead, as torchvision builds its own models."""

    def __init__(self, outputs: int, state: dict[str, Tensor] | None) -> None:
        super().__init__()
        self.backbone = timm.create_model(_LITE, features_only=True, out_indices=(4,), output_stride=16)
        if state:
            self.backbone.load_state_dict({name: state[name] for name in self.backbone.state_dict()})
        self.head = DeepLabHead(320, outputs)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Normalised pixels -> logits at their size."""
        logits = self.head(self.backbone(image_BCHW)[-1])
        return interpolate(logits, size=image_BCHW.shape[-2:], mode="bilinear", align_corners=False)


def train_loop(pictures: Path, labels: np.ndarray, outputs: int, batch: int, size: tuple[int, int]) -> Any:
    """`(state, steps, seed, clock) -> Predict`: whole images resized, flips, cross-entropy, Adam at 1e-4."""

    def train(state: dict[str, Tensor] | None, steps: int, seed: int, clock: Clock) -> Predict:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        steps_of_loading = A.Compose([A.Resize(*size), A.HorizontalFlip(p=0.5)], seed=seed)
        data = Pictures(pictures, labels, steps_of_loading)
        loader = DataLoader(data, batch_size=min(batch, len(data)), shuffle=True, drop_last=True)
        model = Classifier(outputs, state).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
        clock.tick()
        for image, mask in batches(loader, steps):
            optimizer.zero_grad()
            logits = model((image.float() / 255 - 0.5) / 0.5)
            if outputs == 1:
                valid = mask != IGNORED
                loss = nn.functional.binary_cross_entropy_with_logits(
                    logits[:, 0][valid], mask[valid].float()
                )
            else:
                loss = nn.functional.cross_entropy(logits, mask.long(), ignore_index=IGNORED)
            loss.backward()
            optimizer.step()
            loss.item()
            clock.tick()
        model.eval()

        @torch.no_grad()
        def predict(image: np.ndarray) -> np.ndarray:
            resized = cv2.resize(image, size[::-1])
            logits = model((torch.from_numpy(resized.transpose(2, 0, 1)).float()[None] / 255 - 0.5) / 0.5)
            whole = interpolate(logits, size=image.shape[:2], mode="bilinear", align_corners=False)
            return _labels(whole)

        return predict

    return train


def _labels(logits_1KHW: Tensor) -> np.ndarray:
    binary = logits_1KHW.shape[1] == 1
    labels_HW: Tensor = logits_1KHW[0, 0] > 0 if binary else logits_1KHW[0].argmax(dim=0)
    return labels_HW.numpy().astype(np.uint8)
