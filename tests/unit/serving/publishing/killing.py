"""A process that publishes or rolls back and is killed at a step. Run with a JSON list of orders.

Each order runs in a child of its own, forked before anything has started a thread, which ends
itself by SIGKILL when it is told of the step: no handler, no ``finally``, nothing is flushed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def kill_each(orders: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Carry out orders, each killed at its step.

    Args:
        orders: ``verb``, ``subject`` (a bundle, or a model's name), ``step`` (None for none), and
            ``options``, the keyword arguments of the verb.

    Returns:
        Of each, the steps that it was told of; the last one is where it was killed.
    """
    command = [sys.executable, "-m", __name__, json.dumps(list(orders))]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=250)
    return json.loads(done.stdout)


def _main(orders: list[dict[str, Any]]) -> None:
    import edgeml
    import edgeml.serving.publishing.changing
    import edgeml.workflows.publishing  # before the forks, so that each is quick

    told = []
    for order in orders:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:

            def progress(event: Any, order=order, writing=writing) -> None:
                os.write(writing, f"{event.note}\n".encode())
                if event.note == order["step"]:
                    os.kill(os.getpid(), signal.SIGKILL)

            verb = getattr(edgeml, order["verb"])
            try:
                verb(order["subject"], progress=progress, **order["options"])
            except BaseException as exc:
                sys.stderr.write(f"{order}: {type(exc).__name__}: {exc}\n")
                os._exit(1)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as steps:
            told.append(steps.read().splitlines())
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if killed != (order["step"] is not None) or (not killed and status != 0):
            raise SystemExit(f"{order} ended with {status}")
    sys.stdout.write(json.dumps(told))


def steps_in(root: Path) -> list[str]:
    """Return what a killed publish has left in and beside a repository."""
    left = [path.name for path in root.iterdir() if "__candidate" in path.name]
    left += [path.name for path in root.glob(".*.publishing.json")]
    beside = root.parent / f".{root.name}.publishing"
    return left + ([beside.name] if beside.exists() else [])


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
