"""Jobs in child processes: how they end, and that what they found is found again."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgeml.workflows import jobs
from edgeml.workflows.jobs import JobRunner, hash_of_files, key_of, results_folder, run_child

_WORKER = """
import json, sys
from pathlib import Path
job = json.loads(Path(sys.argv[1]).read_text())
result = Path(job["result"])
if job["do"] != "nothing":
    seed = (result / "seed").read_text() if (result / "seed").is_file() else ""
    (result / "found.json").write_text(json.dumps({"did": job["do"], "seed": seed}))
if job["do"] == "fail":
    raise SystemExit("first\\nlast words")
"""


@pytest.fixture
def runner(tmp_path: Path) -> JobRunner:
    (tmp_path / "worker.py").write_text(_WORKER)
    command = (sys.executable, str(tmp_path / "worker.py"))
    return JobRunner(tmp_path / "work", tmp_path / "results", command=command)


def _run(runner: JobRunner, do: str, key: str = "k", **more: Any) -> jobs.Outcome:
    return runner.run(key, {"do": do}, output="found.json", timeout_s=60, **more)


def test_a_job_is_done_once(runner: JobRunner) -> None:
    first, second = _run(runner, "this"), _run(runner, "that")
    assert first.value == second.value == {"did": "this", "seed": ""}
    assert (first.cached, second.cached) == (False, True)
    assert not _run(runner, "that", key="other").cached


def test_a_job_that_fails_leaves_nothing_and_says_why(runner: JobRunner) -> None:
    failed = _run(runner, "fail")
    assert failed.value is None
    assert failed.reason == "its process failed (last words)"
    assert list(runner.results.iterdir()) == []
    assert _run(runner, "this").value is not None  # and may be tried again
    assert _run(runner, "nothing", key="n").reason == "its process ended without a result"


def test_files_lie_ready_and_the_half_done_is_begun_anew(runner: JobRunner, tmp_path: Path) -> None:
    (tmp_path / "seed").write_text("ready")
    (runner.results / "k").mkdir(parents=True)  # killed before it had a result
    (runner.results / "k/stale").write_text("")
    done = _run(runner, "this", seed_files={"seed": tmp_path / "seed"})
    assert done.value == {"did": "this", "seed": "ready"}
    assert not (runner.place("k") / "stale").exists()
    assert (tmp_path / "seed").read_text() == "ready"


def _child(code: str, timeout_s: float = 30) -> str:
    return run_child([sys.executable, "-c", code], timeout_s=timeout_s)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("pass", ""),
        ("raise SystemExit(3)", "its process failed (exit code 3)"),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
            "crashes: its process was ended by SIGSEGV",
        ),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "crashes: its process was ended by SIGKILL (out of memory?)",
        ),
    ],
)
def test_how_a_child_ends(code: str, reason: str) -> None:
    assert _child(code) == reason


def test_a_traceback_costs_one_line() -> None:
    said = _child("raise ValueError('no such thing\\nor other')")
    assert said == "its process failed (or other)"
    assert len(_child(f"raise ValueError('{'x' * 5000}')")) < 400


def test_a_child_that_hangs_ends_with_all_that_it_started(tmp_path: Path) -> None:
    late = f"import time; time.sleep(4); open({str(tmp_path / 'alive')!r}, 'w')"
    code = (
        f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {late!r}]); "
        "time.sleep(60)"
    )
    start = time.monotonic()
    assert _child(code, timeout_s=1.5) == "hangs: it did not end within 2 s and was killed"
    assert time.monotonic() - start < 20
    time.sleep(3.0)
    assert not (tmp_path / "alive").exists()


def test_a_key_depends_on_every_part_and_on_no_order() -> None:
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    keys = [key_of(), key_of(1), key_of("1"), key_of(1, 1), key_of([1, 1]), key_of({"a": 1})]
    assert len(set(keys)) == len(keys)


def test_a_hash_of_files_follows_their_contents(tmp_path: Path) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    one.write_text("a")
    two.write_text("b")
    before = hash_of_files([two, one])
    assert before == hash_of_files([one, two])
    two.write_text("c")
    assert hash_of_files([one, two]) != before


def test_the_oldest_of_many_searches_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEML_SEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(jobs, "_KEPT_SEARCHES", 2)
    first = results_folder("a")
    for key in ("b", "c"):
        time.sleep(0.02)
        results_folder(key)
    assert first.parent == tmp_path / "cache"
    assert sorted(path.name for path in first.parent.iterdir()) == ["b", "c"]
