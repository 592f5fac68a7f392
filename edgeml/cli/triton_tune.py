"""``edgeml triton tune``."""

from __future__ import annotations

import argparse

from edgeml.cli.durations import duration
from edgeml.cli.output import Outcome, Verb, show_line, show_table
from edgeml.core.progress import Progress

_COLUMNS = (
    "instances",
    "threads_each",
    "max_batch_size",
    "queue_delay_us",
    "per_s",
    "p50_ms",
    "p99_ms",
    "errors",
    "within",
)


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a model of the repository")
    parser.add_argument("--repository", required=True, help="Triton model repository")
    parser.add_argument("--p99", type=duration, required=True, help="bound, as 20ms")
    parser.add_argument("--threads", type=int, default=None, help="for all instances (all here)")
    parser.add_argument("--callers", type=int, default=16, help="requests under way at once (16)")
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="of each of three measurements a setting (2)"
    )


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    from edgeml.workflows.triton_tuning import tune_triton

    result = tune_triton(
        arguments.repository,
        model=arguments.model,
        p99_ms=1e3 * arguments.p99,
        num_threads=arguments.threads,
        callers=arguments.callers,
        seconds=arguments.seconds,
        progress=progress,
    )

    def show() -> None:
        rows = [tuple(_cell(row[name]) for name in _COLUMNS) for row in result["rows"]]
        show_table(f"{arguments.model}: {arguments.callers} callers", _COLUMNS, rows)
        best = result["chosen"]
        kept = "keeps" if result["within"] else "nothing keeps the bound; nearest"
        show_line(
            f"{kept}: {best['instances']} x {best['threads_each']} threads, batches to "
            f"{best['max_batch_size']}, delay {best['queue_delay_us']} µs: {best['per_s']:.0f} a "
            f"second, p99 {best['p99_ms']:.1f} ms; written to {result['config']}"
        )

    return Outcome(result=result, show=show)


def _cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


VERB = Verb(
    name="triton tune",
    help="find the best instances, batch and delay of a model under a bound on p99",
    configure=_configure,
    run=_run,
)
