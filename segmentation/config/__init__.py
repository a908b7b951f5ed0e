"""The options of every command, with their types: `conf/` says what each is for, `ranges.py` has the ranges."""

from segmentation.config.common import (
    Section,
    Threshold,
    check_threshold,
    checkpoint_file,
    full_precision,
)
from segmentation.config.evaluation import (
    EvaluationSettings,
    LeaderboardSettings,
    read_evaluation_settings,
    read_leaderboard_settings,
)
from segmentation.config.export import (
    ExportSettings,
    Layout,
    read_export_settings,
)
from segmentation.config.prediction import (
    ANNOTATION_FILES,
    ANNOTATIONS,
    Existing,
    ObjectOptions,
    OutputKind,
    PolygonFormat,
    PolygonOptions,
    PredictionSettings,
    Span,
    read_prediction_settings,
)
from segmentation.config.training import (
    Auxiliary,
    BenchmarkSettings,
    Budget,
    DataSettings,
    InspectionSettings,
    ModelSettings,
    TrainingSettings,
    read_benchmark_settings,
    read_inspection_settings,
    read_training_settings,
)

__all__ = [
    "ANNOTATIONS",
    "ANNOTATION_FILES",
    "Auxiliary",
    "BenchmarkSettings",
    "Budget",
    "DataSettings",
    "EvaluationSettings",
    "Existing",
    "ExportSettings",
    "InspectionSettings",
    "Layout",
    "LeaderboardSettings",
    "ModelSettings",
    "ObjectOptions",
    "OutputKind",
    "PolygonFormat",
    "PolygonOptions",
    "PredictionSettings",
    "Section",
    "Span",
    "Threshold",
    "TrainingSettings",
    "check_threshold",
    "checkpoint_file",
    "full_precision",
    "read_benchmark_settings",
    "read_evaluation_settings",
    "read_export_settings",
    "read_inspection_settings",
    "read_leaderboard_settings",
    "read_prediction_settings",
    "read_training_settings",
]
