"""``edgeml serve`` as a process: it says where it is, answers, and ends at a signal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from edgeml.cli.main import main
from tests.pictures import rgb_file


def test_it_serves_until_a_signal(small: Path) -> None:
    command = [sys.executable, "-m", "edgeml", "serve", str(small), "--port", "0", "--json"]
    with subprocess.Popen([*command, "--threads", "1"], stdout=subprocess.PIPE, text=True) as run:
        try:
            assert run.stdout is not None
            said = json.loads(run.stdout.readline())
            request = urllib.request.Request(
                f"{said['url']}/predict", data=rgb_file(), headers={"Content-Type": "image/png"}
            )
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert json.load(answer)["served_by"] == said["served_by"]
            run.send_signal(signal.SIGTERM)
            assert run.wait(timeout=30) == 0
        finally:
            run.kill()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--port", "70000"], "the port is 70000"),
        (["--max-body", "0"], "more than 0 was expected"),
        (["--workers", "0"], "workers is 0"),
        (["--threads", "0"], "num_threads is 0"),
        (["--variant", "int3"], "there is no variant 'int3'"),
    ],
)
def test_a_wrong_request_is_one_line(
    small: Path, words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert main(["serve", str(small), *words]) == 2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert expected in said
    assert said.count("\n") == 1
