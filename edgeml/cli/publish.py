"""``edgeml publish``."""

from __future__ import annotations

import argparse
from typing import Any

from edgeml.cli.output import Outcome, Verb, show_line
from edgeml.core.progress import Progress


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="folder of the bundle")
    parser.add_argument("--repository", required=True, help="Triton model repository")
    parser.add_argument("--name", default=None, help="the model's name; default: the bundle's")
    parser.add_argument(
        "--fallback",
        default="allowed",
        choices=("required", "allowed", "forbidden"),
        help="whether a CPU may serve what a GPU should (allowed)",
    )
    parser.add_argument("--config-only", action="store_true", help="leave the artefacts out")
    parser.add_argument("--threads", type=int, default=1, help="of one inference on a CPU (1)")


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    del progress
    import edgeml

    done = edgeml.publish(
        arguments.bundle,
        repository=arguments.repository,
        name=arguments.name,
        fallback=arguments.fallback,
        config_only=arguments.config_only,
        num_threads=arguments.threads,
    )
    result: dict[str, Any] = {
        "model": done.model,
        "version": done.version,
        "path": str(done.path),
    }
    text = f"{done.path}: version {done.version}"
    if done.parts:
        result["parts"] = list(done.parts)
        text += f", with {', '.join(done.parts)}"
    return Outcome(result=result, show=lambda: show_line(text))


VERB = Verb(
    name="publish", help="put a bundle into a Triton repository", configure=_configure, run=_run
)
