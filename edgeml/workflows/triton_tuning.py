"""``edgeml triton tune``: find how a model of a repository is served best, and write it there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.files import write_json
from edgeml.core.progress import Progress, ProgressEvent
from edgeml.errors import InputError
from edgeml.runtime.host import detect_host
from edgeml.serving.repository.config import (
    CPU_CONFIG,
    DEFAULT_CONFIG,
    config_text,
    numpy_dtype_of,
    parse_config,
)
from edgeml.serving.repository.samples import WARMUP
from edgeml.serving.repository.selecting import has_gpu
from edgeml.serving.server.serve import start_triton
from edgeml.serving.tuning.sweeping import Row, Setting, Sweep, choose, make_settings, sweep

TABLE = "tuning.json"


def tune_triton(
    repository: str | Path,
    *,
    model: str,
    p99_ms: float,
    num_threads: int | None = None,
    callers: int = 16,
    seconds: float = 2.0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure instances, threads, batch and delay of a model on a real server, and keep the best.

    The best is what answers most within the bound; where nothing keeps it, what comes nearest. It
    is written into the configuration that this machine uses, with its table beside it.

    Args:
        repository: The model repository.
        model: The model's name.
        p99_ms: Ninety-nine of a hundred answers shall take no longer, in milliseconds.
        num_threads: Threads for all instances together; None takes this machine's.
        callers: Requests under way at once.
        seconds: How long each setting is measured in each of three rounds.
        progress: Told of each measurement.

    Returns:
        ``model, config, chosen, within, rows``: rows as :class:`Row` gives them.

    Raises:
        InputError: There is no such model, it has no golden sample to send, or a number is none.
        HostError: No Triton is installed.
        ServerError: The server failed.
    """
    folder = Path(repository).absolute() / model
    place = _config_of(folder)
    config = parse_config(place.read_text(encoding="utf-8"), item=str(place))
    feed = _golden_feed(folder, config)
    threads = num_threads or detect_host().threads
    settings = make_settings(threads, fixed_batch=_batch_of_ensembles(folder, model, config))
    total, done = 3 * len(settings), 0

    def say(words: str) -> None:
        nonlocal done
        if progress is not None:
            progress(ProgressEvent(stage="triton tune", done=done, total=total, note=words))
        done += 1

    with start_triton(repository, models=[model]) as server:
        plan = Sweep(
            http=server.http,
            grpc=server.grpc,
            model=model,
            config=config,
            feed=feed,
            p99_ms=p99_ms,
            callers=callers,
            seconds=seconds,
        )
        rows = sweep(plan, settings, say=say)
    best = choose(rows)
    return _keep(folder, place, config, plan, rows, best)


def _config_of(folder: Path) -> Path:
    """Return the configuration that this machine would use."""
    places = (
        [folder / DEFAULT_CONFIG] if has_gpu() else [folder / CPU_CONFIG, folder / DEFAULT_CONFIG]
    )
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise InputError(
            f"there is no model '{folder.name}' in '{folder.parent}'; one that 'edgeml publish' "
            "wrote was expected; check --repository"
        )
    return found


def _golden_feed(folder: Path, config: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    rows = config.get("model_warmup") or []
    if not rows:
        raise InputError(
            f"the model '{folder.name}' has no golden sample to send; one was expected in its "
            "warm-up; publish it again without --no-warmup"
        )
    feed = {}
    for name, row in rows[0]["inputs"].items():
        path = folder / WARMUP / row["input_data_file"]
        try:
            values = np.frombuffer(path.read_bytes(), dtype=numpy_dtype_of(row["data_type"]))
            shape = [int(size) for size in row["dims"]]
            feed[name] = values.reshape([1, *shape])
        except (OSError, ValueError) as exc:
            raise InputError(
                f"the golden sample '{path}' cannot be used ({exc}); publish the bundle again"
            ) from exc
    return feed


def _batch_of_ensembles(folder: Path, model: str, config: Mapping[str, Any]) -> int | None:
    """Return the model's largest batch where an ensemble counts on it."""
    for path in folder.parent.glob(f"*/{DEFAULT_CONFIG}"):
        values = parse_config(path.read_text(encoding="utf-8"), item=str(path))
        steps = values.get("ensemble_scheduling", {}).get("step", [])
        if any(step.get("model_name") == model for step in steps):
            return int(config.get("max_batch_size", 0))
    return None


def _keep(
    folder: Path,
    place: Path,
    config: Mapping[str, Any],
    plan: Sweep,
    rows: list[Row],
    best: Row,
) -> dict[str, Any]:
    setting: Setting = best.setting
    pending = place.with_name(f".{place.name}.partial")
    pending.write_text(config_text(setting.apply(config)), encoding="utf-8")
    pending.replace(place)
    result = {
        "model": plan.model,
        "config": str(place.relative_to(folder)),
        "chosen": best.to_json(),
        "within": best.within,
        "p99_bound_ms": plan.p99_ms,
        "callers": plan.callers,
        "host": json.loads(json.dumps(detect_host().to_json())),
        "rows": [row.to_json() for row in rows],
    }
    write_json(folder / TABLE, result)
    return result
