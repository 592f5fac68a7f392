"""What verbs share: the shape of a verb, tables for people, and progress on stderr."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from edgeml.core.progress import Progress as ProgressCallback
from edgeml.core.progress import ProgressEvent, silent

_LINE_EVERY_S = 10.0
_LOG_WIDTH = 160


def nothing() -> None:
    """Show nothing: for verbs that have said all there is to say."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a verb did.

    Attributes:
        result: The JSON object.
        show: Prints the same for people.
        code: Exit code.
        error: The ``error:`` line of a non-zero code that is no exception, such as a failed check.
        wait: Called after printing: a server waits here for its end.
    """

    result: dict[str, Any]
    show: Callable[[], None] = nothing
    code: int = 0
    error: str | None = None
    wait: Callable[[], None] | None = None


@dataclass(frozen=True, kw_only=True)
class Verb:
    """One verb of the command line.

    Attributes:
        name: Its words, such as ``export`` or ``triton serve``.
        help: One line.
        configure: Adds its arguments.
        run: Does it.
    """

    name: str
    help: str
    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, ProgressCallback], Outcome]


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table to stdout."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    # A log has no width of its own: eighty columns would fold every figure.
    width = None if sys.stdout.isatty() else _LOG_WIDTH
    # A path or a label may hold what rich reads as markup.
    Console(width=width, markup=False, emoji=False, highlight=False).print(table)


def show_line(text: str) -> None:
    """Print one line to stdout, without markup."""
    Console(emoji=False).print(text, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def progress_printer(*, silent: bool) -> Iterator[ProgressCallback]:
    """Yield a progress callback: bars on a terminal, a line every ten seconds elsewhere.

    Args:
        silent: Whether to print nothing, for ``--json``.
    """
    if silent:
        yield _ignore
    elif sys.stderr.isatty():
        columns = (
            TextColumn("{task.description:16}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(),
            # A note may say more than a line holds: it is wrapped, never cut.
            TextColumn("{task.fields[note]}", markup=False, table_column=Column(ratio=1)),
        )
        with Progress(*columns, console=Console(stderr=True)) as bars:
            yield _Bars(bars).update
    else:
        yield _Lines().update


_ignore = silent


class _Bars:
    """One bar a stage."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def update(self, event: ProgressEvent) -> None:
        task = self._tasks.get(event.stage)
        if task is None:
            task = self._tasks[event.stage] = self._bars.add_task(event.stage, note="")
        total = event.total or None
        self._bars.update(task, completed=event.done, total=total, note=event.note)


class _Lines:
    """Plain lines for logs: each stage's first and last event, and one every ten seconds."""

    def __init__(self) -> None:
        self._last: tuple[str, float] = ("", 0.0)

    def update(self, event: ProgressEvent) -> None:
        stage, when = self._last
        now = time.monotonic()
        done = event.total > 0 and event.done >= event.total
        if stage == event.stage and not done and now - when < _LINE_EVERY_S:
            return
        self._last = (event.stage, now)
        total = f"/{event.total}" if event.total else ""
        sys.stderr.write(f"{event.stage}: {event.done}{total} {event.note}".rstrip() + "\n")
        sys.stderr.flush()
