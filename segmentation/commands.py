"""The commands: what `python train.py` and `segmentation train` run, each with its help text.

What a command needs is imported in it: torch and Lightning take seconds that a wrong option should not cost.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from segmentation.cli import compose, script

_DATA = (
    *("dataset.root", "dataset.split", "dataset.classes", "dataset.images", "dataset.masks", "dataset.file"),
    *("dataset.group", "dataset.stratify"),
)


@script("train", paths=(*_DATA, "weights", "resume", "hydra.run.dir", "hydra.sweep.dir"))
def train(config: Mapping[str, Any], folder: Path) -> float:
    """Train a DeepLabV3 model, test its best checkpoint, and leave a run folder with all of it in outputs/.

    Examples:
      python train.py                                             built-in data, a few minutes, no network
      python train.py dataset.root=PATH                           your data: what lies there is recognised
      python train.py dataset=camvid dataset.root=PATH backbone=resnet18 weights=imagenet
      python train.py resume=outputs/shapes_resnet18/DATE_TIME    go on where a run stopped
    """
    from segmentation.planner import prepare

    config, dataset = prepare(config, folder)
    from segmentation.training import train

    return train(config, dataset, folder)


@script("evaluate", paths=(*_DATA, "output"), lists=("checkpoint",))
def evaluate(config: Mapping[str, Any], folder: Path) -> float:
    """Judge checkpoints on a data set: every score, curves, the worst and the best images, in one report.html.

    Examples:
      python evaluate.py checkpoint=RUN/checkpoints/best.ckpt                  on the data of its training
      python evaluate.py checkpoint=RUN/checkpoints/best.ckpt dataset=voc dataset.root=PATH split=val tta=flip
      python evaluate.py checkpoint=[ONE.ckpt,OTHER.ckpt]                      side by side, by one protocol
      python evaluate.py checkpoint=[ONE.ckpt,OTHER.ckpt] ensemble=mean        as one model
    """
    from segmentation.config import read_evaluation_settings

    settings = read_evaluation_settings(config)
    from segmentation.evaluation import evaluate

    return evaluate(settings, folder)


@script("predict", paths=("input", "output"), lists=("checkpoint",))
def predict(config: Mapping[str, Any], folder: Path) -> float:
    """Use a trained checkpoint on pictures, folders, videos, cameras, and images larger than memory.

    Examples:
      python predict.py checkpoint=RUN/checkpoints/best.ckpt input=photo.jpg output=out
      python predict.py checkpoint=BEST.ckpt input='shots/**/*.png' output=out save=[mask,overlay,probability]
      python predict.py checkpoint=BEST.ckpt input=orthophoto.tif output=out tile=1024 overlap=128
      python predict.py checkpoint=BEST.ckpt input=video.mp4 output=out
      python predict.py checkpoint=[A.ckpt,B.ckpt] input=shots output=out save=[mask,disagreement]    as one model
    """
    from segmentation.predict import predict

    return predict(config)


@script("app", paths=("host",), lists=("checkpoint",))
def app(config: Mapping[str, Any], folder: Path) -> float:
    """Try checkpoints in the browser: drop a picture or a video on a page of this machine, and see what they say.

    Examples:
      python app.py checkpoint=RUN/checkpoints/best.ckpt
      python app.py checkpoint=[A.ckpt,B.onnx] browser=true     side by side, with the time that each takes
    """
    from segmentation.config import read_app_settings

    settings = read_app_settings(config)
    from segmentation.app import app

    return app(settings)


@script("select", paths=("input", "labelled", "output", "group"), lists=("checkpoint",))
def select(config: Mapping[str, Any], folder: Path) -> float:
    """Choose which unlabelled images to label next: those a model is unsure of, and unlike each other.

    Examples:
      python select_images.py checkpoint=BEST.ckpt input=UNLABELLED count=50
      python select_images.py checkpoint=[A,B,C] by=disagreement input=UNLABELLED count=50 labelled=DATA/images
      python select_images.py checkpoint=BEST.ckpt input=FRAMES count=50 group='^(.+)_' save=[labelme]
    """
    from segmentation.config import read_selection_settings

    settings = read_selection_settings(config)
    from segmentation.selection import select

    return select(settings)


@script("export", paths=("checkpoint", "output", "calibration", "verify"))
def export(config: Mapping[str, Any], folder: Path) -> float:
    """Make one file of a checkpoint that is used without this project, and certify that it answers the same.

    Examples:
      python export.py checkpoint=RUN/checkpoints/best.ckpt                    best.onnx and best.json beside it
      python export.py checkpoint=BEST.ckpt output=model.onnx layout=nchw outputs=[labels,probabilities]
      python export.py checkpoint=BEST.ckpt push=user/name licence=apache-2.0  to the Hugging Face hub, with a card
      python export.py checkpoint=BEST.ckpt verify=DATA split=test             its scores before and after, too
      python export.py checkpoint=BEST.ckpt format=qgis                        or torch_export, state_dict, torchvision
      python export.py checkpoint=BEST.ckpt precision=int8 calibration=DATA verify=DATA
    """
    from segmentation.config import read_export_settings

    settings = read_export_settings(config)
    from segmentation.export import export

    return export(settings)


@script("inspect", paths=(*_DATA, "output"))
def inspect(config: Mapping[str, Any], folder: Path) -> float:
    """Look for faults in a data set before training on it: files, masks, labels, duplicates, splits; and plan its run.

    Examples:
      python inspect_data.py dataset.root=PATH
      python inspect_data.py dataset=voc dataset.root=PATH format=json      for programs: every file of each finding
      python inspect_data.py dataset=binary dataset.root=PATH strict=true skip=[near-duplicate-across-splits]
    The exit status is 2 where a training would be wrong.
    """
    from segmentation.config import read_inspection_settings
    from segmentation.data.findings import KINDS
    from segmentation.doctor import inspect

    settings = read_inspection_settings(config, KINDS)
    return inspect(settings, compose("train"), folder)


def _benchmark_table(folder: Path) -> str:
    from segmentation.benchmark import gather

    return gather(folder)


@script("benchmark", paths=("hydra.run.dir", "hydra.sweep.dir"), lists=("runs",), gather=_benchmark_table)
def benchmark(config: Mapping[str, Any], folder: Path) -> float:
    """Measure a model as training and prediction would use it: size, work, memory and speed, on GPU or CPU.

    Examples:
      python benchmark.py backbone=resnet18                          one model
      python benchmark.py -m 'backbone=glob(*)' head=deeplabv3       all backbones: one table and a picture
      python benchmark.py -m backbone=resnet18,resnet50 runs=outputs/sweeps/camvid    speed against their mIoU
    """
    from segmentation.benchmark import benchmark

    return benchmark(config, folder)


@script("leaderboard", paths=("benchmarks", "output"), lists=("runs",))
def leaderboard(config: Mapping[str, Any], folder: Path) -> float:
    """Put all runs under a folder into one table: who is best, by how much, at what cost, and what failed.

    Examples:
      python leaderboard.py runs=outputs/sweeps/NAME
      python leaderboard.py runs=[ONE,OTHER]                                   several folders in one table
      python leaderboard.py runs=outputs metric=test/miou latency=0 output=boards
      python leaderboard.py runs=outputs/sweeps/NAME benchmarks=outputs/benchmark/DATE_TIME
    """
    from segmentation.leaderboard import leaderboard

    return leaderboard(config)


COMMANDS: dict[str, Callable[[], None]] = {
    command.__name__: command
    for command in (train, evaluate, predict, app, select, export, inspect, benchmark, leaderboard)
}
"""By the names that they have in `segmentation NAME`."""
