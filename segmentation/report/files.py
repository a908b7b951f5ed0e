"""Everything that an evaluation leaves in its folder."""

from pathlib import Path

from segmentation.report.csvs import write_csvs
from segmentation.report.evaluation import Evaluation
from segmentation.report.figures import draw_figures
from segmentation.report.gallery import Look, gallery
from segmentation.report.page import render
from segmentation.report.text import write_report, write_text


def write_evaluation(folder: Path, evaluation: Evaluation, look: Look) -> Path:
    """Writes JSON, Markdown, CSVs and figures, and the page, whose path it returns.

    `look` reads the few images again that the page shows.
    """
    write_report(folder, evaluation.report, splits=(evaluation.split,), complete=True)
    write_csvs(folder, evaluation)
    draw_figures(folder, evaluation)
    page = folder / "report.html"
    write_text(page, render(evaluation, gallery(evaluation, look)))
    return page
