"""Progress for people: what a note says is on the screen, however long it is."""

from __future__ import annotations

import io

import pytest

from edgeml.cli.output import progress_printer
from edgeml.core.progress import ProgressEvent


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_long_note_is_wrapped_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    words = [f"word{number}" for number in range(40)]
    note = " ".join([*words, "[bold]label[/bold]"])
    with progress_printer(silent=False) as progress:
        progress(ProgressEvent(stage="look at the data", done=1, total=1, note=note))
    shown = "".join(terminal.getvalue().split())
    for word in (*words, "[bold]label[/bold]"):
        assert word in shown
