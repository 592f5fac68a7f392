"""``edgeml.tune``: what is faster here is found, proven, kept, and followed by ``edgeml.load``."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeml
from edgeml.core.progress import silent
from edgeml.core.timing import Latency
from edgeml.errors import BundleError, HostMismatchWarning, InputError, IntegrityError
from edgeml.runtime.engine import OnnxEngine
from edgeml.runtime.host_profile import Setup, find_profile, write_profile
from edgeml.workflows import screening, tuning
from edgeml.workflows.screening import look_at, setups_of, without_arena
from tests.bundles import spoil
from tests.pictures import scene
from tests.unit.workflows.test_loading import _replace_model

FP32, INT8 = "onnxruntime/cpu/fp32/3", "onnxruntime/cpu/int8/3"


@pytest.fixture
def only_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screening, "installed_engines", lambda: ("onnxruntime",))


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make int8 slow here, whatever the export said."""
    running = OnnxEngine.run

    def run(self: OnnxEngine, tensors: Mapping[str, Any]) -> dict[str, Any]:
        # A ratio of two, whatever the machine: of microseconds nothing would be stable.
        time.sleep(0.006 if "/int8/" in self.served_by else 0.003)
        return running(self, tensors)

    monkeypatch.setattr(OnnxEngine, "run", run)


def _setup(variant: str = "int8", **options: Any) -> Setup:
    return Setup(**{"variant": variant, "engine": "onnxruntime", "threads": 1, **options})


@pytest.mark.usefixtures("only_onnxruntime", "slow")
def test_what_is_faster_here_is_chosen_kept_and_followed(small_copy: Path) -> None:
    events: list[str] = []
    done = edgeml.tune(
        small_copy, threads=[1], budget_s=3, progress=lambda event: events.append(event.stage)
    )
    assert (done.chosen.variant, done.chosen.engine) == ("fp32", "onnxruntime")
    assert done.baseline.variant == "int8"
    assert set(events) == {"try", "compare"}
    chosen = [row for row in done.rows if row.chosen]
    assert [row.setup for row in chosen] == [done.chosen]
    assert chosen[0].latency is not None
    assert chosen[0].latency.proven_faster
    today = next(row for row in done.rows if row.setup == done.baseline)
    assert today.latency is not None
    assert today.latency.speedup == 1.0
    value = json.loads(done.profile.read_text())
    assert value["chosen"] == done.chosen.to_json()
    assert value["rows"] == done.to_json()["rows"]
    with edgeml.load(small_copy) as predictor:
        assert predictor.served_by == FP32
        assert predictor.predict(scene()).served_by == FP32
    # Whatever is asked for by name or number is what runs.
    for options in ({"variant": "int8"}, {"num_threads": 1}):
        with edgeml.load(small_copy, **options) as predictor:
            assert predictor.served_by == INT8
    checks = {check.name: check for check in edgeml.verify(small_copy).checks}
    assert checks["host profile"].ok
    assert "used: fp32 on onnxruntime, 1 thread" in checks["host profile"].detail


def test_engines_are_tried_on_the_same_files(small_copy: Path) -> None:
    bundle = edgeml.Bundle.read(small_copy)
    feed = {name: array[:1] for name, array in bundle.golden().tensors.items()}
    looks = look_at(bundle, setups_of(bundle, [1]), feed, budget_s=30, progress=silent)
    tried = {(look.setup.variant, look.setup.engine): look for look in looks}
    assert set(tried) == {(v, e) for v in ("fp32", "int8") for e in ("onnxruntime", "openvino")}
    assert all(look.golden and look.p50_ms for look in tried.values())


def test_what_an_engine_cannot_run_costs_only_itself(small_copy: Path) -> None:
    bundle = edgeml.Bundle.read(small_copy)
    feed = {name: array[:1] for name, array in bundle.golden().tensors.items()}
    most = 200  # OpenVINO takes no more threads than the machine has
    setups = [_setup(engine="openvino", threads=most), _setup()]
    refused, other = look_at(bundle, setups, feed, budget_s=30, progress=silent)
    assert (refused.golden, refused.p50_ms) == (None, None)
    assert f"{most} were asked for" in refused.reason
    assert other.golden


@pytest.mark.usefixtures("only_onnxruntime", "slow")
def test_a_variant_without_its_golden_values_is_left_out_by_name(small_copy: Path) -> None:
    _replace_model(small_copy, 0)
    done = edgeml.tune(small_copy, threads=[1, 2], budget_s=3)
    assert done.chosen.variant == "int8"
    failed = [row for row in done.rows if row.setup.variant == "fp32"]
    assert {row.golden for row in failed} == {False}
    assert {row.p50_ms for row in failed} == {None}
    assert all(row.reason.startswith("golden fp32: largest difference") for row in failed)


def test_what_is_loaded_today_must_hold_its_golden_values(small_copy: Path) -> None:
    _replace_model(small_copy, 1)
    with pytest.raises(IntegrityError, match="golden int8: largest difference"):
        edgeml.tune(small_copy, threads=[1], budget_s=1)
    assert find_profile(edgeml.Bundle.read(small_copy)) is None


@pytest.mark.usefixtures("only_onnxruntime")
def test_rejected_variants_are_not_tried(small_copy: Path) -> None:
    spoil(small_copy, lambda value: value["variants"][0].update(verdict="rejected"))
    assert {row.variant for row in setups_of(edgeml.Bundle.read(small_copy), [1])} == {"int8"}


def test_every_setup_is_tried_once(small: Path) -> None:
    setups = setups_of(edgeml.Bundle.read(small), [1, 2])
    assert len(set(setups)) == len(setups) == 2 * (3 + 2)
    assert {(row.engine, row.threads, row.spinning) for row in setups} == {
        *(("onnxruntime", 1, False), ("onnxruntime", 2, False), ("onnxruntime", 2, True)),
        *(("openvino", 1, False), ("openvino", 2, False)),
    }
    without = without_arena(_setup())
    assert without is not None
    assert not without.arena
    assert without_arena(_setup(engine="openvino")) is None


def test_two_variants_of_one_file_are_not_the_same_setup_twice(small_copy: Path) -> None:
    def share(value: dict[str, Any]) -> None:
        row = {**value["variants"][0], "name": "fp32-openvino", "engine": "openvino"}
        value["variants"].append({**row, "verdict": "passed", "reason": ""})

    spoil(small_copy, share)
    setups = setups_of(edgeml.Bundle.read(small_copy), [1])
    assert [row.variant for row in setups if row.engine == "openvino"] == ["fp32-openvino", "int8"]
    assert "fp32-openvino" not in {row.variant for row in setups if row.engine == "onnxruntime"}


@pytest.mark.usefixtures("only_onnxruntime")
def test_what_no_time_is_left_for_is_named(small_copy: Path) -> None:
    done = edgeml.tune(small_copy, threads=[1, 2], budget_s=1e-6)
    assert {row.reason for row in done.rows if row.p50_ms is None} == {
        "not tried: the budget ended first"
    }
    # The twin without an arena was compared, and may be faster.
    assert replace(done.chosen, arena=True) == done.baseline


def _latency(speedup: float, low: float, *, stable: bool = True) -> Latency:
    return Latency(
        p50_ms=1 / speedup,
        p90_ms=2,
        p99_ms=None,
        speedup=speedup,
        speedup_low=low,
        speedup_high=speedup + 0.1,
        stable=stable,
        num_calls=9,
    )


def test_only_what_is_proven_faster_replaces_what_runs_today() -> None:
    today = _setup(threads=2)
    none = {
        today: _latency(1.0, 1.0),
        _setup("fp32"): _latency(1.4, 0.99),
        _setup("fp16"): _latency(3.0, 2.0, stable=False),
        # As far apart as two sessions of the same setup may be.
        _setup("fp32", arena=False): _latency(1.02, 1.015),
    }
    assert tuning.choose(none, today) == today
    one = {**none, _setup("int8"): _latency(1.1, 1.04)}
    assert tuning.choose(one, today) == _setup("int8")


def test_of_equally_fast_ones_the_one_that_asks_least_is_chosen() -> None:
    today = _setup("fp32")
    greedy, modest = _setup(threads=2, spinning=True), _setup(threads=2)
    compared = {
        today: _latency(1.0, 1.0),
        greedy: _latency(2.02, 1.9),
        modest: _latency(2.0, 1.9),
        _setup(): _latency(1.9, 1.8),
    }
    assert tuning.choose(compared, today) == modest


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"threads": []}, "threads is empty"),
        ({"threads": [0]}, "num_threads is 0"),
        ({"budget_s": 0}, "budget_s is 0"),
        ({"budget_s": float("nan")}, "budget_s is nan"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_refused(small: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        edgeml.tune(small, **options)


def test_a_bundle_without_golden_examples_is_refused(small_copy: Path) -> None:
    spoil(small_copy, lambda value: value["files"].pop("golden/golden.json") and None)
    with pytest.raises(BundleError, match="no golden examples"):
        edgeml.tune(small_copy, threads=[1], budget_s=1)


def test_a_tuned_engine_and_its_settings_are_followed(small_copy: Path) -> None:
    bundle = edgeml.Bundle.read(small_copy)
    write_profile(bundle, _setup("fp32", engine="openvino"), [])
    with edgeml.load(small_copy, verify="golden") as predictor:
        assert predictor.served_by == "openvino/cpu/fp32/3"
        tuned = predictor.predict(scene())
    with edgeml.load(small_copy, variant="fp32", num_threads=1) as predictor:
        plain = predictor.predict(scene())
    assert tuned.label == plain.label
    np.testing.assert_allclose(tuned.score, plain.score, atol=1e-6)


def test_settings_of_the_profile_reach_the_session(
    small_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    opening = OnnxEngine.__init__

    def spy(self: OnnxEngine, model: Any, **rest: Any) -> None:
        seen.append(rest["settings"])
        opening(self, model, **rest)

    setup = _setup(threads=2, spinning=True, arena=False)
    write_profile(edgeml.Bundle.read(small_copy), setup, [])
    monkeypatch.setattr(OnnxEngine, "__init__", spy)
    edgeml.load(small_copy).close()
    (settings,) = seen
    assert (settings.num_threads, settings.spinning, settings.arena) == (2, True, False)


def test_a_stale_profile_is_told_and_not_used(small_copy: Path) -> None:
    bundle = edgeml.Bundle.read(small_copy)
    place = write_profile(bundle, _setup("fp32"), [])
    value = json.loads(place.read_text())
    value["host"]["cpu"] = "another"
    for text in (json.dumps(value), "{"):
        place.write_text(text)
        with pytest.warns(HostMismatchWarning, match="not used; run 'edgeml tune' again") as caught:
            predictor = edgeml.load(small_copy)
        assert predictor.served_by == INT8
        predictor.close()
        assert Path(caught[0].filename).name == Path(__file__).name
        with warnings.catch_warnings():  # nobody asked the profile
            warnings.simplefilter("error")
            edgeml.load(small_copy, num_threads=1).close()
        found = edgeml.verify(small_copy)
        assert found.ok
        detail = {check.name: check.detail for check in found.checks}["host profile"]
        assert detail.startswith("not used: it ")


_DEVICE = """
import json, sys

class Absent:
    names = {"onnx", "torch", "tokenizers", "PIL", "openvino", "sympy", "transformers"}
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name in Absent.names else found(name)
import edgeml
done = edgeml.tune(sys.argv[1], threads=[1], budget_s=0.5)
print(json.dumps([done.chosen.engine, sorted({row.setup.engine for row in done.rows})]))
"""


def test_a_device_with_the_base_installation_tunes(small_copy: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _DEVICE, str(small_copy)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["onnxruntime", ["onnxruntime"]]
