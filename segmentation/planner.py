"""What a run's config leaves to the data: values of `auto` become plain ones, before torch is imported."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from segmentation.config import TrainingSettings
from segmentation.data import SegmentationDataset
from segmentation.data.balance import class_weights, count_classes, described_weights

log = logging.getLogger(__name__)

Config = Mapping[str, Any]


def complete(
    config: Config, settings: TrainingSettings, dataset: SegmentationDataset
) -> tuple[Config, SegmentationDataset]:
    """The config with plain values for `loss.class_weights=auto`; the data set with what its options need.

    Raises `UserError` where `class_weights` does.
    """
    weighs = settings.loss.get("class_weights") == "auto"
    if weighs or settings.data.sampler == "balanced":
        dataset = replace(dataset, counts=count_classes(dataset.train, len(dataset.classes)))
    if weighs:
        assert dataset.counts is not None
        weights = class_weights(dataset.counts)
        log.info("loss.class_weights: %s", described_weights(weights, dataset.classes))
        config = {**config, "loss": {**settings.loss, "class_weights": weights}}
    return config, dataset
