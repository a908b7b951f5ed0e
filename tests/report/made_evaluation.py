"""A small evaluation of random predictions, without a model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from segmentation.data.dataset import SegmentationDataset
from segmentation.metrics import (
    EvaluationMetrics,
    ObjectMetrics,
    ObjectRules,
    constant_baseline,
    image_means,
    image_scores,
    ratios,
)
from segmentation.metrics.objects import tally
from segmentation.report.evaluation import Evaluation, ImageScores, worst_first
from segmentation.report.gallery import ReadImage
from segmentation.report.protocol import evaluation_protocol
from segmentation.types import Classes, Sample

HEIGHT, WIDTH = 24, 32


class Noise:
    """Images of noise with random masks, a corner of each ignored; the last class occurs in the first alone."""

    def __init__(self, names: Sequence[str], labels: int) -> None:
        self.names = names
        self._labels = labels

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        random = np.random.default_rng(index)
        highest = self._labels if index == 0 or self._labels == 2 else self._labels - 1
        mask = random.integers(0, highest, (HEIGHT, WIDTH)).astype(np.uint8)
        mask[:4, :4] = 255
        image = random.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        return {"image": image, "mask": mask, "name": self.names[index]}


def make_evaluation(
    folder: Path,
    names: Sequence[str],
    classes: Classes,
    *,
    title: str = "run/best",
    shift: int = 0,
    objects: ObjectRules | None = None,
) -> tuple[Evaluation, ReadImage]:
    """An evaluation whose predictions are nearly right on the first image and worse on each later one.

    `shift` makes all worse by as many images. With rules for `objects` these are evaluated, too.
    """
    samples = Noise(names, len(classes))
    dataset = SegmentationDataset(classes, samples, samples, samples, notes=("A note on <the> data.",))
    checkpoint = folder / f"{title.replace('/', '_')}.ckpt"
    checkpoint.write_bytes(title.encode())
    metrics = EvaluationMetrics(len(classes), binary=classes.binary)
    counted = ObjectMetrics(classes, objects or ObjectRules())
    images, predicted = [], []
    for index in range(len(names)):
        mask_1HW = torch.from_numpy(samples[index]["mask"])[None]
        probabilities_1KHW = _probabilities(mask_1HW, index + shift, classes)
        labels_1HW = (
            (probabilities_1KHW[:, 0] >= 0.5) if classes.binary else probabilities_1KHW.argmax(1)
        ).to(torch.uint8)
        counts_1KK = metrics.update(probabilities_1KHW, labels_1HW, mask_1HW)
        ious = ratios(counts_1KK)["iou"][0]
        scores = image_scores(counts_1KK, binary=classes.binary)[0]
        rows = counted.update(samples[index]["mask"], labels_1HW[0].numpy()) if objects else None
        images.append(
            ImageScores(names[index], index, scores, ious.numpy(), {} if rows is None else tally(rows))
        )
        predicted.append(labels_1HW[0].numpy())
    protocol = evaluation_protocol(
        dataset,
        {"name": "noise"},
        "test",
        size=(24, 32),
        resize=True,
        threshold=0.5,
        tta="none",
        checkpoints=[checkpoint],
    )
    values = metrics.scores() | image_means([dict(image.scores) for image in images], binary=classes.binary)
    if objects:
        values |= counted.scores()
    report = {
        **({"objects": counted.report()} if objects else {}),
        "metrics": {f"test/{name}": value for name, value in values.items()},
        "per_class": metrics.per_class(classes.names),
        "baseline": constant_baseline(metrics.confusion.compute(), classes.names, binary=classes.binary),
        "protocol": protocol,
        "model": {"backbone": {"name": "none"}},
        "data": {"name": "noise", "notes": list(dataset.notes)},
        "environment": {"device": "none"},
        "seconds": 1.0,
    }
    evaluation = Evaluation(
        title,
        classes,
        "test",
        report,
        metrics.confusion.compute().numpy(),
        metrics.curves(),
        worst_first(images, binary=classes.binary),
        objects,
    )
    return evaluation, lambda index: (samples[index]["image"], samples[index]["mask"], predicted[index])


def _probabilities(mask_1HW: torch.Tensor, index: int, classes: Classes) -> torch.Tensor:
    generator = torch.Generator().manual_seed(index)
    truth_1HW = torch.where(mask_1HW == 255, 0, mask_1HW.long())
    if classes.binary:
        noise_1HW = torch.rand(mask_1HW.shape, generator=generator)
        sure = 0.45 - 0.1 * index
        return (sure * truth_1HW + (1 - sure) * noise_1HW)[:, None]
    logits_1HWK = torch.randn((*mask_1HW.shape, len(classes)), generator=generator)
    logits_1HWK += (4 - index) * torch.nn.functional.one_hot(truth_1HW, len(classes))
    if index:
        logits_1HWK[..., -1] = -torch.inf  # where the last class is not, it is not predicted either
    return logits_1HWK.softmax(-1).permute(0, 3, 1, 2)
