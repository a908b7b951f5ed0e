"""Every mistake on a command line is one short line, or a config."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import CONF, ROOT
from hydra.errors import ConfigCompositionException
from omegaconf.errors import OmegaConfBaseException
from scripts import Script

from segmentation.cli.messages import explain, short_messages, signals_as_exits
from segmentation.cli.overrides import (
    Command,
    as_plain_data,
    refuse_words_for_numbers,
    refuse_wrong_choices,
)
from segmentation.config import read_training_settings
from segmentation.errors import UserError


def outcome(*overrides: str) -> str:
    """The message for these overrides of train.py; "" where they are a config with the right types."""
    try:
        refuse_wrong_choices(overrides, [CONF])
        command = Command.parse(overrides, "train")
        composed = command.compose(command.overrides)
        refuse_words_for_numbers(composed, composed.hydra)
        read_training_settings(as_plain_data(composed))
    except SystemExit:
        return "usage"
    except Exception as error:
        message = explain(error)
        assert message is not None, overrides
        return message
    return ""


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("backbone=[[1],[2]]", r"backbone=\[\[1\],\[2\]\] is unknown\.$|Choose|Did you mean"),
        ("head=[nan,nan]", "head=.* is unknown. Choose from"),
        ("optimizer.lr=abc", r"optimizer.lr=abc is not right: it should be a number, such as 0\.001"),
        ("scheduler.warmup_epochs=long", "scheduler.warmup_epochs=long .* such as 0"),  # of its _base
        ("callbacks.early_stopping.patience=many", "callbacks.early_stopping.patience=many .* such as 20"),
        ("optimizer.lr=${nothing}", r"optimizer\.lr refers to something that is not there"),
        ("head=3", "head=3 is unknown. Choose from: deeplabv3"),
        ("head=true", "head=True is unknown"),
        ("head=deeplabv3,", "."),
        ("backbone=resnet19", "Did you mean 'resnet18'"),
        ("backbone=_base", "backbone=_base is unknown"),
        ("backbone=../backbone/resnet18", "is unknown. Did you mean 'resnet18'"),
        ("loss=null", "cannot be null"),
        ("trainer.overfit_batches=1", r"Lightning's: \+trainer\.overfit_batches=VALUE\."),
        ("trainer.precision=16", "trainer.precision cannot be set: write precision= alone"),
        ("+head=fcn", r"head is chosen already: write head=fcn, without a \+"),
        ("name=${oc.env:THIS_IS_NOT_SET}", "THIS_IS_NOT_SET"),
        ("name=${oc.decode:'${'}", "."),
        ("name=${nothing:1}", "nothing"),
        ("name=${", "."),
        ("backbone=" + "x" * 10_000, "is unknown"),
        ("seed=" + "9" * 5000, "seed"),
        ("name=\x1b]0;owned\x07", "."),
        ("seed='\n\x1b[2J'", r"seed=\\n\\x1b\[2J"),
    ],
)
def test_a_mistake_is_one_short_line(override: str, words: str) -> None:
    message = outcome(override)
    assert re.search(words, message), message
    assert message.isprintable() and len(message) < 700


def raised(function: Callable[[], object]) -> BaseException:
    with pytest.raises(BaseException) as caught:
        function()
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        raised(lambda: np.zeros((10**6, 10**6, 10**6))),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 1 bytes"),
    ],
)
def test_too_little_memory_is_a_mistake(error: BaseException) -> None:
    assert (explain(error) or "").endswith("choose smaller images or batches.")


def test_our_own_faults_are_none() -> None:
    assert explain(RuntimeError("a bug")) is None
    assert explain(UserError("a\nb")) == r"a\nb"


@pytest.mark.parametrize(
    "override",
    [
        "trainer.devices=auto",
        "optimizer.lr='1e-3'",
        "callbacks.early_stopping.patience=null",
        "trainer.max_time=1:0",
    ],
)
def test_what_may_be_a_word_is_accepted(override: str) -> None:
    assert outcome(override) == ""


KEYS = (
    *(
        "backbone",
        "head",
        "loss",
        "dataset",
        "optimizer.lr",
        "data.size",
        "seed",
        "name",
        "weights",
        "trainer",
    ),
    *(
        "experiment",
        "callbacks.best.monitor",
        "+new",
        "++data.workers",
        "~loss",
        "~loss.name",
        "data",
        "scheduler@x",
    ),
    *(
        "",
        "hydra.run.dir",
        "trainer.max_epochs",
        "loss.class_weights",
        "augmentation",
        "output_stride",
        "sweep",
    ),
)
VALUES = (
    *(
        "resnet18",
        "fcn",
        "null",
        "nan",
        "[1,2]",
        "[[1],[2]]",
        "{a:1}",
        "3",
        "-1",
        "1e999",
        "true",
        "",
        "''",
        "[",
        "}",
    ),
    *(
        "${seed}",
        "${nothing}",
        "${oc.env:NONE}",
        "${name}",
        "${",
        "a,b",
        "choice(1,2)",
        "range(3)",
        "sort(3,1)",
    ),
    *(
        "\x1b[31m",
        "é",
        "a\tb",
        "'a\nb'",
        "x" * 999,
        "9" * 5000,
        "../x",
        "_base",
        "???",
        "interval(0,1)",
        "glob(*)",
    ),
)


def test_random_command_lines_are_configs_or_one_line() -> None:
    dice = random.Random(17)
    begun, counts = time.monotonic(), {True: 0, False: 0}
    while time.monotonic() - begun < 8 and sum(counts.values()) < 50:
        message = outcome(
            *(
                f"{dice.choice(KEYS)}{dice.choice(('=', '=', '=', '', '=='))}{dice.choice(VALUES)}"
                for _ in range(dice.randint(1, 2))
            )
        )
        assert message.isprintable() and len(message) < 700
        counts[message == ""] += 1
    assert counts[False]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_a_command_with_the_status_that_a_shell_expects(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended, signals_as_exits():
        os.kill(os.getpid(), number)
        time.sleep(1)
    assert ended.value.code == 128 + number
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_outlives_the_error_of_a_library_that_cleans_up_after_it(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, signals_as_exits(), short_messages(quiet=True):
        try:
            try:
                os.kill(os.getpid(), number)
                time.sleep(1)
            finally:
                raise OmegaConfBaseException("half made")
        except OmegaConfBaseException as error:
            raise ConfigCompositionException from error
    assert (ended.value.code, capsys.readouterr().err) == (128 + number, "")


STARTS = ["hydra.run.dir=run", "trainer.max_epochs=1000"]


def test_a_signal_while_libraries_are_imported(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "train.py"), *STARTS]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        time.sleep(3)
        process.terminate()
        _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (143, b"")


@pytest.mark.parametrize("seconds", [0.5, 1, 2])
def test_a_signal_while_a_run_starts(seconds: float, tmp_path: Path) -> None:
    with Script([str(ROOT / "train.py"), *STARTS], tmp_path) as process:
        time.sleep(seconds)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (143, "")
