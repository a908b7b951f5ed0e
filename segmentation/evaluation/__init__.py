"""Evaluate checkpoints on a split: `evaluate.py` calls `evaluate`."""

from segmentation.evaluation.context import EvaluationContext, open_context
from segmentation.evaluation.run import evaluate, subfolder_name
from segmentation.evaluation.split import evaluate_split

__all__ = ["EvaluationContext", "evaluate", "evaluate_split", "open_context", "subfolder_name"]
