"""Tiles: every pixel once, weights that sum to one, and the whole image's answer where reach allows it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_predictors import REACH, near
from torch import nn
from torch.nn.functional import conv2d

from segmentation import tiling
from segmentation.errors import UserError
from segmentation.inference import Predictor
from segmentation.models import resize
from segmentation.tiling import Tiling, spans

sides = st.integers(1, 300)


@settings(deadline=None)
@given(length=st.integers(1, 3000), tile=st.integers(16, 300), share=st.floats(0, 0.5))
def test_weights_of_neighbours_sum_to_one(length: int, tile: int, share: float) -> None:
    overlap = int(tile * share)
    total = np.zeros(length)
    covered = np.zeros(length, int)
    for span in spans(length, tile=tile, overlap=overlap):
        assert span.stop - span.start == min(tile, length)
        total[span.start : span.stop] += span.weights
        covered[span.first : span.fade] += 1
        # A tile's own rim is context, but at the image's border.
        context = overlap // 4
        assert span.start == 0 or not span.weights[:context].any()
        assert span.stop == length or not span.weights[len(span.weights) - context :].any()
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert (covered == 1).all()


@settings(max_examples=30, deadline=None)
@given(
    height=sides, width=sides, tile=st.integers(40, 130), batch_size=st.integers(1, 5), spill=st.booleans()
)
def test_tiles_answer_as_the_whole_image(
    height: int, width: int, tile: int, batch_size: int, spill: bool
) -> None:
    image = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    predictor = near()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiling, "_IN_MEMORY", 1 if spill else 2**25)
        tiled = predictor.predict(image, tile=tile, overlap=4 * REACH + 3, batch_size=batch_size)
    whole = predictor.predict(image)
    np.testing.assert_allclose(tiled.probabilities, whole.probabilities, atol=2e-6)
    near_ties = np.sort(whole.probabilities, axis=2)
    clear = near_ties[..., -1] - near_ties[..., -2] > 1e-5
    assert (tiled.mask == whole.mask)[clear].all()


class Strided(nn.Module):
    """Logits of cells of `stride` pixels, each from its own pixels and its neighbours', brought to every pixel."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride, self.channels = stride, 3
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1))
        weights = torch.randn(3, 3, 3 * stride, 3 * stride, generator=torch.Generator().manual_seed(0))
        self.register_buffer("weights", weights / stride)

    def forward(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        pixels_BCHW = image_BCHW.float() / 255
        cells_BKHW = conv2d(pixels_BCHW, self.weights, stride=self.stride, padding=self.stride)
        return resize(cells_BKHW, (image_BCHW.shape[-2], image_BCHW.shape[-1]))


@pytest.mark.parametrize(("stride", "tile"), [(4, 100), (8, 200), (16, 400)])
def test_tiles_answer_as_the_whole_image_for_models_with_a_stride(stride: int, tile: int) -> None:
    predictor = near()
    model: Any = Strided(stride)
    predictor = Predictor(replace(predictor.trained, model=model), device="cpu", precision="32-true")
    # Not of the grid's multiples: of the stride's alone.
    height, width = tile + 11 * stride, 2 * tile + 7 * stride
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    # A pixel looks at two cells, each at itself and a neighbour on either side.
    tiled = predictor.predict(image, tile=tile, overlap=4 * 3 * stride, batch_size=2)
    np.testing.assert_allclose(tiled.probabilities, predictor.predict(image).probabilities, atol=1e-5)


def test_seams_fade_where_reach_does_not_allow_it() -> None:
    # Each tile answers by itself as a whole: the worst case for a seam.
    number = iter(range(100))
    found = np.zeros((1, 40, 300), np.float32)

    def predict(pictures: list[np.ndarray]) -> np.ndarray:
        return np.stack([np.full((1, *picture.shape[:2]), next(number) % 2) for picture in pictures])

    def write(top: int, left: int, block_KHW: np.ndarray) -> None:
        _, height, width = block_KHW.shape
        found[:, top : top + height, left : left + width] = block_KHW

    image = np.zeros((40, 300, 3), np.uint8)
    tiling = Tiling(predict=predict, tile=100, overlap=40)
    tiling.run(lambda rows, columns: image[rows, columns], write, size=(40, 300))
    assert found.min() == 0 and found.max() == 1
    assert np.abs(np.diff(found, axis=2)).max() <= 1 / 20 + 1e-6


def test_models_that_see_whole_images_see_each_tile_at_their_size() -> None:
    predictor = near(size=(32, 32), resize=True)
    seen = []
    inner = predictor._probabilities

    def spy(images_BCHW: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        seen.append((tuple(images_BCHW.shape[2:]), size))
        return inner(images_BCHW, size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictor, "_probabilities", spy)
        predictor.predict(np.zeros((64, 150, 3), np.uint8), tile=64, overlap=16)
    assert len(seen) > 1
    assert set(seen) == {((32, 32), (64, 64))}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tile": 8}, "tile=8"),
        ({"tile": 64, "overlap": 33}, "0 to 32"),
        ({"tile": 64, "overlap": -1}, "overlap=-1"),
        ({"overlap": 8}, "without tile"),
        ({"tile": 64, "batch_size": 0}, "batch_size=0"),
        ({"tile": 64, "batch_size": -1}, "batch_size=-1"),
        ({"tile": 64.5}, "tile=64.5"),
        ({"tile": "wide"}, "tile=wide"),
        ({"tile": 64, "overlap": 10.5}, "overlap=10.5"),
    ],
)
def test_wrong_sizes_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        near().predict(np.zeros((9, 9, 3), np.uint8), **options)  # type: ignore[arg-type]
