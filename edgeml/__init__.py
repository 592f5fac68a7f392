"""From a checkpoint to a verified deployment, at the edge or on a server.

The public names are looked up on first use, so that ``import edgeml`` itself costs next to nothing
and an edge device never loads what it does not run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Bundle": "edgeml.core.bundle",
    "CanarySettings": "edgeml.serving.routing.health",
    "CascadeCurve": "edgeml.workflows.cascades",
    "Comparison": "edgeml.workflows.comparing",
    "EdgemlError": "edgeml.errors",
    "ExportSettings": "edgeml.workflows.exporting",
    "FallbackSettings": "edgeml.serving.routing.fallback_settings",
    "Gate": "edgeml.core.gate",
    "ImageOptions": "edgeml.workflows.training_images",
    "LimitSettings": "edgeml.serving.routing.limit",
    "ModelSignature": "edgeml.core.signature",
    "Prediction": "edgeml.core.predictor",
    "Predictor": "edgeml.core.predictor",
    "Profile": "edgeml.workflows.profiling.profile",
    "ProfileSettings": "edgeml.workflows.profiling.settings",
    "Recommendation": "edgeml.tasks.recommendation.recommendation",
    "Recommender": "edgeml.recommending.recommender",
    "RecommenderSettings": "edgeml.workflows.recommendation_settings",
    "Report": "edgeml.workflows.reporting",
    "ReportTable": "edgeml.workflows.reporting",
    "Robustness": "edgeml.workflows.robustness",
    "ServedBundle": "edgeml.workflows.web",
    "ServiceLevel": "edgeml.workflows.profiling.settings",
    "ServingOptions": "edgeml.serving.repository.options",
    "TensorSpec": "edgeml.core.signature",
    "TextTrainingSettings": "edgeml.training.text_settings",
    "Texts": "edgeml.workflows.finding",
    "TrainingSettings": "edgeml.training.settings",
    "canary": "edgeml.workflows.canaries",
    "cascade": "edgeml.workflows.cascades",
    "cascade_curve": "edgeml.workflows.cascades",
    "compare": "edgeml.workflows.comparing",
    "connect": "edgeml.workflows.serving",
    "connect_async": "edgeml.workflows.serving",
    "deadline": "edgeml.core.deadline",
    "export": "edgeml.workflows.exporting",
    "find_data": "edgeml.workflows.finding",
    "finetune": "edgeml.workflows.training",
    "load": "edgeml.workflows.loading",
    "load_checkpoint": "edgeml.workflows.checkpoints",
    "load_items": "edgeml.workflows.checkpoints",
    "load_recommender": "edgeml.workflows.loading",
    "load_split": "edgeml.workflows.checkpoints",
    "load_texts": "edgeml.workflows.finding",
    "priority": "edgeml.core.priority",
    "profile": "edgeml.workflows.profiling.profile",
    "promote": "edgeml.workflows.canaries",
    "publish": "edgeml.workflows.publishing",
    "queue_for_deadline": "edgeml.workflows.limiting",
    "robustness": "edgeml.workflows.robustness",
    "rollback": "edgeml.workflows.publishing",
    "serve": "edgeml.workflows.web",
    "serve_triton": "edgeml.workflows.serving",
    "shadow": "edgeml.workflows.canaries",
    "training_curve": "edgeml.workflows.checkpoints",
    "training_report": "edgeml.workflows.checkpoints",
    "tune": "edgeml.workflows.tuning",
    "verify": "edgeml.workflows.verifying",
    "with_fallback": "edgeml.workflows.failing_over",
    "with_limit": "edgeml.workflows.limiting",
    "write_report": "edgeml.workflows.reporting",
}

__all__ = [
    "Bundle",
    "CanarySettings",
    "CascadeCurve",
    "Comparison",
    "EdgemlError",
    "ExportSettings",
    "FallbackSettings",
    "Gate",
    "ImageOptions",
    "LimitSettings",
    "ModelSignature",
    "Prediction",
    "Predictor",
    "Profile",
    "ProfileSettings",
    "Recommendation",
    "Recommender",
    "RecommenderSettings",
    "Report",
    "ReportTable",
    "Robustness",
    "ServedBundle",
    "ServiceLevel",
    "ServingOptions",
    "TensorSpec",
    "TextTrainingSettings",
    "Texts",
    "TrainingSettings",
    "__version__",
    "canary",
    "cascade",
    "cascade_curve",
    "compare",
    "connect",
    "connect_async",
    "deadline",
    "export",
    "find_data",
    "finetune",
    "load",
    "load_checkpoint",
    "load_items",
    "load_recommender",
    "load_split",
    "load_texts",
    "priority",
    "profile",
    "promote",
    "publish",
    "queue_for_deadline",
    "robustness",
    "rollback",
    "serve",
    "serve_triton",
    "shadow",
    "training_curve",
    "training_report",
    "tune",
    "verify",
    "with_fallback",
    "with_limit",
    "write_report",
]

if TYPE_CHECKING:
    from edgeml.core.bundle import Bundle
    from edgeml.core.deadline import deadline
    from edgeml.core.gate import Gate
    from edgeml.core.predictor import Prediction, Predictor
    from edgeml.core.priority import priority
    from edgeml.core.signature import ModelSignature, TensorSpec
    from edgeml.errors import EdgemlError
    from edgeml.serving.repository.options import ServingOptions
    from edgeml.serving.routing.fallback_settings import FallbackSettings
    from edgeml.serving.routing.health import CanarySettings
    from edgeml.serving.routing.limit import LimitSettings
    from edgeml.training.settings import TrainingSettings
    from edgeml.training.text_settings import TextTrainingSettings
    from edgeml.workflows.canaries import canary, promote, shadow
    from edgeml.workflows.cascades import CascadeCurve, cascade, cascade_curve
    from edgeml.workflows.checkpoints import (
        load_checkpoint,
        load_items,
        load_split,
        training_curve,
        training_report,
    )
    from edgeml.workflows.comparing import Comparison, compare
    from edgeml.workflows.exporting import ExportSettings, export
    from edgeml.workflows.failing_over import with_fallback
    from edgeml.workflows.finding import Texts, find_data, load_texts
    from edgeml.workflows.limiting import queue_for_deadline, with_limit
    from edgeml.workflows.loading import load, load_recommender
    from edgeml.workflows.profiling.profile import Profile, profile
    from edgeml.workflows.profiling.settings import ProfileSettings, ServiceLevel
    from edgeml.workflows.publishing import publish, rollback
    from edgeml.workflows.recommendation_settings import RecommenderSettings
    from edgeml.workflows.reporting import Report, ReportTable, write_report
    from edgeml.workflows.robustness import Robustness, robustness
    from edgeml.workflows.serving import connect, connect_async, serve_triton
    from edgeml.workflows.training import finetune
    from edgeml.workflows.training_images import ImageOptions
    from edgeml.workflows.tuning import tune
    from edgeml.workflows.verifying import verify
    from edgeml.workflows.web import ServedBundle, serve


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'edgeml' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
