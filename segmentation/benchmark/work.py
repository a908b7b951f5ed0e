"""Operations of one pass, counted by torch itself."""

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_flops(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Floating point operations of one forward pass, in evaluation, over an input of this shape.

    A multiply-add is two. Convolutions and matrix products count; what passes value by value does not, as
    everywhere in the field. Computed on the meta device: the model is left as it is.
    """
    shadow = copy.deepcopy(model).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(torch.empty(shape, device="meta"))
    return counter.get_total_flops()


def count_parameters(model: nn.Module) -> int:
    """All of them, frozen ones included."""
    return sum(parameter.numel() for parameter in model.parameters())
