"""What the values and colours in masks mean: labels, merged classes, and pixels that nobody labelled."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from made_data import image, mask, save

from segmentation.data import create_dataset
from segmentation.errors import UserError

RED, GREEN, BLUE = [200, 0, 0], [0, 200, 0], [0, 0, 200]
FOUR: dict[str, Any] = {"names": ["sky", "car", "road", "truck"]}
COLOURED: dict[str, Any] = {"names": {"background": [0, 0, 0], "car": RED, "road": GREEN, "truck": BLUE}}
MERGED = {"merge": {"vehicle": ["car", "truck"]}}


def of(root: Path, values: Any, options: dict[str, Any], *, in_file: bool = False) -> dict[str, Any]:
    """Six images whose masks all hold `values`, and the options that read them, or a classes.yaml with these."""
    for number in range(6):
        save(root / "images" / f"{number}.png", image())
        save(root / "masks" / f"{number}.png", values)
    if in_file:
        (root / "classes.yaml").write_text(yaml.safe_dump(options))
    return {"name": "folder", "root": str(root), **({} if in_file else options)}


def coloured(*colours: list[int]) -> np.ndarray:
    return np.array(colours, np.uint8)[mask(*range(len(colours)))]


@pytest.mark.parametrize("in_file", [True, False])
@pytest.mark.parametrize(
    ("values", "options", "names", "expected"),
    [
        (
            mask(7, 8, 0),
            {"labels": {7: "road", 8: "pavement", 0: "ignore"}},
            ("road", "pavement"),
            (0, 1, 255),
        ),
        (mask(0, 1, 2, 3), {**FOUR, **MERGED}, ("sky", "vehicle", "road"), (0, 1, 2, 1)),
        (mask(0, 1, 2, 3), {**FOUR, "merge": {"car": ["truck"]}}, ("sky", "car", "road"), (0, 1, 2, 1)),
        (mask(0, 1, 2, 3), {**FOUR, "merge": {"ignore": ["sky"]}}, ("car", "road", "truck"), (255, 0, 1, 2)),
        (
            *(mask(5, 6, 9), {"labels": {5: "car", 6: "truck", 9: "road"}, **MERGED}),
            *(("vehicle", "road"), (0, 0, 1)),
        ),
        (
            mask(0, 1, 9),
            {"names": ["background", "car"], "unlabelled": "ignore"},
            ("background", "car"),
            (0, 1, 255),
        ),
        (
            mask(1, 4, 0),
            {"labels": {1: "car", 4: "road"}, "unlabelled": "ignore"},
            ("car", "road"),
            (0, 1, 255),
        ),
        (
            *(
                mask(1, 0, 9),
                {"names": ["background", "car"], "labels": {1: "car"}, "unlabelled": "background"},
            ),
            *(("background", "car"), (1, 0, 0)),
        ),
        (
            *(coloured([0, 0, 0], RED, GREEN, BLUE), {**COLOURED, **MERGED}),
            *(("background", "vehicle", "road"), (0, 1, 2, 1)),
        ),
        (
            *(coloured(RED, [9, 9, 9], BLUE), {**COLOURED, "unlabelled": "background"}),
            *(("background", "car", "road", "truck"), (1, 0, 3)),
        ),
        (
            *(coloured(RED, [9, 9, 9], BLUE), {**COLOURED, "unlabelled": "ignore"}),
            *(("background", "car", "road", "truck"), (1, 255, 3)),
        ),
    ],
)
def test_meaning(
    values: Any,
    options: dict[str, Any],
    names: tuple[str, ...],
    expected: tuple[int, ...],
    in_file: bool,
    tmp_path: Path,
) -> None:
    dataset = create_dataset(**of(tmp_path, values, options, in_file=in_file))
    assert dataset.classes.names == names
    assert np.array_equal(dataset.train[0]["mask"], mask(*expected))  # type: ignore[call-overload]


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_wide_masks(dtype: Any, tmp_path: Path) -> None:
    options = of(tmp_path, mask(0), {"labels": {0: "sky", 1000: "road", 40000: "ignore"}})
    for number in range(6):
        values = np.array([0, 1000, 40000], dtype)[mask(0, 1, 2)]
        (tmp_path / "masks" / f"{number}.png").unlink()
        save(tmp_path / "masks" / f"{number}.tif", values)
    assert np.array_equal(create_dataset(**options).train[0]["mask"], mask(0, 1, 255))


def test_other_values_of_wide_masks(tmp_path: Path) -> None:
    options = of(tmp_path, mask(0), {"labels": {1: "car", 300: "road"}, "unlabelled": "ignore"})
    for number in range(6):
        (tmp_path / "masks" / f"{number}.png").unlink()
        save(tmp_path / "masks" / f"{number}.tif", np.array([1, 300, 0, 999], np.uint16)[mask(0, 1, 2, 3)])
    assert np.array_equal(create_dataset(**options).train[0]["mask"], mask(0, 1, 255, 255))


def test_a_file_may_be_changed_by_options(tmp_path: Path) -> None:
    options = of(tmp_path, mask(0, 1, 2, 3), FOUR, in_file=True)
    assert create_dataset(**options, **MERGED).classes.names == ("sky", "vehicle", "road")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {**FOUR, "merge": {"vehicle": ["cart", "truck"]}},
            "merge has 'cart', which is no class. Did you mean 'car'",
        ),
        ({**FOUR, "merge": {"a": ["car"], "b": ["car"]}}, "merge has 'car' twice"),
        ({**FOUR, "merge": {"a": "car"}}, "merge"),
        ({**FOUR, "unlabelled": "background"}, "needs a class 'background'"),
        ({**FOUR, "unlabelled": "void"}, "unlabelled=void"),
        ({"names": ["a", "b"], "merge": {"c": ["a", "b"]}}, "1 classes"),
    ],
)
def test_wrong_descriptions(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        create_dataset(**of(tmp_path, mask(0, 1), options))
