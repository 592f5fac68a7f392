"""A trained ranker on disk: safetensors for the weights, JSON for the rest; no pickle."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from edgeml.errors import DataError
from edgeml.tasks.recommendation.ranking import RankingFields
from edgeml.training.recommendation.ranker_loop import TrainedRanker
from edgeml.training.recommendation.ranker_settings import RankerSettings
from edgeml.training.recommendation.wide_and_deep import WideAndDeep

_WEIGHTS = "ranker.safetensors"
_DESCRIPTION = "ranker.json"


def save_ranker(trained: TrainedRanker, folder: Path) -> tuple[str, ...]:
    """Write a ranker into an existing folder and return the names of its files."""
    state = {
        name: value.detach().clone().contiguous()
        for name, value in trained.module.state_dict().items()
    }
    save_file(state, folder / _WEIGHTS)
    value = {
        "fields": trained.fields.to_json(),
        "settings": trained.settings.to_json(),
        "validation": trained.validation,
        "epochs": trained.epochs,
        "history": list(trained.history),
    }
    (folder / _DESCRIPTION).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    return (_WEIGHTS, _DESCRIPTION)


def load_ranker(folder: Path) -> TrainedRanker:
    """Read what :func:`save_ranker` wrote.

    Raises:
        DataError: A file is missing or damaged, or the two do not fit together.
    """
    try:
        value = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
        fields = RankingFields.from_json(value["fields"])
        settings = RankerSettings.from_json(value["settings"])
        module = WideAndDeep(fields, settings)
        module.load_state_dict(load_file(folder / _WEIGHTS))
        trained = TrainedRanker(
            module=module.eval(),
            fields=fields,
            settings=settings,
            validation=float(value["validation"]),
            epochs=float(value["epochs"]),
            history=tuple(float(row) for row in value["history"]),
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as exc:
        reason = f"holds no ranker that can be read ({str(exc).splitlines()[0]}); train it again"
        raise DataError(source=str(folder), reason=reason) from exc
    return trained
