"""The zoo's pure parts: rows, the summary's limits, gates, steps that resume, the page."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.peers.process import PeerError
from benchmarks.zoo import __main__ as command_line
from benchmarks.zoo import report, running, table
from benchmarks.zoo.catalogue import FIXED, NNCF, RECIPES, Recipe
from benchmarks.zoo.judging import judge
from benchmarks.zoo.making import make_member, staged_file, write_whole
from benchmarks.zoo.members import MEMBERS, Member
from benchmarks.zoo.peers import make_peers, place_of
from benchmarks.zoo.running import Settings
from benchmarks.zoo.searching import bundle_of, search
from benchmarks.zoo.timing import ratio_of, same_choice
from edgeml.core.timing import Latency


def _ratio(faster_by: float, *, stable: bool = True) -> dict[str, Any]:
    low, high = faster_by - 0.02, faster_by + 0.02
    return {"p50_ms": faster_by, "faster_by": faster_by, "low": low, "high": high,
            "stable": stable, "num_calls": 300}  # fmt: skip


def _verdict(*, passed: bool = True, drop: float = 0.001) -> dict[str, Any]:
    return {"made": True, "passed": passed, "reason": "because", "drop": drop}


_ABOUT = {
    "name": "mlp", "accuracy": 0.9, "samples": 2000, "parameters": 1000, "weights": "trained",
    "task": "clusters",
}  # fmt: skip


def _search(**changes: Any) -> dict[str, Any]:
    found = {
        "chosen": "int8", "engine": "onnxruntime", "engine_options": {}, "file_sha256": "a",
        "seconds": 10.0, "warm_seconds": 1.0, "verdict": _verdict(),
    }  # fmt: skip
    return {"ort": found, "any": {**found, **changes}}


def _row(
    *,
    fp32: float = 2.0,
    own: float = 2.0,
    static: float = 1.5,
    nncf: float = 1.2,
    openvino: float = 1.8,
    nncf_passes: bool = True,
    static_passes: bool = True,
) -> dict[str, Any]:
    run = {
        "ours_ort": _ratio(1.0),
        "ours_fp32": _ratio(own),
        "ours_checked": _ratio(1.0),
        "ort_fp32": _ratio(fp32),
        "openvino_fp32": _ratio(openvino),
        NNCF: _ratio(nncf),
    }
    peers = {"ort_fp32": _verdict(), "openvino_fp32": _verdict()}
    peers["ort_static"] = _verdict(passed=static_passes)
    peers[NNCF] = _verdict(passed=nncf_passes)
    if static_passes:
        run["ort_static"] = _ratio(static)
    timing = {"runs": {"ours_ort": run, "ours_any": run}}
    return table.member_row(_ABOUT, _search(), peers, timing)


def test_the_fastest_recipe_that_passes_is_the_rival() -> None:
    assert _row()["best_fixed"] == "ort_static"
    failed = _row(static_passes=False)
    assert failed["best_fixed"] == "ort_fp32"
    assert failed["over_best_fixed"]["faster_by"] == 2.0


def test_nncf_that_fails_its_gate_counts_as_the_faster_fp32() -> None:
    assert _row()["nncf_as"] == NNCF
    row = _row(nncf_passes=False)
    assert row["nncf_as"] == "openvino_fp32"
    assert row["over_nncf"]["faster_by"] == 1.8
    assert _row(nncf_passes=False, openvino=2.5)["nncf_as"] == "ort_fp32"


def test_the_rival_never_runs_on_openvino() -> None:
    assert NNCF not in FIXED
    assert "openvino_fp32" not in FIXED
    assert {"ort_static", "ort_dynamic", "optimum_static"} <= set(FIXED)


def test_slower_than_its_own_fp32_is_worse() -> None:
    assert table.never_worse(_row(own=0.985))  # the interval reaches 1
    assert not table.never_worse(_row(own=0.9))


def test_a_failed_gate_is_worse_however_fast() -> None:
    row = {**_row(), "verdict_of_any": _verdict(passed=False)}
    assert not table.never_worse(row)


def test_the_summary_counts_what_the_claim_asks_for() -> None:
    rows = [
        {**_row(static=1.2), "member": "good"},
        {**_row(static=1.0), "member": "even"},
        {**_row(static=0.9), "member": "slow"},
        {**_row(static=1.0, own=0.5), "member": "worse"},
    ]
    found = table.summary(rows)
    assert found["worse"] == ["worse"]
    assert found["below_least"] == ["slow"]
    assert (found["good"], found["good_needed"]) == (1, 2)
    assert found["over_best_fixed"] == pytest.approx((1.2 * 1.0 * 0.9 * 1.0) ** 0.25)


def test_the_geometric_mean_of_nothing_is_nothing() -> None:
    assert table.geometric_mean([]) is None
    assert table.geometric_mean([0.25, 4.0]) == pytest.approx(1.0)


def test_a_ratio_turns_the_baselines_speedup_around() -> None:
    latency = Latency(p50_ms=4.0, p90_ms=5.0, p99_ms=None, speedup=0.5, speedup_low=0.4,
                      speedup_high=0.8, stable=True, num_calls=300)  # fmt: skip
    ratio = ratio_of(latency)
    assert ratio["faster_by"] == 2.0  # it takes twice our time
    assert (ratio["low"], ratio["high"]) == (1.25, 2.5)


def test_one_choice_is_one_file_on_one_engine() -> None:
    assert same_choice(_search())
    assert not same_choice(_search(engine="openvino"))
    assert not same_choice(_search(engine_options={"inference_precision": "bf16"}))


def _classes(*classes: int):
    logits = np.eye(3, dtype=np.float32)[list(classes)]
    return lambda feed: logits[feed["x"][0, 0] : feed["x"][0, 0] + 1]


def test_accuracy_is_judged_beyond_the_calibration_samples() -> None:
    inputs = {"x": np.arange(4)[:, None]}
    labels = np.array([0, 1, 2, 0])
    right, wrong_first = _classes(0, 1, 2, 0), _classes(1, 1, 2, 0)
    assert judge(wrong_first, right, inputs=inputs, labels=labels, first=1)["drop"] == 0.0
    all_of_them = judge(wrong_first, right, inputs=inputs, labels=labels, first=0)
    assert all_of_them["drop"] == 0.25
    assert not all_of_them["passed"]


def test_without_labels_the_relative_error_is_judged() -> None:
    inputs = {"x": np.arange(4)[:, None]}
    reference = _classes(0, 1, 2, 0)
    near = judge(
        lambda feed: reference(feed) * 1.04, reference, inputs=inputs, labels=None, first=0
    )
    far = judge(lambda feed: reference(feed) * 1.06, reference, inputs=inputs, labels=None, first=0)
    assert near["passed"]
    assert near["relative_error"] == pytest.approx(0.04)
    assert not far["passed"]
    assert far["drop"] is None
    broken = judge(lambda feed: reference(feed) * math.nan, reference, inputs=inputs, labels=None,
                   first=0)  # fmt: skip
    assert not broken["passed"]
    json.dumps(broken, allow_nan=False)


class FakeMake:
    """Makes recipes; interrupted at one of them."""

    def __init__(self, *, interrupted_at: str = "") -> None:
        self.made: list[str] = []
        self._interrupted_at = interrupted_at

    def __call__(self, recipe: Recipe, member: Member, folder: Path, out: Path) -> dict[str, Any]:
        if recipe.name == self._interrupted_at:
            (out / "half").touch()
            raise KeyboardInterrupt
        self.made.append(recipe.name)
        return _verdict()


def _make(folder: Path, fake: FakeMake, *, sha256: str = "a") -> dict[str, Any]:
    return make_peers(MEMBERS["mlp"], folder, model_sha256=sha256, say=lambda line: None, make=fake)


def test_peers_that_exist_are_not_made_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _make(tmp_path, FakeMake(interrupted_at=NNCF))
    assert not place_of(tmp_path, RECIPES[NNCF]).exists()
    assert not (tmp_path / "peers.json").exists()
    second = FakeMake()
    rows = _make(tmp_path, second)
    assert second.made == [NNCF]
    assert list(rows) == list(json.loads((tmp_path / "peers.json").read_text()))
    assert not any(name.startswith("optimum") for name in rows)  # meant for vision and text


def test_another_model_has_its_peers_made_again(tmp_path: Path) -> None:
    _make(tmp_path, FakeMake())
    second = FakeMake()
    _make(tmp_path, second, sha256="b")
    assert second.made == ["ort_fp32", "ort_static", "ort_dynamic", "openvino_fp32", NNCF]


def test_searches_resume_after_the_set_of_engines_that_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def export(arguments: Any, cache: Path) -> dict[str, Any]:
        engines = arguments[arguments.index("--engines") + 1]
        calls.append(engines)
        if engines == "onnxruntime" and len(calls) < 4:
            raise PeerError("killed")
        out = Path(arguments[arguments.index("--out") + 1])
        out.mkdir(exist_ok=True)
        row = {"name": "int8", "sha256": "a", "size_bytes": 1}
        manifest = {"chosen": "int8", "variants": [row]}
        (out / "manifest.json").write_text(json.dumps(manifest))
        return {"variants": [{"name": "int8", "accuracy_drop": 0.0, "speedup": 2.0}]}

    monkeypatch.setattr("benchmarks.zoo.searching._judge", lambda folder, bundle: _verdict())

    def once(budget: str = "5m") -> dict[str, Any]:
        return search(MEMBERS["mlp"], tmp_path, model_sha256="a", budget=budget,
                      say=lambda line: None, export=export)  # fmt: skip

    with pytest.raises(PeerError, match="killed"):
        once()
    found = once()
    assert calls == ["onnxruntime,openvino"] * 2 + ["onnxruntime"] * 3
    assert found["ort"]["chosen"] == "int8"
    assert found["any"]["engine"] == "onnxruntime"  # what a manifest without the key means
    assert bundle_of(tmp_path, "any").is_dir()
    once()
    assert len(calls) == 5
    once(budget="1m")
    assert len(calls) == 9


def test_a_file_is_whole_or_absent(tmp_path: Path) -> None:
    def interrupted() -> None:
        with staged_file(tmp_path / "data.npz") as part:
            part.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_member_is_named_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, str]] = []

    def step(what: str, name: str, settings: Settings, say: Any) -> None:
        if (what, name) == ("peers", "gru"):
            raise RuntimeError("no memory")
        done.append((what, name))

    monkeypatch.setattr(running, "_do", step)
    settings = Settings(members=("gru", "mlp"), steps=("peers", "table"), folder=tmp_path,
                        budget="5m")  # fmt: skip
    failed = running.run(settings, say=lambda line: None)
    assert failed == {"gru": "peers: no memory"}
    assert done == [("members", "gru"), ("members", "mlp"), ("peers", "mlp"), ("table", "mlp")]
    assert running.collect(settings, failed)["missing"] == {**failed, "mlp": "not measured yet"}


def test_the_table_wants_the_other_steps_first(tmp_path: Path) -> None:
    write_whole(
        tmp_path / "mlp" / "member.json", {**_ABOUT, "model_sha256": "a", "data_sha256": "b"}
    )
    settings = Settings(members=("mlp",), steps=("table",), folder=tmp_path, budget="5m")
    failed = running.run(settings, say=lambda line: None)
    assert "there is no search.json and no peers.json" in failed["mlp"]


def test_the_page_names_every_verdict() -> None:
    row = _row(nncf_passes=False)
    results = {
        "command": "python -m benchmarks.zoo", "date": "2026-01-01", "commit": "abc",
        "machine": {"cpu": "c", "architecture": "x", "threads": 2, "instruction_set": "i",
                    "governor": "g"},
        "plan": {"rounds": 60, "calls": 5, "budget_s": 150.0}, "highest_load": 0.1,
        "rows": [row], "summary": table.summary([row]), "members": {"mlp": _ABOUT},
        "peers": {"mlp": {NNCF: _verdict(passed=False)}}, "missing": {"gru": "not measured yet"},
    }  # fmt: skip
    page = report.page(results)
    assert "fails, scored as openvino_fp32" in page
    assert "| mlp | nncf | fails: because |" in page
    assert "- gru: not measured yet" in page
    assert "1.50x (1.48 to 1.52)" in page
    columns = {line.count("|") for line in page.splitlines() if line.startswith("| mlp | 2")}
    assert columns == {15}


def test_an_unknown_member_is_a_wrong_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["--members", "alexnet"]) == 2
    assert "alexnet" in capsys.readouterr().err


def test_every_builder_and_recipe_exists() -> None:
    root = Path(command_line.__file__).parent
    for member in MEMBERS.values():
        module, _, function = member.builder.partition(":")
        assert f"def {function}(" in (root / "builders" / f"{module}.py").read_text()
    for recipe in RECIPES.values():
        if recipe.module:
            assert "def make(job" in (root / "recipes" / f"{recipe.module}.py").read_text()


def test_a_member_that_is_there_is_not_built(tmp_path: Path) -> None:
    write_whole(tmp_path / "member.json", {"name": "broken"})
    broken = Member(name="broken", builder="nowhere:nothing", about="")
    assert make_member(broken, tmp_path) == {"name": "broken"}
