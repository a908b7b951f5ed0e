"""What each score is called on the page, and what it says."""

from collections.abc import Mapping

HEADLINES = {
    True: ("iou", "dice", "precision", "recall", "roc_auc", "pr_auc", "boundary_iou", "pixel_accuracy"),
    False: (
        "miou",
        "pixel_accuracy",
        "mean_accuracy",
        "fw_iou",
        "dice",
        "boundary_iou",
        "roc_auc",
        "calibration_error",
    ),
}
"""The scores at the top of the page, for binary data or not."""

SCORES = {
    "miou": ("mIoU", "mean over classes of intersection over union"),
    "iou": ("IoU", "intersection over union"),
    "dice": ("Dice", "twice the intersection over the sum of both areas"),
    "f1": ("F1", "harmonic mean of precision and recall: for labels the same as Dice"),
    "pixel_accuracy": ("Pixel accuracy", "share of right pixels"),
    "mean_accuracy": ("Mean accuracy", "mean over classes of the share of their pixels found"),
    "fw_iou": ("Frequency-weighted IoU", "IoU weighted by each class's share of the pixels"),
    "precision": ("Precision", "share right of what was predicted"),
    "recall": ("Recall", "share found of what is there"),
    "specificity": ("Specificity", "share of the background left alone"),
    "roc_auc": ("ROC AUC", "area under the ROC curve, from score histograms"),
    "pr_auc": ("PR AUC", "average precision, from score histograms"),
    "boundary_iou": ("Boundary IoU", "IoU of the bands along the outlines (Cheng et al. 2021)"),
    "calibration_error": (
        "Calibration error",
        "mean distance of confidence from accuracy, 15 bins; 0 is best",
    ),
    "brier": ("Brier score", "mean squared error of the probabilities; 0 is best"),
    "best_f1": ("Best F1", "F1 at the threshold that suits these images best"),
    "best_threshold_f1": (
        "Threshold of best F1",
        "chosen on these images: do not report it as a result on them",
    ),
    "best_iou": ("Best IoU", "IoU at the threshold that suits these images best"),
    "best_threshold_iou": (
        "Threshold of best IoU",
        "chosen on these images: do not report it as a result on them",
    ),
    "classes_counted": ("Classes counted", "how many occur in truth or prediction; the means are over these"),
    "pixels": ("Pixels", "true pixels"),
}

LOWER_IS_BETTER = frozenset({"calibration_error", "brier"})


def title(name: str) -> str:
    """The score's name for people; names of one image's scores are put together from the score's own."""
    if name in SCORES:
        return SCORES[name][0]
    for end in ("mean", "median"):
        inner = name.removeprefix("image_").removesuffix(f"_{end}")
        if name == f"image_{inner}_{end}" and inner in SCORES:
            return f"{SCORES[inner][0]}, {end} over images"
    return name.replace("_", " ")


def meaning(name: str) -> str:
    """What the score says, in a few words."""
    if name in SCORES:
        return SCORES[name][1]
    return "of each image alone, where defined" if name.startswith("image_") else ""


def best(metric: str, values: Mapping[str, float]) -> set[str]:
    """The names with the best value, where one is better than another."""
    there = [value for value in values.values() if value == value]
    if metric.startswith(("best_threshold", "classes")) or len(set(there)) < 2:
        return set()
    target = min(there) if metric in LOWER_IS_BETTER else max(there)
    return {name for name, value in values.items() if value == target}
