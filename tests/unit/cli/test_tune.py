"""``edgeml tune``, for people and for programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import Run


def test_tune_writes_a_profile_that_inspect_and_load_see(run: Run, small_copy: Path) -> None:
    done = run("tune", small_copy, "--threads", "1", "--budget", "1s", "--json")
    assert (done.code, done.err) == (0, "")
    assert set(done.json) >= {"bundle", "profile", "chosen", "rows"}
    assert Path(done.json["profile"]).name == "small.bundle.host.json"
    keys = {"variant", "engine", "threads", "spinning", "arena", "p50_ms", "golden", "chosen"}
    assert all(set(row) >= {*keys, "speedup", "speedup_low"} for row in done.json["rows"])
    assert [row["chosen"] for row in done.json["rows"]].count(True) == 1
    assert {row["engine"] for row in done.json["rows"]} == {"onnxruntime", "openvino"}
    shown = run("inspect", small_copy, "--json").json
    assert shown["host_profile"] == {"chosen": done.json["chosen"], "problem": ""}
    assert "profile of this machine" in run("inspect", small_copy).out


def test_people_get_a_table_and_the_choice(run: Run, small_copy: Path) -> None:
    done = run("tune", small_copy, "--threads", "1", "--budget", "0.01m")
    assert done.code == 0
    for text in ("onnxruntime", "openvino", "chosen", "small.bundle.host.json"):
        assert text in done.out


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--threads", "1,many"), "--threads: '1,many'; numbers such as 1,2,4"),
        (("--threads", ""), "--threads: ''"),
        (("--threads", "0"), "num_threads is 0"),
        (("--budget", "long"), "--budget: 'long' is no time; 20ms, 90s, 10m or 1h"),
        (("--budget", ""), "--budget: ''"),
        (("--budget=-1s",), "--budget: '-1s' is no time"),
    ],
    ids=str,
)
def test_a_wrong_request_is_code_2(
    run: Run, small: Path, flags: tuple[str, ...], says: str
) -> None:
    done = run("tune", small, *flags, "--json")
    assert (done.code, done.out) == (2, "")
    assert says in done.error
