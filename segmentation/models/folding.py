"""Batch norms made part of their convolutions: the same answers, to rounding, in fewer steps."""

from collections import Counter, defaultdict
from copy import deepcopy
from itertools import chain
from typing import cast

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.utils.fusion import fuse_conv_bn_eval

from segmentation.models.convolutions import CONVOLUTIONS
from segmentation.models.convolutions.base import is_hooked
from segmentation.models.heads.pyramid import PooledBatchNorm

_NORMS = (nn.BatchNorm2d, PooledBatchNorm)


def folded(model: nn.Module, example_BCHW: Tensor) -> nn.Module:
    """A copy for inference alone, of a model in evaluation mode: the batch norms are part of their convolutions.

    A batch norm that no longer learns is a scale and a shift of each channel, which the convolution before it can do
    by itself (Jacob et al. 2017, arXiv:1712.05877, section 3.2). Which convolution that is, and that its values go
    nowhere else, shows on the example, any raw pixels. What is not changed is shared with the model.
    """
    copied = deepcopy(model, {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())})
    for norm, convolution in _pairs(copied, example_BCHW).items():
        fused = fuse_conv_bn_eval(
            cast(nn.Conv2d, copied.get_submodule(convolution)),
            cast(nn.BatchNorm2d, copied.get_submodule(norm)),
        )
        copied.set_submodule(convolution, fused)
        copied.set_submodule(norm, nn.Identity())
    return copied


def _pairs(model: nn.Module, example_BCHW: Tensor) -> dict[str, str]:
    """Batch norm -> the convolution whose values it gets, and nothing else does; by their paths."""
    if any(weight.is_inference() for weight in model.parameters()):  # of which autograd knows nothing
        return {}
    paths = {layer: path for path, layer in model.named_modules()}
    places = Counter(layer for _, layer in model.named_modules(remove_duplicate=False))
    ends: dict[Node | None, str] = {}  # where autograd has the values of a layer coming from

    def note(layer: nn.Module, _: object, values: Tensor) -> None:
        ends[values.grad_fn] = paths[layer]

    hooks = [
        layer.register_forward_hook(note)
        for layer in paths
        if type(layer) in (*CONVOLUTIONS, *_NORMS) and places[layer] == 1 and not is_hooked(layer)
    ]
    with torch.inference_mode(False), torch.enable_grad():
        answer = model(example_BCHW.detach().to(torch.float32, copy=True).requires_grad_())
    for hook in hooks:
        hook.remove()
    calls = Counter(ends.values())
    pairs = {}
    for source, readers in _readers(answer.grad_fn).items():
        one, other = ends.get(source), ends.get(readers[0])
        if one is None or other is None or len(readers) > 1 or calls[one] > 1 or calls[other] > 1:
            continue
        convolution, norm = model.get_submodule(one), model.get_submodule(other)
        if type(convolution) in CONVOLUTIONS and type(norm) in _NORMS and norm.running_var is not None:
            pairs[other] = one
    return pairs


def _readers(last: Node | None) -> dict[Node, list[Node]]:
    """For each step of a computation the steps that its values go to."""
    readers: dict[Node, list[Node]] = defaultdict(list)
    waiting = [last] if last else []
    while waiting:
        reader = waiting.pop()
        for source, _ in reader.next_functions:
            if source is not None:
                if source not in readers:
                    waiting.append(source)
                readers[source].append(reader)
    return readers
