"""Each parameter is in one group, with the rate and weight decay of that group."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from segmentation.errors import UserError
from segmentation.optim import OPTIMIZERS, create_optimizer, match_memory_format


class Small(nn.Module):
    def __init__(self, *, norm: bool = True) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4) if norm else nn.Identity())
        # Not the backbone, whatever its name begins with.
        self.backbone_neck = nn.Conv2d(4, 4, 1, bias=False)
        self.head = nn.Conv2d(4, 2, 1, bias=norm)

    def forward(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.backbone_neck(self.backbone(image_BCHW)))
        return logits


def groups_of(optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
    return {group["name"]: group for group in optimizer.param_groups}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_parameter_is_in_the_right_group(name: str) -> None:
    model = Small()
    optimizer = create_optimizer(name, model, lr=0.1, weight_decay=0.02, backbone_lr_factor=0.25)
    groups = groups_of(optimizer)
    convolution, norm = model.backbone
    assert isinstance(convolution, nn.Conv2d)
    members: dict[str, list[Any]] = {
        "backbone": [convolution.weight],
        "backbone_no_decay": [convolution.bias, norm.weight, norm.bias],
        "head": [model.backbone_neck.weight, model.head.weight],
        "head_no_decay": [model.head.bias],
    }
    assert {key: [id(p) for p in group["params"]] for key, group in groups.items()} == {
        key: [id(p) for p in parameters] for key, parameters in members.items()
    }
    assert sum(len(parameters) for parameters in members.values()) == len(list(model.parameters()))
    rates = {"backbone": 0.025, "backbone_no_decay": 0.025, "head": 0.1, "head_no_decay": 0.1}
    assert {key: group["lr"] for key, group in groups.items()} == pytest.approx(rates)
    decays = {"backbone": 0.02, "backbone_no_decay": 0, "head": 0.02, "head_no_decay": 0}
    assert {key: group["weight_decay"] for key, group in groups.items()} == decays


def test_frozen_parameters_are_included() -> None:
    model = Small()
    model.backbone.requires_grad_(False)
    assert "backbone" in groups_of(create_optimizer("adamw", model, lr=0.1))


def test_no_group_is_empty() -> None:
    assert set(groups_of(create_optimizer("sgd", nn.Conv2d(3, 2, 1, bias=False), lr=0.1))) == {"head"}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_moves_every_parameter_down(name: str) -> None:
    torch.manual_seed(0)
    model = Small(norm=False)
    optimizer = create_optimizer(name, model, lr=1e-3, backbone_lr_factor=0.1)
    image = torch.rand(2, 3, 8, 8)
    before = [parameter.clone() for parameter in model.parameters()]
    loss = model(image).square().mean()
    loss.backward()
    optimizer.step()
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    assert model(image).square().mean() < loss


def test_options_of_one_optimizer_are_passed_on() -> None:
    (adam,) = {
        group["betas"] for group in create_optimizer("adam", Small(), lr=0.1, betas=[0.8, 0.9]).param_groups
    }
    assert adam == (0.8, 0.9)
    sgd = create_optimizer("sgd", Small(), lr=0.1, momentum=0.5, nesterov=True)
    assert {(group["momentum"], group["nesterov"]) for group in sgd.param_groups} == {(0.5, True)}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adamm", {"lr": 1}, "optimizer=adamm is unknown. Did you mean"),
        ("adam", {}, "optimizer.lr is missing"),
        ("adam", {"lr": 1, "momentum": 0.9}, "There is no option 'optimizer.momentum'"),
        ("adam", {"lr": "fast"}, "optimizer.lr=fast"),
        ("adam", {"lr": 0}, "optimizer.lr=0"),
        ("adam", {"lr": float("inf")}, "optimizer.lr=inf"),
        ("adamw", {"lr": 1, "weight_decay": -1}, "optimizer.weight_decay=-1"),
        ("adamw", {"lr": 1, "backbone_lr_factor": 0}, "optimizer.backbone_lr_factor=0"),
        ("adamw", {"lr": 1, "betas": [0.9, 1.0]}, "optimizer.betas=(0.9, 1.0)"),
        ("adamw", {"lr": 1, "betas": [0.9]}, "optimizer.betas=[0.9]"),
        ("sgd", {"lr": 1, "momentum": 1}, "optimizer.momentum=1"),
        ("sgd", {"lr": 1, "momentum": 0, "nesterov": True}, "optimizer.nesterov=True"),
    ],
)
def test_a_wrong_option_is_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        create_optimizer(name, Small(), **options)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_is_the_same_after_a_change_of_memory_format(name: str) -> None:
    image = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        model(image).square().sum().backward()
        optimizer.step()

    first = Small(norm=False)  # before a norm the gradient of a bias is noise
    before = create_optimizer(name, first, lr=0.01)
    step(first, before)
    second = Small(norm=False).to(memory_format=torch.channels_last)
    second.load_state_dict(first.state_dict())
    after = create_optimizer(name, second, lr=0.01)
    after.load_state_dict(deepcopy(before.state_dict()))
    match_memory_format(after)
    step(first, before)
    step(second, after)
    for own, other in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)
