"""Processes that nobody would start are not waited for; those that are started share the threads."""

from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer

from segmentation.distributed import COMMAND, worker_processes
from segmentation.errors import UserError


@pytest.mark.parametrize(
    ("machines", "words"),
    [(1, r"take trainer\.devices=1"), (2, r"trainer\.num_nodes=2: .*torchrun or Slurm")],
)
def test_what_cannot_be_started_is_refused(
    machines: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if machines > 1:
        monkeypatch.setenv(COMMAND, "train.py")
    with pytest.raises(UserError, match=words), worker_processes(trainer_of(machines=machines)):
        pytest.fail("without the others")


@pytest.mark.parametrize(
    ("asked", "here", "there"), [(None, 2, 2), ("1", 4, 1)], ids=["by themselves", "as the user says"]
)
def test_processes_share_the_threads(
    asked: str | None, here: int, there: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "said"
    (tmp_path / "other.py").write_text(
        f"import torch, pathlib; pathlib.Path({str(said)!r}).write_text(str(torch.get_num_threads()))"
    )
    monkeypatch.setenv(COMMAND, str(tmp_path / "other.py"))
    if asked is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with worker_processes(trainer_of()):
            assert torch.get_num_threads() == here
        assert said.read_text() == str(there)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def trainer_of(machines: int = 1) -> Trainer:
    return Trainer(
        accelerator="cpu",
        strategy="ddp",
        devices=2,
        num_nodes=machines,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
