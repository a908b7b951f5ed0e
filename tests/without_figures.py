"""A script: `without_figures.py train.py ...` runs train.py without its figures, which take half of its time."""

import runpy
import sys
from pathlib import Path
from unittest.mock import patch

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    script = Path(__file__).parents[1] / sys.argv[0]
    sys.path[0] = str(script.parent)
    with (
        patch("segmentation.training.draw_curves"),
        patch("segmentation.callbacks.history.draw_curves"),
        patch("segmentation.report.html.draw_figures"),
    ):
        runpy.run_path(str(script), run_name="__main__")
