"""A trained model in the form in which it answers fastest: the same answers, to rounding."""

from collections import Counter, defaultdict
from copy import deepcopy
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.utils.fusion import fuse_conv_bn_eval

from segmentation.models.backbones.depthwise import PhasedConv2d
from segmentation.models.heads.layers import AtrousConv2d
from segmentation.models.heads.pyramid import PooledBatchNorm

# By their very types: a subclass may do more, as those of timm do.
_CONVOLUTIONS = (nn.Conv2d, PhasedConv2d, AtrousConv2d)
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


def pack(model: nn.Module) -> None:
    """Makes the float32 convolutions of a model on a processor `PackedConv2d`, in place."""
    for path, layer in list(model.named_modules()):
        if (
            isinstance(layer, nn.Conv2d)
            and type(layer) in _CONVOLUTIONS
            and layer.weight.dtype == torch.float32
            and layer.padding_mode == "zeros"
            and not isinstance(layer.padding, str)
            and not _is_hooked(layer)
        ):
            model.set_submodule(path, PackedConv2d(layer))


class PackedConv2d(nn.Conv2d):
    """A convolution that keeps its weights in oneDNN's own order for the shape that it saw last; inference only.

    `nn.Conv2d` brings them into that order each time, which for one small image takes a third of the time.
    """

    def __init__(self, like: nn.Conv2d) -> None:
        # On the meta device, where filling weights that are not kept draws no random numbers.
        bias, groups = like.bias is not None, like.groups
        super().__init__(like.in_channels, like.out_channels, 1, groups=groups, bias=bias, device="meta")
        self.kernel_size, self.padding = like.kernel_size, like.padding
        self.stride, self.dilation = like.stride, like.dilation
        self.weight, self.bias = like.weight, like.bias
        self._packed: tuple[torch.Size, Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the packed weights, which cannot be copied."""
        return {**self.__dict__, "_packed": None}

    def forward(self, values_BCHW: Tensor) -> Tensor:
        """As the convolution's own."""
        # The operators that torch.compile puts in the place of convolutions; they have no public name.
        ops, shape = torch.ops.mkldnn, values_BCHW.shape
        options = self.padding, self.stride, self.dilation, self.groups
        kept = self._packed
        if kept is None or kept[0] != shape:
            kept = shape, ops._reorder_convolution_weight(self.weight.detach(), *options, shape)
            self._packed = kept
        found: Tensor = ops._convolution_pointwise(values_BCHW, kept[1], self.bias, *options, "none", [], "")
        return found


def _is_hooked(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks)


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
        if type(layer) in (*_CONVOLUTIONS, *_NORMS) and places[layer] == 1 and not _is_hooked(layer)
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
        if type(convolution) in _CONVOLUTIONS and type(norm) in _NORMS and norm.running_var is not None:
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
