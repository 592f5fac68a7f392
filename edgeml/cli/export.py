"""``edgeml export``."""

from __future__ import annotations

import argparse
from typing import Any

from edgeml.cli.durations import duration
from edgeml.cli.output import Outcome, Verb, show_line, show_table
from edgeml.core.manifest import ENGINE
from edgeml.core.progress import Progress
from edgeml.errors import GateError, InputError


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        help="checkpoint folder, .onnx file, package.module:factory; or, with --data, a fine-tuned "
        "Hugging Face classifier of texts or images",
    )
    parser.add_argument("--out", required=True, help="folder of the bundle")
    parser.add_argument(
        "--data",
        default=None,
        help="prove on this data, not the checkpoint's; for graphs an .npz: one array an input, "
        "first axis samples, perhaps 'labels'",
    )
    parser.add_argument("--name", default=None, help="the bundle's name")
    parser.add_argument("--bundle-version", default="1", help="the bundle's version (1)")
    parser.add_argument(
        "--max-drop", type=float, default=0.005, help="largest drop of accuracy, a fraction (0.005)"
    )
    parser.add_argument(
        "--require-proof", action="store_true", help="the bound of the drop must be within it too"
    )
    parser.add_argument("--threads", type=int, default=None, help="default: all we may use")
    parser.add_argument(
        "--budget", type=duration, default=600.0, help="how long it is meant to take, as 90s (10m)"
    )
    parser.add_argument(
        "--engines", default=ENGINE, help="comma-separated: onnxruntime, openvino (onnxruntime)"
    )
    parser.add_argument(
        "--goal", choices=("latency", "size"), default="latency", help="what is chosen by (latency)"
    )
    parser.add_argument(
        "--outputs",
        choices=("auto", "classes", "values"),
        default="auto",
        help="what a graph's output holds, without labels (auto)",
    )
    parser.add_argument(
        "--candidate",
        action="append",
        default=[],
        metavar="FILE",
        help="an .onnx file made elsewhere, to be judged too; may be repeated",
    )
    parser.add_argument(
        "--sensitivity", action="store_true", help="measure blocks even where no choice needs it"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the calibration sample (0)")
    for flag, text in (
        ("--require-speedup", "fail unless the chosen variant is this many times as fast"),
        ("--max-latency-ms", "fail if its median latency is higher"),
        ("--max-size-mb", "fail if its file is larger (10**6 bytes)"),
        ("--min-accuracy", "fail if its accuracy is lower, a fraction"),
    ):
        parser.add_argument(flag, type=float, default=None, help=text)


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    from edgeml.core.gate import Gate
    from edgeml.workflows.exporting import ExportSettings, export

    try:
        gate = Gate(max_accuracy_drop=arguments.max_drop, require_proof=arguments.require_proof)
    except ValueError as exc:
        raise InputError(str(exc), item="--max-drop") from exc
    made = export(
        arguments.source,
        out=arguments.out,
        data=arguments.data,
        name=arguments.name,
        version=arguments.bundle_version,
        gate=gate,
        settings=ExportSettings(
            num_threads=arguments.threads,
            seed=arguments.seed,
            budget_s=arguments.budget,
            engines=tuple(filter(None, arguments.engines.split(","))),
            goal=arguments.goal,
            outputs=arguments.outputs,
            files=tuple(arguments.candidate),
            sensitivity=arguments.sensitivity,
        ),
        progress=progress,
    )
    chosen = next(row for row in made.rows if row["name"] == made.bundle.manifest.chosen)
    result = made.to_json()
    try:
        _check_gates(arguments, chosen)
    except GateError as exc:
        # The bundle stands and its figures are the answer to "how far off?": shown all the same.
        return Outcome(result=result, show=lambda: _show(result), code=1, error=str(exc))
    return Outcome(result=result, show=lambda: _show(result))


def _check_gates(arguments: argparse.Namespace, chosen: dict[str, Any]) -> None:
    """Fail on a limit that was asked for by name; the bundle is written all the same."""
    size_mb = chosen["size_bytes"] / 1e6
    limits = (
        ("--require-speedup", arguments.require_speedup, chosen["speedup"], -1),
        ("--max-latency-ms", arguments.max_latency_ms, chosen["p50_ms"], 1),
        ("--max-size-mb", arguments.max_size_mb, size_mb, 1),
        ("--min-accuracy", arguments.min_accuracy, chosen["accuracy"], -1),
    )
    for name, limit, measured, sign in limits:
        if limit is not None and not sign * measured <= sign * limit:
            raise GateError(
                f"{name}: the chosen variant '{chosen['name']}' has {measured:.4g}, {limit:g} was "
                "asked for; the bundle is written; relax the limit or change the model",
                gate=name,
                measured=measured,
                limit=limit,
            )


def _show(result: dict[str, Any]) -> None:
    rows = [
        (
            row["name"],
            _figure(row["size_bytes"], ".2f", scale=1e-6),
            _figure(row["accuracy"], ".4f"),
            _figure(row["reported_accuracy"], ".4f"),
            _figure(row["p50_ms"], ".3f"),
            _figure(row["speedup"], ".2f", unit="x"),
            row["verdict"],
            row["reason"],
        )
        for row in result["variants"]
    ]
    columns = ("variant", "MB", "accuracy", "test", "p50 ms", "speed", "verdict", "reason")
    show_table(f"{result['bundle']}", columns, rows)
    together = result["chosen_for_batches"]
    for note in result["notes"]:
        show_line(f"note: {note}")
    show_line(f"report: {result['report']}/report.html ({result['seconds']:.0f} s)")
    batches = f", {together} for batches" if together != result["chosen"] else ""
    show_line(f"chosen: {result['chosen']}{batches} (by device: {result['chosen_by_device']})")


def _figure(value: float | None, form: str, *, scale: float = 1.0, unit: str = "") -> str:
    """Return a figure as text; ``-`` where nothing was measured."""
    return "-" if value is None else f"{value * scale:{form}}{unit}"


VERB = Verb(
    name="export",
    help="export to ONNX variants, prove each, choose",
    configure=_configure,
    run=_run,
)
