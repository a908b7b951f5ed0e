"""Line colours: those of the classes, where they can be seen and told apart."""

import colorsys
from itertools import combinations
from pathlib import Path

import pytest
from made_evaluation import make_evaluation

from segmentation.report.colours import DARK, LIGHT, RELIABILITY_LINE, line_colours, luminance
from segmentation.report.figures import charts, draw_figures
from segmentation.types import Classes, Colour, voc_palette

DISTINCT = ((40, 44, 52), (231, 80, 71), (250, 190, 60), (70, 160, 240))
EXTREME = ((0, 0, 0), (255, 255, 255), (255, 255, 0), (0, 255, 255), (0, 255, 0), (0, 0, 255), (0, 0, 64))
ALIKE = ((254, 0, 0), (255, 0, 0), (64, 0, 0), (100, 100, 100), (101, 100, 100), (10, 10, 10))
PALETTES = [DISTINCT, EXTREME, ALIKE, ((9, 9, 9),) * 6, voc_palette(2), voc_palette(21)]


def rgb(colour: str) -> Colour:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def hue(colour: Colour) -> float:
    return colorsys.rgb_to_hls(*(part / 255 for part in colour))[0]


def contrast(one: Colour, other: Colour) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_that_of_wcag() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((118, 118, 118), (255, 255, 255)) == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("page", [LIGHT, DARK])
@pytest.mark.parametrize("palette", PALETTES)
def test_each_line_can_be_seen(palette: tuple[Colour, ...], page: dict[str, str]) -> None:
    for colour in (*line_colours(palette), RELIABILITY_LINE):
        assert contrast(rgb(colour), rgb(page["card"])) > 2.9


@pytest.mark.parametrize("palette", PALETTES)
def test_no_two_lines_are_alike(palette: tuple[Colour, ...]) -> None:
    for one, other in combinations(map(rgb, line_colours(palette)), 2):
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) >= 40


def test_every_class_has_a_line_colour_even_if_some_repeat() -> None:
    assert len(line_colours(voc_palette(255))) == 255


@pytest.mark.parametrize("palette", [DISTINCT, voc_palette(8)[1:7]])
def test_a_line_keeps_the_hue_of_its_class(palette: tuple[Colour, ...]) -> None:
    for colour, line in zip(palette, line_colours(palette), strict=True):
        assert hue(rgb(line)) == pytest.approx(hue(colour), abs=0.02)


@pytest.mark.parametrize(
    "classes",
    [
        Classes(("background", "road"), ((0, 0, 0), (250, 190, 60)), binary=True),
        Classes(("sky", "tree", "road", "car"), DISTINCT),
    ],
)
def test_each_curve_has_the_colour_of_its_own_class(classes: Classes, tmp_path: Path) -> None:
    evaluation, _ = make_evaluation(tmp_path, ("a", "b", "c"), classes)
    roc = charts(evaluation)[0]
    assert [line.index for line in roc.lines] == list(evaluation.scored)
    for line in roc.lines:
        assert hue(rgb(line.colour)) == pytest.approx(hue(classes.palette[line.index]), abs=0.02)


def test_a_name_with_an_underscore_has_its_place_in_the_legend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """matplotlib leaves such labels out, and labelme calls the background so."""
    evaluation, _ = make_evaluation(tmp_path, ("a", "b"), Classes(("_background_", "a", "b$c")))
    legends = []
    monkeypatch.setattr(
        "matplotlib.axes.Axes.legend",
        lambda axes, **_: legends.append(axes.get_legend_handles_labels()[1]),
    )
    draw_figures(tmp_path, evaluation)
    assert [name.split()[0] for name in legends[0]] == ["_background_", "a", r"b\$c"]
