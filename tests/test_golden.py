"""The golden record: losses, reports, checkpoints and commands give what they gave when it was made.

A refactoring must keep all of it; after an intended change `RECORD_GOLDEN=1 python -m pytest tests/test_golden.py`
writes `tests/golden/` anew, and the diff of these files shows what changed.

Weights are filled from the names and shapes of the tensors, so that the record holds on any processor and torch.
"""

# What a refactoring may move is imported here, and nowhere below.
from segmentation.build import build_task
from segmentation.checkpoint import load
from segmentation.cli import compose
from segmentation.config import read_training_settings
from segmentation.data import open_dataset
from segmentation.task import SegmentationTask

# isort: split
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import Callback, Trainer
from scripts import run_script, said
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.ops import StochasticDepth

GOLDEN = Path(__file__).parent / "golden"
RECORD = os.environ.get("RECORD_GOLDEN") == "1"


def golden(name: str, make: Callable[[], Any], *, once: bool = False) -> Any:
    """The content of `tests/golden/<name>.json`; `make` is called only to record it, with `once` never again."""
    path = GOLDEN / f"{name}.json"
    if RECORD and not (once and path.exists()):
        text = json.dumps(make(), indent=1, allow_nan=False)
        # A list of numbers on a line.
        text = re.sub(r"\[[^][{}\"]*\]", lambda match: " ".join(match[0].split()), text)
        path.write_text(text + "\n")
    return json.loads(path.read_text())


def build(*overrides: str, channels: int = 3, **dataset: Any) -> SegmentationTask:
    """The task of train.py for these overrides, without dropout; `dataset` replaces options of the data set."""
    # The stride as conf/dataset/shapes.yaml had it when the record was made.
    shared = ("dataset.train=2", "dataset.val=1", "dataset.test=1", "output_stride=8")
    config = compose("train", *shared, *overrides)
    config["data"]["channels"] = channels
    config["dataset"] = dataset or config["dataset"]
    settings = read_training_settings(config)
    task = build_task(settings, open_dataset(channels, **settings.dataset))
    for module in task.model.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d | StochasticDepth):
            module.p = 0.0
    return task


def filled(name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """Values for a tensor of a model, from its name and shape alone.

    `RandomState`, because numpy keeps its numbers the same in all versions.
    """
    if not dtype.is_floating_point:
        return torch.zeros(shape, dtype=dtype)
    values = np.random.RandomState(list(f"{name} {shape}".encode())).random_sample(shape)
    last = name.rpartition(".")[2]
    if name == "mean":
        values = 100 + 50 * values
    elif name == "std":
        values = 50 + 20 * values
    elif len(shape) > 1:
        values = (2 * values - 1) * np.sqrt(6 / np.prod(shape[1:]))  # He: the signal keeps its size
    elif last in ("weight", "running_var"):
        values = 0.5 + values
    else:
        values = 0.2 * values - 0.1
    return torch.as_tensor(values).to(dtype)


def fill(model: nn.Module) -> None:
    """Deterministic values for all weights and buffers."""
    state = model.state_dict()
    model.load_state_dict({name: filled(name, tuple(old.shape), old.dtype) for name, old in state.items()})


def picture(seed: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    """Coarse random patches under fine noise, uint8 (height, width, channels)."""
    random = np.random.RandomState(seed)
    coarse = random.randint(0, 200, (height // 8, width // 8, channels))
    patches = np.kron(coarse, np.ones((8, 8, 1), np.int64))
    return (patches + random.randint(0, 56, patches.shape)).astype(np.uint8)


def numbers(values: Tensor) -> dict[str, Any]:
    """A tensor in short: mean, deviation and some single values."""
    flat = values.detach().double().flatten()
    some = flat[:: max(len(flat) // 12, 1)]
    return {
        "shape": list(values.shape),
        "mean": float(flat.mean()),
        "std": float(flat.std()),
        "some": some.tolist(),
    }


# Losses of training steps.

STEPS = 5

TRAININGS = {
    "mobilenetv3_small_deeplabv3": [
        *("backbone=mobilenetv3_small", "head=deeplabv3", "head.rates=[2,3,4]", "dataset=shapes"),
        *("loss=ce_dice", "optimizer=adamw", "scheduler=onecycle"),
    ],
    "resnet18_deeplabv3plus_aux": [
        *(
            "backbone=resnet18",
            "head=deeplabv3plus",
            "head.rates=[1,2,3]",
            "head.aux=true",
            "dataset=shapes_binary",
        ),
        *("loss=focal", "loss.alpha=0.25", "optimizer=sgd", "scheduler=poly", "output_stride=16"),
    ],
    "efficientnet_b0_fpn": [
        *("backbone=efficientnet_b0", "head=fpn", "dataset=shapes", "output_stride=32"),
        *(
            "loss=lovasz",
            "loss.class_weights=[1,2,3,4]",
            "optimizer=adam",
            "optimizer.backbone_lr_factor=0.1",
        ),
        *("scheduler=cosine", "scheduler.min_lr=1e-5"),
    ],
}


class Losses(Callback):
    """Keeps the loss and the learning rates of every step."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rates: list[list[float]] = []

    def on_before_optimizer_step(self, trainer: Trainer, task: Any, optimizer: torch.optim.Optimizer) -> None:
        self.rates.append([group["lr"] for group in optimizer.param_groups])

    def on_train_batch_end(
        self, trainer: Trainer, task: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(float(outputs["loss"]))


def batch_of(labels: int) -> dict[str, Any]:
    """Four 64x64 images with masks that have something to do with them, and ignored pixels."""
    images = np.stack([picture(seed, 64, 64) for seed in range(4)])
    masks = images[..., 0] // (255 // labels + 1)
    masks[:, :5] = 255
    image_BCHW = torch.as_tensor(images).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    return {"image": image_BCHW, "mask": torch.as_tensor(masks), "names": ["a", "b", "c", "d"]}


@pytest.mark.parametrize("name", TRAININGS)
def test_training_steps_have_the_same_losses(name: str, tmp_path: Path) -> None:
    task = build(*TRAININGS[name])
    fill(task.model)
    kept = Losses()
    trainer = Trainer(
        accelerator="cpu",
        precision="64-true",
        max_epochs=1,
        num_sanity_val_steps=0,
        callbacks=[kept],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        default_root_dir=tmp_path,
    )
    batches: Any = [batch_of(len(task.classes))] * STEPS
    trainer.fit(task, DataLoader(batches, batch_size=None), DataLoader(batches[:1], batch_size=None))
    validation = float(trainer.callback_metrics["val/loss"])
    found = {"losses": kept.losses, "validation": validation, "rates": kept.rates}
    expected = golden(f"losses_{name}", lambda: found)
    assert len(kept.losses) == STEPS
    # The model gives logits in float32, and so do the losses, also where all else is float64.
    np.testing.assert_allclose(kept.losses, expected["losses"], rtol=1e-6)
    np.testing.assert_allclose(validation, expected["validation"], rtol=1e-6)
    np.testing.assert_allclose(kept.rates, expected["rates"], rtol=1e-12)


# Checkpoints that must still load.

CHECKPOINTS: dict[str, dict[str, Any]] = {
    "mobilenetv3_small": {"overrides": ["backbone=mobilenetv3_small", "head=deeplabv3", "dataset=shapes"]},
    "resnet18_aux": {
        "overrides": [
            "backbone=resnet18",
            "head=deeplabv3plus",
            "head.aux=true",
            "dataset=shapes",
            "output_stride=16",
        ]
    },
    "timm": {
        "overrides": ["backbone=timm", "backbone.name=mobilenetv4_conv_small", "head=fpn", "dataset=shapes"]
    },
    "efficientnet_b0_lraspp": {
        "overrides": ["backbone=efficientnet_b0", "head=lraspp", "dataset=shapes_binary", "data.resize=false"]
    },
    "binary_of_four_channels": {
        "overrides": ["backbone=shufflenetv2_x0_5", "head=fcn", "data.size=[64,96]"],
        "channels": 4,
    },
}


def recorded_checkpoint(name: str, folder: Path) -> dict[str, Any]:
    """The description in a checkpoint, its tensors, and its model's logits.

    Recorded once: files that users have do not change with the code. Delete a record to make it anew.
    """

    def make() -> dict[str, Any]:
        options = dict(CHECKPOINTS[name])
        if "channels" in options:
            options |= {"name": "binary", "root": str(write_binary(folder / "data", options["channels"]))}
        task = build(*options.pop("overrides"), **options)
        saved: dict[str, Any] = {}
        trainer = Trainer(
            accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
        )
        trainer.strategy.connect(task)
        task.trainer = trainer
        task.on_save_checkpoint(saved)
        about = json.loads(json.dumps(saved["segmentation"]).replace(str(folder), "data"))
        tensors = {
            key: " ".join([str(value.dtype).removeprefix("torch."), *map(str, value.shape)])
            for key, value in task.state_dict().items()
        }
        path = folder / "record.ckpt"
        write(path, {"segmentation": about, "state_dict": tensors})
        return {"segmentation": about, "state_dict": tensors, "logits": numbers(answer(path))}

    return golden(f"checkpoint_{name}", make, once=True)


def write_binary(root: Path, channels: int) -> Path:
    """images/ and masks/, five pairs."""
    for number in range(5):
        pixels = picture(number, 32, 32, channels)
        for folder, values in (("images", pixels), ("masks", (pixels[..., 0] > 128).astype(np.uint8) * 255)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(root / folder / f"{number}.png")
    return root


def write(path: Path, record: Mapping[str, Any]) -> Path:
    """The checkpoint of a record as train.py would have written it, without its optimizer."""
    state = {}
    for key, what in record["state_dict"].items():
        dtype, *shape = what.split()
        state[key] = filled(key.removeprefix("model."), tuple(map(int, shape)), getattr(torch, dtype))
    progress = {
        "epoch": 1,
        "global_step": 6,
        "pytorch-lightning_version": "2.6.6",
        "callbacks": {},
        "loops": {},
    }
    torch.save({**progress, "state_dict": state, "segmentation": record["segmentation"]}, path)
    return path


def answer(path: Path) -> Tensor:
    """The logits of a checkpoint's model for a fixed image, which the largest dilation fits in, in float64."""
    trained = load(path)
    pixels = torch.as_tensor(picture(7, 256, 320, trained.channels)).permute(2, 0, 1)[None]
    with torch.no_grad():
        logits: Tensor = trained.model.double()(pixels)
    return logits


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_earlier_checkpoints_load_and_answer_the_same(name: str, tmp_path: Path) -> None:
    if name == "timm":
        pytest.importorskip("timm", reason="its backbone needs timm")
    record = recorded_checkpoint(name, tmp_path)
    path = write(tmp_path / "best.ckpt", record)
    found, expected = numbers(answer(path)), record["logits"]
    assert expected["std"] > 0.01
    assert found.keys() == expected.keys()
    assert found["shape"] == expected["shape"]
    for value in ("mean", "std", "some"):
        np.testing.assert_allclose(found[value], expected[value], rtol=1e-5, atol=1e-6)
    trained, about = load(path), record["segmentation"]
    assert list(trained.classes.names) == about["classes"]["names"]
    assert trained.decision.threshold == about["threshold"]
    assert {"size": list(trained.size), "resize": trained.resize} == about["input"]
    assert (trained.protocol, trained.dataset) == (about["protocol"], about["dataset"])


def test_prediction_with_an_earlier_checkpoint_is_the_same(tmp_path: Path) -> None:
    write(tmp_path / "best.ckpt", recorded_checkpoint("mobilenetv3_small", tmp_path))
    Image.fromarray(picture(11, 96, 128)).save(tmp_path / "photo.png")
    options = (
        "checkpoint=best.ckpt",
        "input=photo.png",
        "output=out",
        "precision=32-true",
        "accelerator=cpu",
    )
    done = run_script("predict.py", *options, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["photo.png"]
    mask = np.asarray(Image.open(tmp_path / "out" / "photo.png"))
    expected = golden("prediction", lambda: ["".join(map(str, row)) for row in mask.tolist()])
    labels = np.array([list(row) for row in expected]).astype(np.uint8)
    assert len(np.unique(labels)) > 2
    assert mask.shape == labels.shape
    assert (mask == labels).mean() > 0.999


# Runs of train.py and evaluate.py.

RUNS = {
    "shapes": [
        "dataset=shapes",
        "loss=ce_dice",
        "optimizer=adamw",
        "optimizer.lr=1e-3",
        "scheduler=onecycle",
    ],
    "shapes_binary": ["dataset=shapes_binary", "loss=bce_dice", "optimizer=sgd", "scheduler=poly"],
}

SMALL = [
    *("backbone=mobilenetv3_small", "head=lraspp", "augmentation=none"),
    *("dataset.size=48", "dataset.train=16", "dataset.val=6", "dataset.test=6", "data.size=[48,48]"),
    *(
        "data.batch_size=4",
        "data.workers=0",
        "precision=32-true",
        "trainer.accelerator=cpu",
        "trainer.max_epochs=2",
    ),
    *("trainer.limit_train_batches=3", "callbacks.grid.images=2"),
    # As the data set's own config had them when the record was made.
    "output_stride=8",
]

PASSING = ("environment", "seconds", "checkpoint", "checkpoint_sha256", "images_per_second")


def files(folder: Path) -> list[str]:
    """Every file of a run folder; TensorBoard puts the time and the machine into the names of its own."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted({re.sub(r"(events\.out\.tfevents)\..*", r"\1", name) for name in names})


def structure(values: Any) -> Any:
    """The keys of nested mappings."""
    return {key: structure(value) for key, value in values.items()} if isinstance(values, Mapping) else None


def lasting(values: Any) -> Any:
    """The part of a report that is the same on any machine."""
    if not isinstance(values, Mapping):
        return values
    return {key: lasting(value) for key, value in values.items() if not key.endswith(PASSING)}


def assert_report(found: Any, expected: Any, where: str = "") -> None:
    """Equal, but for floats, which float32 and its rounding come into."""
    if isinstance(expected, dict):
        assert set(found) == set(expected), where
        for key, value in expected.items():
            assert_report(found[key], value, f"{where}/{key}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=2e-3, abs=2e-3), where
    else:
        assert found == expected, where


@pytest.mark.parametrize("name", RUNS)
def test_a_run_and_its_evaluation_report_the_same(name: str, tmp_path: Path) -> None:
    options = [*SMALL, *RUNS[name]]
    model = build(*options).model
    fill(model)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    train = ("weights=weights.pth", "hydra.run.dir=run")
    evaluate = (
        "checkpoint=run/checkpoints/best.ckpt",
        "output=evaluation",
        "accelerator=cpu",
        "precision=32-true",
    )
    reports, found = {}, {}
    for script, folder, given in (("train", "run", [*options, *train]), ("evaluate", "evaluation", evaluate)):
        done = run_script(f"{script}.py", *given, folder=tmp_path, environment={"FIGURES": "1"})
        assert (done.returncode, done.stderr) == (0, "")
        reports[script] = json.loads((tmp_path / folder / "report.json").read_text())
        found[script] = {
            "files": files(tmp_path / folder),
            "structure": structure(reports[script]),
            "report": lasting(reports[script]),
        }
    contents = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    about = {key: value for key, value in contents["segmentation"].items() if key != "versions"}
    found["checkpoint"] = {"keys": sorted(contents), "segmentation": json.loads(json.dumps(about))}
    assert_report(found, golden(f"run_{name}", lambda: found))


# The commands themselves.

SCRIPTS = (
    "train",
    "inspect_data",
    "evaluate",
    "predict",
    "app",
    "select_images",
    "export",
    "benchmark",
    "leaderboard",
)


def parsed(text: str) -> dict[str, Any]:
    """Groups with their choices, and options with their defaults, without the words about them."""
    groups: dict[str, list[str]] = {}
    head, _, tail = text.partition("\nOptions ")
    for line in head.partition("\nGroups ")[2].splitlines()[1:]:
        if match := re.fullmatch(r"  (\w+) +(.*)", line):
            groups[match[1]] = match[2].split()
        elif line.strip():
            groups[[*groups][-1]] += line.split()
    options = dict(re.findall(r"^  ([\w.]+)=(.*?)  ", tail, flags=re.MULTILINE))
    # The names of choices for one public data set are not part of the record.
    groups = {group: [name for name in names if "camvid" not in name] for group, names in groups.items()}
    return {"groups": groups, "options": options}


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_lists_the_same_groups_and_options(script: str, tmp_path: Path) -> None:
    done = run_script(f"{script}.py", "--help", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert parsed(done.stdout) == golden(f"help_{script}", lambda: parsed(done.stdout))
    assert not [*tmp_path.iterdir()]


MISTAKES = {
    "unknown choice": "train.py backbone=resnet19",
    "unknown option": "train.py optimizer.lrr=1",
    "unknown added option": "train.py +loss.gama=2",
    "no data root": "train.py dataset=voc",
    "no such data root": "train.py dataset=voc dataset.root=nowhere",
    "no such weights": "train.py weights=nowhere.pth",
    "no such run": "train.py resume=nowhere",
    "wrong type": "train.py data.batch_size=many",
    "value out of range": "train.py optimizer.lr=-1",
    "impossible stride": "train.py output_stride=12",
    "not an override": "train.py backbone",
    "evaluation without a checkpoint": "evaluate.py",
    "evaluation of no file": "evaluate.py checkpoint=nowhere.ckpt",
    "evaluation with an option of training": "evaluate.py checkpoint=nowhere.ckpt head=fpn",
    "prediction without an input": "predict.py checkpoint=nowhere.ckpt",
    "prediction by something else": "predict.py checkpoint=notes.txt input=photo.png",
    "benchmark for no time": "benchmark.py measure.seconds=-1",
    "leaderboard of nothing": "leaderboard.py runs=nowhere",
}


def test_mistakes_end_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("no checkpoint")
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    found = {}
    for mistake, command in MISTAKES.items():
        script, *arguments = command.split()
        _, err, status = said(capsys, script.removesuffix(".py"), *arguments)
        first, *more = err.splitlines() or [""]
        found[mistake] = {"command": command, "status": status, "lines": 1 + len(more), "stderr": first}
    expected = golden("mistakes", lambda: found)
    for mistake, ended in found.items():
        assert ended["lines"] == 1, ended
        assert ended["stderr"].startswith("error: "), ended  # the words after it may be revised
        assert ended["status"] == expected[mistake]["status"], ended
    assert found.keys() == expected.keys()
