"""The most memory that a step holds at a time, exact on both kinds of device.

What torch's allocator has handed out is counted, weights and optimizer included: nothing that an earlier
measurement left behind can blur it, as it would the process's resident size. Python and the libraries
(0.5 GB or so) come on top.
"""

import os
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

# The profiler's library would announce each start on stderr.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")


def peak_memory(step: Callable[[], None], resident: Iterable[Tensor], device: torch.device) -> int:
    """Bytes at the peak of a step, those of the `resident` tensors (weights, images) included.

    Gradients and the optimizer's state must not exist yet: the first of the two steps taken makes them.
    """
    held = held_bytes(resident)
    return _peak_on_gpu(step, held) if device.type == "cuda" else _peak_on_cpu(step, held)


def held_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the tensors' storages, each counted once."""
    storages = {storage.data_ptr(): storage.nbytes() for storage in map(Tensor.untyped_storage, tensors)}
    return sum(storages.values())


def _peak_on_gpu(step: Callable[[], None], held: int) -> int:
    foreign = torch.cuda.memory_allocated() - held
    # Not counted: in its first step cuDNN tries algorithms that it will not take.
    step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - foreign


def _peak_on_cpu(step: Callable[[], None], held: int) -> int:
    from torch.profiler import ProfilerActivity, profile

    # acc_events keeps torch 2.11 from warning about events of several cycles: there is one.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        step()
        step()
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = held
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak
