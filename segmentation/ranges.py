"""The range of each option that has one, by its full name, checked before torch is imported.

An option's name means the same in all choices of its group. What depends on another option, on the model or on the data
is checked where these are known.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
_Inner = Annotated[float, Field(gt=0, lt=1)]
_Decay = Annotated[float, Field(ge=0, lt=1)]
_Count = Annotated[int, Field(ge=0)]
_Number = Annotated[int, Field(ge=1)]
_Part = Annotated[int | float, Field(gt=0)]  # a share as a float, a number of batches as an int
_Mode = Literal["auto", "min", "max"]
_Score = Literal[
    "val/loss",
    "val/miou",
    "val/pixel_accuracy",
    "val/mean_accuracy",
    "val/fw_iou",
    "val/iou",
    "val/dice",
    "val/precision",
    "val/recall",
    "val/specificity",
    "val/f1",
    "val/classes_counted",
]

RANGES: dict[str, Any] = {
    "head.aux_weight": _NonNegative,
    "head.rates": Annotated[list[Annotated[int, Field(ge=1, le=256)]], Field(min_length=3, max_length=3)]
    | None,
    "loss.class_weights": Literal["auto"] | list[_NonNegative] | None,
    "loss.label_smoothing": Share,
    "loss.gamma": _NonNegative,
    "loss.alpha": _NonNegative | None,
    "loss.beta": _NonNegative,
    "loss.smooth": _NonNegative,
    "loss.pixel_weight": _NonNegative,
    "loss.dice_weight": _NonNegative,
    "optimizer.lr": _Positive,
    "optimizer.weight_decay": _NonNegative,
    "optimizer.backbone_lr_factor": _Positive,
    "optimizer.betas": tuple[_Decay, _Decay],
    "optimizer.momentum": _Decay,
    "scheduler.warmup_epochs": _NonNegative,
    "scheduler.min_lr": _NonNegative,
    "scheduler.max_lr": _Positive,
    "scheduler.up_epochs": _Positive,
    "scheduler.milestones": Annotated[list[_Positive], Field(min_length=1)] | None,
    "scheduler.gamma": _Inner,
    "scheduler.factor": _Inner,
    "scheduler.patience": _Count,
    "scheduler.power": _Positive,
    "scheduler.warmup_share": _Inner,
    "scheduler.start_division": Annotated[float, Field(ge=1, allow_inf_nan=False)],
    "scheduler.final_division": Annotated[float, Field(ge=1, allow_inf_nan=False)],
    "trainer.accelerator": Literal["auto", "cpu", "gpu", "cuda"],
    "trainer.strategy": Literal["auto", "ddp", "fsdp"],
    "trainer.max_epochs": _Number,
    "trainer.max_steps": _Number | Literal[-1],
    "trainer.limit_train_batches": _Part,
    "trainer.limit_val_batches": _Part,
    "trainer.limit_test_batches": _Part,
    "trainer.val_check_interval": _Part | None,
    "trainer.check_val_every_n_epoch": _Number,
    "trainer.accumulate_grad_batches": _Number,
    "trainer.log_every_n_steps": _Number,
    "trainer.gradient_clip_val": _NonNegative | None,
    "callbacks.early_stopping.monitor": _Score,
    "callbacks.early_stopping.mode": _Mode,
    "callbacks.early_stopping.patience": _Number | None,
    "callbacks.early_stopping.min_delta": _NonNegative,
    "callbacks.best.monitor": _Score,
    "callbacks.best.mode": _Mode,
    "callbacks.pruning.least_runs": _Number | None,
    "callbacks.pruning.warmup_epochs": _Count,
    "callbacks.grid.images": _Count,
    "callbacks.grid.every_n_epochs": _Number,
    "callbacks.freeze_backbone_epochs": _Count,
    "callbacks.ema_decay": _Inner | None,
    "logger.tensorboard": bool,
    "logger.csv": bool,
    "logger.wandb.mode": Literal["offline", "online"],
    **{
        f"augmentation.{name}": Share
        for name in ("flip", "vertical_flip", "colour", "blur", "noise", "dropout")
    },
    "augmentation.rotate": Annotated[float, Field(ge=0, le=180)],
}

NOT_HERE = {
    "fast_dev_run": "take trainer=debug, which also tries the checkpoints and the report",
    "barebones": "a run needs its checkpoints and scores",
    "enable_checkpointing": "a run needs its checkpoints",
    "enable_model_summary": "benchmark.py tells what a model consists of",
    "num_sanity_val_steps": "take trainer=debug to see whether everything runs",
    "limit_predict_batches": "predict.py takes input=",
    "precision": "write precision= alone",
    "logger": "choose logger=OPTION",
    "callbacks": "conf/callbacks has them",
    "default_root_dir": "write hydra.run.dir=",
    "plugins": "there are none to choose",
    "use_distributed_sampler": "the processes always share the images",
    "enable_autolog_hparams": "config.yaml has the options",
    "model_registry": "checkpoints stay in the run folder",
}
"""Lightning's arguments that a run sets itself or has no use for, and what to do instead."""
