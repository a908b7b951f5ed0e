"""Processes that nobody would start are not waited for."""

import pytest
from pytorch_lightning import Trainer

from segmentation.errors import UserError
from segmentation.processes import COMMAND, company


@pytest.mark.parametrize(
    ("machines", "words"),
    [(1, r"take trainer\.devices=1"), (2, r"trainer\.num_nodes=2: .*torchrun or Slurm")],
)
def test_what_cannot_be_started_is_refused(
    machines: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if machines > 1:
        monkeypatch.setenv(COMMAND, "train.py")
    trainer = Trainer(
        accelerator="cpu",
        strategy="ddp",
        devices=2,
        num_nodes=machines,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    with pytest.raises(UserError, match=words), company(trainer):
        pytest.fail("without the others")
