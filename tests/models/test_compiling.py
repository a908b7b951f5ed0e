"""Compiled models compute what they did before. Kernels are left out here: making them takes minutes."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from made_models import assert_same, assert_seen, lively, made, pictures
from torch import Tensor, nn
from torch._dynamo.backends.debugging import aot_eager

from segmentation.errors import UserError
from segmentation.models import compiling
from segmentation.models.compiling import compile_parts, compile_whole

CPU = torch.device("cpu")


class Chain(nn.Sequential):
    """torch 2.11 does not compile modules that are made of torch.nn's classes alone."""

    def forward(self, values: Tensor) -> Tensor:
        return super().forward(values)


# torch hides it by a way that does not survive where warnings are errors.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The graphs that torch.compile made, run by torch's own operations."""
    graphs: list[Any] = []

    def backend(graph: Any, examples: Any) -> Callable[..., Any]:
        graphs.append(graph)
        return aot_eager(graph, examples)

    original = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **_: original(model, backend=backend, fullgraph=True))
    yield graphs
    torch.compiler.reset()


def gradients(model: Any, images_BCHW: Tensor) -> dict[str, Tensor]:
    logits_BKHW, auxiliary_BKHW = model.with_auxiliary(images_BCHW)
    (logits_BKHW.square().mean() + auxiliary_BKHW.square().mean()).backward()
    return {name: weight.grad for name, weight in model.named_parameters()}


@pytest.mark.parametrize(("backbone", "head"), [("mobilenet_v3_small", "deeplabv3"), ("resnet18", "fpn")])
def test_training_has_the_same_gradients(backbone: str, head: str, traced: list[Any]) -> None:
    model = made(backbone, head=head, aux=True).double()
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    other = deepcopy(model)
    compile_parts(other, CPU)
    assert list(other.state_dict()) == list(model.state_dict())
    images = pictures(2, 3, 64, 64)
    expected, found = (gradients(one, images) for one in (model, other))
    assert len(traced) == 4  # the first try, the backbone, two heads: none of them in pieces
    assert list(found) == list(expected)
    # All at once: some are nothing but rounding, as of a bias before a batch norm.
    assert_same(
        *(torch.cat([one.flatten() for one in all_.values()]) for all_ in (found, expected)), within=1e-9
    )


def test_inference_gives_the_same_answer_at_any_size(traced: list[Any]) -> None:
    model = made("resnet18", head="lraspp")
    lively(model, pictures(4, 3, 64, 64))
    other = deepcopy(model)
    compile_whole(other, CPU)
    with torch.inference_mode():
        for shape in ((2, 3, 64, 64), (3, 3, 49, 67)):
            images = pictures(*shape)
            expected = model(images)
            assert_seen(expected)
            assert_same(other(images), expected, within=1e-5)
    assert len(traced) > 1


def test_many_models_are_compiled_in_one_process(traced: list[Any]) -> None:
    """torch counts what it compiled by the code that they share, and soon stops."""
    for number in range(12):
        model = Chain(*(nn.Conv2d(3, 3, 1) for _ in range(number + 1)))
        compile_whole(model, CPU)
        before = len(traced)
        model(torch.rand(1, 3, 8, 8))
        assert len(traced) == before + 1


def test_torch_knows_the_options() -> None:
    assert set(compiling._GRAPHS) <= set(torch._inductor.list_options())


@pytest.mark.parametrize("make", [compile_parts, compile_whole])
def test_without_a_compiler_nothing_is_begun(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("No working C++ compiler found\nand much more")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=fail))
    with pytest.raises(UserError, match=r"compile=true.*for cpu.*C\+\+ compiler found\)") as caught:
        make(made("resnet18"), CPU)
    assert "\n" not in str(caught.value)
    torch.compiler.reset()
