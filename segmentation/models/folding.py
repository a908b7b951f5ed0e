"""Batch norms folded into the convolutions before them: in evaluation, a pass less over every feature map."""

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from segmentation.models.backbones.measure import blank, on_meta
from segmentation.models.heads.pyramid import PooledBatchNorm
from segmentation.models.segmenter import Segmenter

# Exactly these: a subclass may do more, as timm's do with their activations.
_NORMS = (nn.BatchNorm2d, PooledBatchNorm)


def fold_batch_norms(model: Segmenter) -> Segmenter:
    """A copy in evaluation mode whose answers differ by rounding alone; `model` is left as it is.

    In evaluation a batch norm is a factor and a summand for each channel, which the weights of the convolution
    before it can take in. Which convolution that is, and that nothing else reads its result, is seen from a pass
    over shapes alone; a norm that has none stays as it is.
    """
    folded = copy.deepcopy(model).eval()
    with torch.no_grad(), _Readings(folded) as readings:
        on_meta(folded, blank(folded.mean.shape[1]))
    for norm, convolution in readings.pairs():
        before, behind = folded.get_submodule(convolution), folded.get_submodule(norm)
        assert isinstance(before, nn.Conv2d)
        assert isinstance(behind, nn.BatchNorm2d)
        folded.set_submodule(convolution, fuse_conv_bn_eval(before, behind))
        folded.set_submodule(norm, nn.Identity())
    return folded.requires_grad_(False)


class _Readings(TorchDispatchMode):
    """While a model runs: which convolution made what, which batch norm took what, and how often it was read."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._made: dict[int, str] = {}
        self._taken: dict[str, int] = {}
        self._reads: Counter[int] = Counter()
        self._calls: Counter[str] = Counter()
        self._kept: list[Tensor] = []  # lest a later tensor gets the identity of an earlier one
        self._model = model

    def __enter__(self) -> "_Readings":
        self._hooks = [
            module.register_forward_hook(self._listener(name))
            for name, module in self._model.named_modules()
            if isinstance(module, nn.Conv2d) or type(module) in _NORMS
        ]
        super().__enter__()
        return self

    def __exit__(self, *about: Any) -> None:
        super().__exit__(*about)
        for hook in self._hooks:
            hook.remove()

    def pairs(self) -> list[tuple[str, str]]:
        """Norms, each with the convolution whose result it alone reads; both are called once a pass."""
        return [
            (norm, self._made[place])
            for norm, place in self._taken.items()
            if place in self._made
            and self._reads[place] == 1
            and self._calls[norm] == self._calls[self._made[place]] == 1
        ]

    def _listener(self, name: str) -> Any:
        def listen(module: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
            self._calls[name] += 1
            self._kept += [*given, result]
            if isinstance(module, nn.Conv2d):
                self._made[id(result)] = name
                self._reads[id(result)] = 0  # an earlier tensor may have had this identity
            else:
                self._taken[name] = id(given[0])

        return listen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = (args, kwargs or {})
        self._reads.update(id(value) for value in tree_leaves(given) if isinstance(value, Tensor))
        return func(*args, **(kwargs or {}))
