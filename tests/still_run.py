"""A script: train.py on tiny data, with steps that depend on the batch alone. Each process says what its job is."""

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segmentation.cli import script


@script("train")
def main(config: Mapping[str, Any], folder: Path) -> float:
    """Neither dropout nor moving statistics: they would differ between processes."""
    import numpy as np

    from segmentation import build
    from segmentation.data.dataset import SegmentationDataset
    from segmentation.task import SegmentationTask
    from segmentation.training import train
    from segmentation.types import Batch, Classes, Sample

    process = os.environ.get("LOCAL_RANK", "0")
    (folder / f"process{process}.json").write_text(json.dumps({"config": config, "folder": str(folder)}))

    class Still(SegmentationTask):
        """Batch norm as in evaluation."""

        def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
            super().on_train_batch_start(batch, batch_index)
            self.model.eval()
            if process == "1" and config["name"] == "doomed" and batch_index == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            preempted = config["name"] == "preempted" and config["resume"] is None
            if process == "0" and preempted and self.current_epoch == 1:
                os.kill(os.getpid(), signal.SIGTERM)

    class Made:
        """Images whose share of ignored rows is each another."""

        def __init__(self, count: int, split: str) -> None:
            self.names = [f"{split}{number}" for number in range(count)]

        def __len__(self) -> int:
            return len(self.names)

        def __getitem__(self, index: int) -> Sample:
            random = np.random.default_rng(list(self.names[index].encode()))
            mask = np.kron(random.integers(0, 3, (4, 4), dtype=np.uint8), np.ones((12, 12), np.uint8))
            image = (mask[..., None] * 80 + random.integers(0, 60, (48, 48, 3))).astype(np.uint8)
            mask[: random.integers(0, 40)] = 255
            return {"image": image, "mask": mask, "name": self.names[index]}

    build.SegmentationTask = Still  # type: ignore[misc]
    dataset = SegmentationDataset(Classes(("a", "b", "c")), Made(9, "train"), Made(5, "val"), Made(3, "test"))
    return train(config, dataset, folder)


if __name__ == "__main__":
    main()
