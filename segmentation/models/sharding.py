"""A model whose weights are cut up between processes."""

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from segmentation.models.segmenter import Segmenter


def shard(model: Segmenter, mesh: DeviceMesh) -> None:
    """Leaves each process of `mesh` its share of every weight; a part is put together for as long as it computes.

    In place, and once: a second call does nothing. All processes must come to the same forward passes from then on.
    """
    if isinstance(model, FSDPModule):
        return
    model.to(memory_format=torch.contiguous_format)  # what else there is cannot be cut
    for part in model.children():
        # torch 2.11 refuses a ModuleDict, even one that has a forward: its blocks are cut as one group.
        refused = isinstance(part, nn.ModuleDict) and torch.__version__ < "2.13"
        fully_shard(list(part.children()) if refused else part, mesh=mesh)
    fully_shard(model, mesh=mesh)
    register_fsdp_forward_method(model, "with_auxiliary")
