"""``triton serve`` and ``status``: what their arguments mean and what they print."""

from __future__ import annotations

import argparse

import pytest

from edgeml.cli import triton_serve
from edgeml.cli.main import main
from edgeml.cli.triton_serve import _limits_of, show_server
from edgeml.serving.guard.checks import GuardLimits


def limits(*words: str) -> GuardLimits | None:
    parser = argparse.ArgumentParser()
    triton_serve._configure(parser)
    return _limits_of(parser.parse_args(["--repository", "r", *words]))


def test_a_guard_is_asked_for_and_has_limits():
    assert limits() is None
    assert limits("--guard") == GuardLimits()
    given = limits("--guard", "--guard-max-body", "0.5", "--guard-max-depth", "9")
    assert given == GuardLimits(max_body_bytes=1 << 19, max_depth=9)
    assert limits("--guard", "--guard-allow-control") == GuardLimits(allow_control=True)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--guard-allow-control"], "add --guard"),
        (["--guard-max-depth", "3"], "add --guard"),
        (["--guard", "--guard-max-depth", "0"], "max_depth is 0"),
        (["--guard", "--guard-max-body", "-1"], "more than 0"),
        (["--guard", "--guard-max-body", "nan"], "more than 0"),
        (["--drain", "0"], "drain_s is 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(tmp_path, capsys, words, reason):
    assert main(["triton", "serve", "--json", "--repository", str(tmp_path), *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error:")
    assert reason in err
    assert err.count("\n") == 1


def test_status_shows_what_supervision_saw(capsys):
    row = {"name": "m", "version": "1", "state": "ready", "device": "cpu", "kind": "KIND_CPU"}
    seen = {"crashes": 3, "restarts": 2, "deaths": 5, "cures": 4, "left": {"gone": "no file"}}
    models = [{**row, "artefact": "int8.onnx", "reason": ""}]
    show_server({"http": "http://h", "supervision": seen, "models": models})
    text = capsys.readouterr().out
    assert "restarts: 2 after 3 crashes; models loaded again: 4 of 5 found dead" in text
    assert "left dead: gone: no file" in text
    assert "KIND_CPU" in text
