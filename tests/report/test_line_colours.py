"""The curves of a report wear the classes' colours, as far as these can be seen and told apart."""

import colorsys

import pytest

from segmentation.classes import Colour, voc_palette
from segmentation.report.charts import line_colours

APART = ((40, 44, 52), (231, 80, 71), (250, 190, 60), (70, 160, 240))
BLACK_AND_WHITE = ((0, 0, 0), (255, 255, 255))
ALIKE = ((64, 0, 0), (128, 0, 0), (0, 0, 200))


def hls(colour: str) -> tuple[float, float, float]:
    return colorsys.rgb_to_hls(*(int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)))


@pytest.mark.parametrize("palette", [APART, BLACK_AND_WHITE, ALIKE, voc_palette(2), voc_palette(21)])
def test_each_class_has_a_line_that_shows_and_no_two_are_alike(palette: tuple[Colour, ...]) -> None:
    colours = line_colours(palette)
    assert len(set(colours)) == len(palette)
    assert all(0.35 < hls(colour)[1] < 0.65 for colour in colours)


def test_they_are_the_classes_own_hues_unless_two_became_alike() -> None:
    for colour, line in zip(APART, line_colours(APART), strict=True):
        assert hls(line)[0] == pytest.approx(
            colorsys.rgb_to_hls(*(part / 255 for part in colour))[0], abs=0.01
        )
    assert "#c20000" not in line_colours(ALIKE)
