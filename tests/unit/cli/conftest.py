"""One way to run the command line in this process, with what it wrote and its exit code."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from edgeml.cli import main


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout; anything else there is a failure."""
        value: dict[str, Any] = json.loads(self.out)
        assert self.out.count("\n") == 1
        assert isinstance(value, dict)
        return value

    @property
    def error(self) -> str:
        """The one ``error:`` line, which ends stderr."""
        lines = self.err.splitlines()
        found = [line for line in lines if line.startswith("error:")]
        assert len(found) == 1, self.err
        assert lines[-1] == found[0]
        assert "Traceback" not in self.err
        return found[0]


Run = Callable[..., Done]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command; what C libraries write is captured too."""

    def call(*arguments: object) -> Done:
        capfd.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # as in a process of its own
            code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Done(code=code, out=out, err=err)

    return call
