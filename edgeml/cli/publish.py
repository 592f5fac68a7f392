"""``edgeml publish`` and ``edgeml rollback``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from edgeml.cli.output import Outcome, Verb, show_line
from edgeml.cli.queue_bound import add_queue_arguments, bounded
from edgeml.core.progress import Progress

if TYPE_CHECKING:
    from edgeml.serving.repository.options import ServingOptions
    from edgeml.serving.repository.publish import Published


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
    numbers = (
        ("threads", 1, "on a CPU, for all instances together"),
        ("instances", 1, "copies of the model that answer at the same time"),
        ("max-batch-size", 32, "most samples of one run"),
        ("queue-delay-us", 0, "how long a request waits for others to share a run with"),
        ("max-queue-size", 0, "requests that may wait; 0 is without a bound"),
        ("queue-timeout-us", 0, "after so long in the queue a request is refused; 0 is never"),
        ("priority", 0, "1 gets twice the turns of 2 where models wait for resources; 0 is unsaid"),
    )
    for name, default, about in numbers:
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{about} ({default})")
    add_queue_arguments(parser)
    parser.add_argument(
        "--resource",
        action="append",
        default=[],
        type=_resource,
        metavar="NAME=N",
        help="what an instance takes of the server while it runs; may be repeated",
    )
    parser.add_argument("--tensorrt", action="store_true", help="on GPUs, through TensorRT")
    parser.add_argument(
        "--encoded", action="store_true", help="also a model that takes JPEG or PNG files"
    )
    parser.add_argument("--no-warmup", action="store_true", help="run no golden samples at start")
    parser.add_argument(
        "--keep", type=int, default=None, help="versions to keep, of which two always stay (all)"
    )
    _add_server(parser)


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--server",
        default=None,
        metavar="URL",
        help="http://host:port or grpc://host:port of the server that shall load it",
    )


def _configure_rollback(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="name of the model")
    parser.add_argument("--repository", required=True, help="Triton model repository")
    parser.add_argument(
        "--to", type=int, default=None, help="version; default: the one that was served before"
    )
    _add_server(parser)


def _resource(text: str) -> tuple[str, int]:
    name, separator, count = text.partition("=")
    if not separator or not name or not count.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is no resource; NAME=N was expected")
    return name, int(count)


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    import edgeml

    done = edgeml.publish(
        arguments.bundle,
        repository=arguments.repository,
        name=arguments.name,
        fallback=arguments.fallback,
        config_only=arguments.config_only,
        options=bounded(_options(arguments), arguments),
        server=arguments.server,
        keep=arguments.keep,
        progress=progress,
    )
    return _outcome(done, config_only=arguments.config_only)


def _options(arguments: argparse.Namespace) -> ServingOptions:
    import edgeml

    return edgeml.ServingOptions(
        num_threads=arguments.threads,
        instances=arguments.instances,
        max_batch_size=arguments.max_batch_size,
        queue_delay_us=arguments.queue_delay_us,
        max_queue_size=arguments.max_queue_size,
        queue_timeout_us=arguments.queue_timeout_us,
        priorities=arguments.priorities,
        resources=dict(arguments.resource),
        priority=arguments.priority,
        tensorrt=arguments.tensorrt,
        warmup=not arguments.no_warmup,
        encoded=arguments.encoded,
    )


def _run_rollback(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    import edgeml

    done = edgeml.rollback(
        arguments.model,
        repository=arguments.repository,
        to=arguments.to,
        server=arguments.server,
        progress=progress,
    )
    return _outcome(done, config_only=False)


def _outcome(done: Published, *, config_only: bool) -> Outcome:
    result: dict[str, Any] = {
        "model": done.model,
        "version": done.version,
        "path": str(done.path),
        "previous": done.previous,
        "server": done.server,
        "checks": list(done.checks),
        "removed": list(done.removed),
        "recovered": done.recovered or None,
    }
    text = f"{done.path}: version {done.version}"
    if done.parts:
        result["parts"] = list(done.parts)
        text += f", with {', '.join(done.parts)}"
    lines = [text, *(f"checked: {line}" for line in done.checks)]
    if done.recovered:
        lines.insert(0, f"before: {done.recovered}")
    if done.removed:
        lines.append(f"removed: version {', '.join(map(str, done.removed))}")
    if done.server is not None:
        lines.append(f"served by {done.server}")
    elif not config_only:
        lines.append(
            "files only: a server that runs serves what it has loaded, until it loads the model "
            "again; name it with --server to have that done and checked"
        )
    return Outcome(result=result, show=lambda: _show(lines))


def _show(lines: list[str]) -> None:
    for line in lines:
        show_line(line)


VERB = Verb(
    name="publish", help="put a bundle into a Triton repository", configure=_configure, run=_run
)
ROLLBACK = Verb(
    name="rollback",
    help="serve an older version of a published model again",
    configure=_configure_rollback,
    run=_run_rollback,
)
