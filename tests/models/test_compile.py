"""Compiled models give the same results. Kernels take minutes, so only one small model is compiled to real ones."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from made_models import TINY, assert_depends_on_image, assert_same, made, pictures, randomize_norms
from torch import Tensor, nn
from torch._dynamo.backends.debugging import aot_eager
from torch._dynamo.utils import counters
from torch._inductor import config as inductor

from segmentation.errors import UserError
from segmentation.models import compile
from segmentation.models.compile import compile_parts, compile_whole

CPU = torch.device("cpu")


class Chain(nn.Sequential):
    """torch 2.11 does not compile modules that are made of torch.nn's classes alone."""

    def forward(self, values: Tensor) -> Tensor:
        return super().forward(values)


# torch hides it by a way that does not survive where warnings are errors.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The graphs that torch.compile made; they are run by torch's own operations."""
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


def test_training_has_the_same_gradients(traced: list[Any]) -> None:
    model = made(**TINY, aux=True).double()
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    other = deepcopy(model)
    compile_parts(other, CPU)
    assert list(other.state_dict()) == list(model.state_dict())
    images = pictures(2, 3, 64, 64)
    expected, found = (gradients(one, images) for one in (model, other))
    assert len(traced) == 4  # the compiler check, the backbone, two heads: one graph each
    assert list(found) == list(expected)
    # All together: some gradients are pure rounding, such as that of a bias before a batch norm.
    assert_same(
        *(torch.cat([one.flatten() for one in all_.values()]) for all_ in (found, expected)), within=1e-9
    )


def test_inference_gives_the_same_answer_at_any_size(traced: list[Any]) -> None:
    model = made(**TINY, head="fcn")
    randomize_norms(model, pictures(4, 3, 64, 64))
    other = compile_whole(deepcopy(model), CPU)
    with torch.inference_mode():
        for shape in ((2, 3, 64, 64), (3, 3, 49, 67)):
            images = pictures(*shape)
            expected = model(images)
            assert_depends_on_image(expected)
            assert_same(other(images), expected, within=1e-5)
    assert len(traced) > 1


def test_many_models_are_compiled_in_one_process(traced: list[Any]) -> None:
    """torch limits the compiled versions of one piece of code, which these models share."""
    for number in range(12):
        model = Chain(*(nn.Conv2d(3, 3, 1) for _ in range(number + 1)))
        run = compile_whole(model, CPU)
        before = len(traced)
        run(torch.rand(1, 3, 8, 8))
        assert len(traced) == before + 1


def test_on_a_cpu_the_weights_are_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """With real kernels, about 20 seconds: batch norms are folded into convolutions, and weights are packed."""
    # Inductor would start compile processes that outlive the test.
    monkeypatch.setattr(inductor, "compile_threads", 1)
    torch.compiler.reset()
    counters["inductor"].clear()
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8, bias=False),
        nn.BatchNorm2d(8),
        nn.Hardswish(),
        nn.Conv2d(8, 4, 1),
    ).to(memory_format=torch.channels_last)
    images = torch.rand(2, 3, 24, 32).to(memory_format=torch.channels_last)
    randomize_norms(model, images)
    run = compile_whole(model, CPU)
    with torch.inference_mode():
        expected = model(images)
        assert_depends_on_image(expected)
        found = run(images)
    torch.testing.assert_close(found.softmax(1), expected.softmax(1), rtol=0, atol=1e-4)
    assert counters["inductor"]["binary_folding"] > 0
    if torch.backends.mkldnn.is_available():
        assert counters["inductor"]["mkldnn_conv_weight_pack_matcher_count"] == 3
    # The model can still be trained, and Inductor's setting is restored.
    assert not inductor.freezing
    model.train()(images).sum().backward()
    torch.compiler.reset()


def test_inductor_has_these_options() -> None:
    assert set(compile._GPU_OPTIONS) <= set(torch._inductor.list_options())


@pytest.mark.parametrize("make", [compile_parts, compile_whole])
def test_a_missing_compiler_is_an_error(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("No working C++ compiler found\nand much more")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=fail))
    with pytest.raises(UserError, match=r"compile=true.*for cpu.*C\+\+ compiler found\)") as caught:
        make(made(**TINY), CPU)
    assert "\n" not in str(caught.value)
    torch.compiler.reset()
