"""Which instances, batch and delay serve a model best under a bound on its p99: measured.

Every setting is loaded into a real server in turn, and callers in a closed loop measure it. The
settings are visited in several rounds in changing order, so that a neighbour's load does not fall
on one of them.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeml.core.signature import Tensors
from edgeml.errors import InputError
from edgeml.serving.repository.options import ServingOptions
from edgeml.serving.server.control import load_model
from edgeml.serving.tuning.load import Load, Measured, run_load

_BATCHES = (1, 8, 32)
_DELAYS_US = (0, 1000)
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to serve.

    Attributes:
        instances: Copies of the model.
        threads_each: Threads of each.
        max_batch_size: Most samples of one run.
        queue_delay_us: How long a request waits for others.
    """

    instances: int
    threads_each: int
    max_batch_size: int
    queue_delay_us: int

    def apply(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return a configuration with this setting in it, as values."""
        changed = json.loads(json.dumps(config))
        for group in changed["instance_group"]:
            group["count"] = self.instances
        parameters = changed.setdefault("parameters", {})
        parameters["intra_op_thread_count"] = {"string_value": str(self.threads_each)}
        changed["max_batch_size"] = self.max_batch_size
        batching = changed.setdefault("dynamic_batching", {})
        batching.pop("preferred_batch_size", None)
        if self.queue_delay_us:
            batching["max_queue_delay_microseconds"] = self.queue_delay_us
        else:
            batching.pop("max_queue_delay_microseconds", None)
        return dict(changed)

    def options(self, before: ServingOptions) -> ServingOptions:
        """Return options that publish so."""
        return replace(
            before,
            num_threads=self.instances * self.threads_each,
            instances=self.instances,
            max_batch_size=self.max_batch_size,
            queue_delay_us=self.queue_delay_us,
        )


@dataclass(frozen=True, kw_only=True)
class Row:
    """A setting and what was measured: medians over the rounds.

    Attributes:
        setting: The setting.
        per_s: Answers a second.
        p50_ms: Half of the answers took no longer.
        p99_ms: Ninety-nine of a hundred took no longer.
        errors: Requests that failed, over all rounds.
        within: Whether p99 keeps the bound and nothing failed.
    """

    setting: Setting
    per_s: float
    p50_ms: float
    p99_ms: float
    errors: int
    within: bool

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        return {**asdict(self.setting), **{k: v for k, v in asdict(self).items() if k != "setting"}}


def make_settings(num_threads: int, *, fixed_batch: int | None = None) -> list[Setting]:
    """Return the settings that are worth a measurement on so many threads.

    Args:
        num_threads: For all instances together.
        fixed_batch: The largest batch where it may not change; None tries several.
    """
    counts = [count for count in range(1, num_threads + 1) if num_threads % count == 0]
    batches = _BATCHES if fixed_batch is None else (fixed_batch,)
    return [
        Setting(
            instances=count,
            threads_each=num_threads // count,
            max_batch_size=size,
            queue_delay_us=delay,
        )
        for count in counts
        for size in batches
        for delay in (_DELAYS_US if size > 1 else (0,))
    ]


def choose(rows: Sequence[Row]) -> Row:
    """Return the setting with the most answers a second within the bound, else the least p99."""
    within = [row for row in rows if row.within]
    if within:
        return max(within, key=lambda row: row.per_s)
    return min(rows, key=lambda row: (row.errors > 0, row.p99_ms))


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What to measure.

    Attributes:
        http: The server's HTTP endpoint, for model control.
        grpc: Its gRPC endpoint, for requests.
        model: The model's name.
        config: Its configuration, as values.
        feed: One request.
        p99_ms: The bound.
        callers: Requests under way at once.
        seconds: How long each setting is measured in each round.
        rounds: How often.
    """

    http: str
    grpc: str
    model: str
    config: Mapping[str, Any]
    feed: Tensors
    p99_ms: float
    callers: int = 16
    seconds: float = 2.0
    rounds: int = 3

    def __post_init__(self) -> None:
        if self.p99_ms <= 0 or self.seconds <= 0 or self.callers < 1 or self.rounds < 1:
            raise InputError(
                f"p99 {self.p99_ms:g} ms, {self.callers} callers, {self.rounds} rounds of "
                f"{self.seconds:g} s; positive numbers were expected"
            )


def sweep(plan: Sweep, settings: Sequence[Setting], *, say: Say, seed: int = 0) -> list[Row]:
    """Measure settings on a running server; the last one stays loaded.

    Args:
        plan: What to measure.
        settings: The settings.
        say: Told of each measurement.
        seed: Seed of the order.

    Returns:
        One row a setting, in their order.

    Raises:
        ServerError: A setting cannot be loaded, or nothing is answered.
    """
    found: dict[Setting, list[Measured]] = {setting: [] for setting in settings}
    order = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="edgeml-tune-") as folder:
        load = _load_of(plan, Path(folder))
        for number in range(plan.rounds):
            for setting in order.sample(list(settings), len(settings)):
                say(f"round {number + 1} of {plan.rounds}: {_words(setting)}")
                load_model(plan.http, plan.model, config=setting.apply(plan.config))
                found[setting].append(run_load(load))
    return [_row(setting, rows, plan.p99_ms) for setting, rows in found.items()]


def _load_of(plan: Sweep, folder: Path) -> Load:
    inputs = {}
    for number, (name, array) in enumerate(plan.feed.items()):
        np.save(folder / f"{number}.npy", array, allow_pickle=False)
        inputs[name] = str(folder / f"{number}.npy")
    return Load(
        url=plan.grpc,
        model=plan.model,
        inputs=inputs,
        callers=plan.callers,
        seconds=plan.seconds,
    )


def _row(setting: Setting, rows: Sequence[Measured], bound_ms: float) -> Row:
    p99 = statistics.median(row.p99_ms for row in rows)
    errors = sum(row.errors for row in rows)
    return Row(
        setting=setting,
        per_s=statistics.median(row.per_s for row in rows),
        p50_ms=statistics.median(row.p50_ms for row in rows),
        p99_ms=p99,
        errors=errors,
        within=p99 <= bound_ms and not errors,
    )


def _words(setting: Setting) -> str:
    return (
        f"{setting.instances} x {setting.threads_each} threads, batches to "
        f"{setting.max_batch_size}, delay {setting.queue_delay_us} µs"
    )
