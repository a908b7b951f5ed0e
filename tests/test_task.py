"""The training step and the way its numbers are taken."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer, seed_everything

from segmentation.callbacks.history import History, read_history
from segmentation.config import DataSettings
from segmentation.data.augmentation import training_transform
from segmentation.data.datamodule import SegmentationData
from segmentation.data.dataset import Samples, SegmentationDataset
from segmentation.data.shapes import Shapes
from segmentation.losses import create_loss
from segmentation.metrics import scores
from segmentation.models import create_segmenter
from segmentation.optim import create_optimizer, create_scheduler
from segmentation.task import SegmentationTask
from segmentation.types import IGNORE_INDEX, Batch, Classes, Sample

FIVE = Classes(("background", "disc", "square", "triangle", "star"))


@dataclass(frozen=True)
class Listed:
    """Samples out of memory."""

    samples: list[Sample]

    @property
    def names(self) -> list[str]:
        return [sample["name"] for sample in self.samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


def make_task(
    classes: Classes = FIVE,
    *,
    head: str = "deeplabv3",
    output_stride: int = 8,
    scheduler: str = "constant",
    aux: bool = False,
    loss: str = "ce_dice",
    of: type[SegmentationTask] = SegmentationTask,
) -> SegmentationTask:
    model = create_segmenter(
        backbone={"source": "timm", "name": "test_resnet", "norm_momentum": 0.1},  # of a few layers
        head={"name": head},
        outputs=classes.outputs,
        output_stride=output_stride,
        aux=aux,
    )
    return of(
        model,
        loss=create_loss(loss, binary=classes.binary, classes=len(classes)),
        classes=classes,
        optimizer=partial(create_optimizer, "adamw", lr=1e-3),
        scheduler=partial(create_scheduler, scheduler),
    )


def make_data(
    train: Samples,
    val: Samples,
    *,
    batch_size: int,
    classes: Classes = FIVE,
    workers: int = 0,
    **changes: object,
) -> SegmentationData:
    dataset = SegmentationDataset(classes, train, val, val)
    size = (64, 64)
    transform = training_transform(size=size, resize=True, **changes)
    settings = DataSettings(size=size, resize=True, batch_size=batch_size, workers=workers)
    return SegmentationData(dataset, transform, settings, seed=0)


def make_trainer(folder: Path, epochs: int, **options: Any) -> Trainer:
    return Trainer(
        **options,
        max_epochs=epochs,
        accelerator="cpu",
        logger=[History(folder / "metrics.csv")],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def quarters(labels: int) -> list[Sample]:
    """Four noisy images, each of four squares of random classes."""
    random = np.random.default_rng(5)
    samples: list[Sample] = []
    for number in range(4):
        mask = np.kron(random.permutation(4).reshape(2, 2) % labels, np.ones((32, 32))).astype(np.uint8)
        image = (40 + 50 * mask[..., None] + random.normal(0, 12, (64, 64, 3))).clip(0, 255).astype(np.uint8)
        samples.append({"image": image, "mask": mask, "name": str(number)})
    return samples


@pytest.mark.parametrize("binary", [False, True])
def test_four_images_are_learned_by_heart(binary: bool, tmp_path: Path) -> None:
    seed_everything(1, verbose=False)
    classes = Classes(("background", "square"), binary=True) if binary else Classes(("a", "b", "c", "d"))
    four = quarters(len(classes))
    task = make_task(classes, head="lraspp", output_stride=16)
    task.optimizer = partial(create_optimizer, "adamw", lr=3e-3)
    task.scheduler = partial(create_scheduler, "onecycle", warmup_share=0.3)
    data = make_data(Listed(four * 20), Listed(four), batch_size=4, classes=classes)
    trainer = make_trainer(tmp_path, 5)
    trainer.fit(task, datamodule=data)
    assert task.val_metrics.scores()["miou"] > 0.98


def test_the_same_seed_gives_the_same_losses(tmp_path: Path) -> None:
    histories = []
    for attempt, workers in enumerate((0, 0, 2)):
        seed_everything(7, verbose=False)
        data = make_data(
            Shapes(10, 64, (0, 0)), Shapes(3, 64, (0, 1)), batch_size=4, workers=workers, flip=0.5, colour=0.5
        )
        folder = tmp_path / str(attempt)
        folder.mkdir()
        make_trainer(folder, 2).fit(make_task(head="lraspp", scheduler="cosine"), datamodule=data)
        rows = read_history(folder / "metrics.csv")
        histories.append([(row["train/loss"], row["val/loss"], row["val/miou"]) for row in rows])
    assert histories[0] == histories[1]
    # Nor does it matter how many processes load.
    assert histories[0] == histories[2]
    assert histories[0][0] != histories[0][1]


@pytest.mark.parametrize("aux", [False, True])
def test_a_last_batch_of_one_image_trains(aux: bool, tmp_path: Path) -> None:
    data = make_data(Shapes(5, 64, (0, 0)), Shapes(1, 64, (0, 1)), batch_size=4)
    task = make_task(aux=aux)
    trainer = make_trainer(tmp_path, 1)
    trainer.fit(task, datamodule=data)
    assert trainer.global_step == 2
    assert all(torch.isfinite(parameter).all() for parameter in task.parameters())


def mixed_samples() -> list[Sample]:
    """Masks of different sizes, with ignored pixels and one image that is ignored altogether."""
    random = np.random.default_rng(0)
    samples: list[Sample] = []
    for number, (height, width) in enumerate([(64, 64), (50, 90), (33, 41), (64, 64), (80, 70)]):
        mask = random.choice(np.array([0, 1, 2, 4, IGNORE_INDEX], np.uint8), (height, width))
        image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        samples.append({"image": image, "mask": mask, "name": str(number)})
    samples[3]["mask"][:] = IGNORE_INDEX
    return samples


@pytest.mark.parametrize("loss", ["cross_entropy", "ce_dice", "lovasz"])
def test_scores_do_not_depend_on_the_batch_size(loss: str, tmp_path: Path) -> None:
    seed_everything(0, verbose=False)
    task = make_task(loss=loss).eval()
    samples = Listed(mixed_samples())
    results = []
    for batch_size in (1, 2, 5):
        make_trainer(tmp_path, 1).validate(
            task, datamodule=make_data(samples, samples, batch_size=batch_size), verbose=False
        )
        results.append((task.val_metrics.scores(), task.val_metrics.confusion.compute().clone()))
    for values, counts in results[1:]:
        assert torch.equal(counts, results[0][1])
        assert values == pytest.approx(results[0][0], rel=1e-5, nan_ok=True)
    valid = sum(int((sample["mask"] != IGNORE_INDEX).sum()) for sample in samples.samples)
    assert int(results[0][1].sum()) == valid
    assert scores(results[0][1], binary=False)["classes_counted"] >= 4


class Still(SegmentationTask):
    """Batch norm as in evaluation: its statistics depend on the batch."""

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        super().on_train_batch_start(batch, batch_index)
        self.model.eval()


def test_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    # Five images in steps of two: the last step has one. One image is half ignored.
    samples = [{**sample, "mask": sample["mask"].copy()} for sample in quarters(4)]
    samples.append({**samples[0], "name": "4"})
    samples[1]["mask"][:32] = IGNORE_INDEX
    weights = []
    for batch_size, batches in ((2, 1), (1, 2)):
        seed_everything(3, verbose=False)
        task = make_task(head="fcn", loss="cross_entropy", of=Still)
        task.optimizer = partial(create_optimizer, "sgd", lr=0.1)
        trainer = make_trainer(tmp_path, 1, accumulate_grad_batches=batches)
        trainer.fit(task, datamodule=make_data(Listed(samples), Listed(samples), batch_size=batch_size))
        assert trainer.global_step == 3
        weights.append(task.model.state_dict())
    for name, value in weights[1].items():
        torch.testing.assert_close(value, weights[0][name], rtol=1e-4, atol=1e-5, msg=name)
