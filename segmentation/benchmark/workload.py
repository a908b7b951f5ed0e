"""The two things that are done with a model, as a step to be repeated."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from segmentation.models import Segmenter
from segmentation.precision import autocast

Step = Callable[[], None]


@dataclass(frozen=True)
class Workload:
    """A model with what its training needs, and random images as the loaders bring them: raw pixels.

    `shape` is (C, H, W); `classes` the number of labels in the random masks; `precision` is Lightning's name.
    """

    model: Segmenter
    loss: nn.Module
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    aux_weight: float
    classes: int
    shape: tuple[int, int, int]
    precision: str
    device: torch.device

    def training(self, batch_size: int) -> tuple[Step, list[Tensor]]:
        """A step forward, backward and of a fresh optimizer; and the tensors that lie there before the first."""
        self._begin(training=True)
        image_BCHW, mask_BHW = self._batch(batch_size)
        optimizer = self.optimizer(self.model)
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "16-mixed")

        def step() -> None:
            optimizer.zero_grad()
            with autocast(self.precision, self.device):
                logits_BKHW, auxiliary_BKHW = self.model.with_auxiliary(image_BCHW)
                loss = self.loss(logits_BKHW, mask_BHW)
                if auxiliary_BKHW is not None:
                    loss = loss + self.aux_weight * self.loss(auxiliary_BKHW, mask_BHW)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

        return step, [*self._state(), image_BCHW, mask_BHW]

    def inference(self, batch_size: int) -> tuple[Step, list[Tensor]]:
        """A pass from raw pixels to logits; and the tensors that lie there before the first."""
        self._begin(training=False)
        image_BCHW, _ = self._batch(batch_size)

        def step() -> None:
            with torch.inference_mode(), autocast(self.precision, self.device):
                self.model(image_BCHW)

        return step, [*self._state(), image_BCHW]

    def _begin(self, *, training: bool) -> None:
        self.model.train(training)
        self.model.zero_grad()

    def _state(self) -> Iterator[Tensor]:
        return chain(self.model.parameters(), self.model.buffers(), self.loss.buffers())

    def _batch(self, batch_size: int) -> tuple[Tensor, Tensor]:
        channels, height, width = self.shape
        image_BHWC = self._random(256, (batch_size, height, width, channels))
        return image_BHWC.permute(0, 3, 1, 2), self._random(self.classes, (batch_size, height, width))

    def _random(self, end: int, shape: tuple[int, ...]) -> Tensor:
        return torch.randint(end, shape, dtype=torch.uint8, device=self.device)
