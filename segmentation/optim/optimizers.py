"""Optimizers over named parameter groups: backbone or head, with or without weight decay.

They are fused where possible: one pass over the memory per step instead of several, which halves its time on a CPU too.
"""

import logging
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from segmentation.errors import UserError
from segmentation.options import create

log = logging.getLogger(__name__)


def check(option: str, value: object, valid: bool, rule: str) -> None:
    """Raises `UserError`, "it must be RULE", unless the value is `valid`; infinity and nan never are."""
    if not valid or (isinstance(value, float) and not math.isfinite(value)):
        raise UserError(f"{option}={value} is not right: it must be {rule}.")


def adam(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float = 0.0,
    backbone_lr_factor: float = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
) -> Optimizer:
    """Kingma & Ba 2015; `betas` (0..1) are the decay rates of the moving averages of the gradient and its square."""
    return Adam(parameter_groups(model, lr, weight_decay, backbone_lr_factor), lr=lr, betas=betas, fused=True)


def adamw(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float = 0.01,
    backbone_lr_factor: float = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
) -> Optimizer:
    """Loshchilov & Hutter 2019: Adam with decoupled weight decay. `betas` as in `adam`."""
    return AdamW(
        parameter_groups(model, lr, weight_decay, backbone_lr_factor), lr=lr, betas=betas, fused=True
    )


def sgd(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float = 1e-4,
    backbone_lr_factor: float = 1.0,
    momentum: float = 0.9,
    nesterov: bool = False,
) -> Optimizer:
    """Stochastic gradient descent with `momentum` (0..1), optionally Nesterov's."""
    check("optimizer.nesterov", nesterov, momentum > 0 or not nesterov, "false if optimizer.momentum is 0")
    groups = parameter_groups(model, lr, weight_decay, backbone_lr_factor)
    # torch's fused SGD does not support parameters that FSDP shards.
    sharded = any(isinstance(parameter, DTensor) for parameter in model.parameters())
    return SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov, fused=not sharded)


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adam": adam, "adamw": adamw, "sgd": sgd}


def create_optimizer(name: str, model: nn.Module, **options: Any) -> Optimizer:
    """The optimizer called `name` over `parameter_groups` of the model; `defaults["lr"]` is the head's rate.

    It takes from a state what it remembers of gradients, and keeps its own options.

    Raises `UserError` for an unknown name or option and for an invalid value.
    """
    optimizer = create("optimizer", OPTIMIZERS, name, model, **options)
    # With this flag the fused step would unscale fp16 gradients itself, too late for gradient clipping.
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    optimizer.register_load_state_dict_pre_hook(_with_own_options)
    return optimizer


def _with_own_options(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    """The state with the options of this optimizer, and without the memory of another kind of optimizer."""
    own, saved = optimizer.state_dict()["param_groups"], state_dict["param_groups"]
    same_sizes = [len(group["params"]) for group in own] == [len(group["params"]) for group in saved]
    # Adam and AdamW remember the same, SGD something else.
    if not same_sizes or any((name in own[0]) != (name in saved[0]) for name in ("betas", "momentum")):
        log.info("the resumed run had another optimizer: its memory of gradients is dropped")
        return {"state": {}, "param_groups": own}
    groups = [{**options, "params": group["params"]} for options, group in zip(own, saved, strict=True)]
    return {"state": state_dict["state"], "param_groups": groups}


def match_memory_format(optimizer: Optimizer) -> None:
    """Gives the state of a resumed optimizer the memory format of its parameters.

    A fused step reads memory in its physical order: a state in another format would silently belong to other weights.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if value is not None and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter).copy_(value)


def parameter_groups(
    model: nn.Module, lr: float, weight_decay: float, backbone_lr_factor: float
) -> list[dict[str, Any]]:
    """The groups `backbone`, `backbone_no_decay`, `head` and `head_no_decay`, without empty ones.

    The parameters below `model.backbone` are the backbone; its rate is `backbone_lr_factor` (> 0) times `lr` (> 0).
    One-dimensional parameters (norms and biases) have no weight decay. Frozen parameters are included, because they may
    be unfrozen later.
    """
    groups: dict[str, list[nn.Parameter]] = {}
    for path, parameter in model.named_parameters():
        part = "backbone" if path.startswith("backbone.") else "head"
        group = f"{part}_no_decay" if parameter.ndim <= 1 else part
        groups.setdefault(group, []).append(parameter)
    return [
        {
            "name": name,
            "params": parameters,
            "lr": lr * backbone_lr_factor if name.startswith("backbone") else lr,
            "weight_decay": 0.0 if name.endswith("no_decay") else weight_decay,
        }
        for name, parameters in groups.items()
    ]
