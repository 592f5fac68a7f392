"""How good a recommender is: full rankings, logged impressions, and what lies beyond accuracy."""

from edgeml.recommending.evaluation.beyond_accuracy import beyond_accuracy
from edgeml.recommending.evaluation.impressions import auc, gauc, impression_metrics, log_loss
from edgeml.recommending.evaluation.intervals import (
    Interval,
    auc_interval,
    clustered_interval,
    mean_interval,
    paired_interval,
)
from edgeml.recommending.evaluation.rankings import means, ranking_metrics, recall_ceiling
from edgeml.recommending.evaluation.records import (
    SplitRecord,
    TopRecord,
    read_split,
    read_top,
    write_split,
    write_top,
)
from edgeml.recommending.evaluation.segments import by_segment, history_segments
from edgeml.recommending.evaluation.stages import StageLoss, stage_losses
from edgeml.recommending.evaluation.systems import evaluate_system, recompute

__all__ = [
    "Interval",
    "SplitRecord",
    "StageLoss",
    "TopRecord",
    "auc",
    "auc_interval",
    "beyond_accuracy",
    "by_segment",
    "clustered_interval",
    "evaluate_system",
    "gauc",
    "history_segments",
    "impression_metrics",
    "log_loss",
    "mean_interval",
    "means",
    "paired_interval",
    "ranking_metrics",
    "read_split",
    "read_top",
    "recall_ceiling",
    "recompute",
    "stage_losses",
    "write_split",
    "write_top",
]
