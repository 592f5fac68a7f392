"""Bad candidates, planted: each is caught by the gate that is there for it, and costs nobody else.

One search tries them all beside a good file; each test looks at one row.
"""

from __future__ import annotations

import functools
import json
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

import edgeml
from edgeml.core.gate import Gate
from edgeml.core.progress import silent
from edgeml.exporting.answers import Answers, Reading
from edgeml.exporting.assembly import Assembly
from edgeml.exporting.plain_engine import PlainEngine
from edgeml.exporting.quantizing import IntegerTypes, StaticRecipe
from edgeml.exporting.space import SpaceOptions
from edgeml.exporting.trials import Trial
from edgeml.tasks.samples import TextSamples
from edgeml.tasks.text import EncodedText
from edgeml.workflows import proving, searching
from edgeml.workflows.candidates import LabelledSamples
from edgeml.workflows.jobs import JobRunner
from edgeml.workflows.judging import Standards, choose, judge
from edgeml.workflows.search_plan import Found, SearchPlan
from edgeml.workflows.searching import run_search
from edgeml.workflows.trial_steps import Surroundings
from tests.unit.tasks.test_text import TASK
from tests.unit.workflows import planted

_PATIENCE_S = 12.0
_FAULTY_WORKER = """
import json, os, signal, sys
from pathlib import Path
from edgeml.workflows.trial_worker import main

job = Path(sys.argv[1])
if json.loads(job.read_text()).get("trial", {}).get("name") == "crashing":
    os.kill(os.getpid(), signal.SIGSEGV)
main(job)
"""


@dataclass(frozen=True, kw_only=True)
class Searched:
    """What came of the search: the manifest, its rows by what was planted, and its report."""

    manifest: Any
    rows: dict[str, dict[str, Any]]
    report: dict[str, Any]


def _space(core: onnx.ModelProto, assembly: Assembly, options: SpaceOptions) -> list[Trial]:
    # Signed activations and unsigned weights: ONNX Runtime has no such kernel, and says nothing.
    types = IntegerTypes(activations="int8", weights="uint8", reduce_range=False)
    recipe = StaticRecipe(types=types, op_types=("MatMul",), num_samples=20)
    silently = Trial(name="pretended", kind="static", precision="int8", recipe=recipe)
    return [*planted.files_alone(core, assembly, options), silently]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    folder = tmp_path_factory.mktemp("planted")
    crashing = planted.store(folder / "crashing.onnx", planted.graph(planted.GOOD))
    faults = [planted.fault(folder, name) for name in planted.FAULTS]
    (folder / "garbage.onnx").write_bytes(b"no model")
    files = [*faults, folder / "garbage.onnx", crashing, planted.good(folder)]
    script = folder / "worker.py"
    script.write_text(_FAULTY_WORKER)
    command = (sys.executable, str(script))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEML_SEARCH_CACHE", str(folder / "cache"))
        patch.setattr(searching, "_LEAST_PATIENCE_S", _PATIENCE_S)
        patch.setattr(searching, "_PATIENCE", 4.0)
        patch.setattr(searching, "JobRunner", functools.partial(JobRunner, command=command))
        patch.setattr(proving, "make_space", _space)
        made = edgeml.export(
            planted.dear(folder),
            out=folder / "b.bundle",
            data=planted.data(folder),
            settings=replace(planted.SETTINGS, files=tuple(map(str, files))),
        )
    report = json.loads((made.report / "report.json").read_text())
    rows = planted.by_origin(made.rows, report["metrics"]["evidence"])
    return Searched(manifest=made.bundle.manifest, rows=rows, report=report)


def test_the_good_file_is_chosen_whatever_its_neighbours(searched: Searched) -> None:
    good = searched.rows["good"]
    assert (good["verdict"], good["accuracy_drop"], good["batch_safe"]) == ("chosen", 0.0, True)
    assert searched.manifest.chosen == searched.manifest.chosen_for_batches == good["name"]
    assert good["speedup"] > 1.5
    others = {name: row["verdict"] for name, row in searched.rows.items() if name != "good"}
    assert others.pop("fp32") == "reference"
    assert others.pop("coupled") in ("passed", "rejected")
    assert set(others.values()) == {"rejected"}


def test_answers_that_collapse_are_caught_by_the_accuracy_gate(searched: Searched) -> None:
    row = searched.rows["collapsed"]
    assert row["reason"].startswith("accuracy drop +100.00 points of 0.50 allowed")
    assert row["speedup"] > 1.0
    assert row["agreement"] == 0.0


def test_a_graph_that_only_pretends_to_be_quantized_is_caught(searched: Searched) -> None:
    assert re.match(r"only [0-2] of 4 MatMul run quantized", searched.rows["pretended"]["reason"])


def test_one_that_listens_to_its_neighbours_never_answers_batches(searched: Searched) -> None:
    row = searched.rows["coupled"]
    assert row["batch_safe"] is False
    assert searched.manifest.chosen_for_batches != row["name"]
    # Alone it answers rightly, and that is how it was judged.
    assert row["accuracy"] == 1.0


def test_saturation_is_caught_where_accuracy_still_holds(searched: Searched) -> None:
    row = searched.rows["saturated"]
    found = searched.report["metrics"]["evidence"][row["name"]]["clipping"]
    assert found["tensor"] == "x"
    assert found["share"] > 0.2
    share = round(100 * found["share"])
    assert row["reason"].startswith(f"saturates: {share} % of 'x' is clipped")


def test_answers_that_are_not_numbers_are_caught(searched: Searched) -> None:
    row = searched.rows["undefined"]
    assert row["reason"] == "it answers with NaN or infinity"
    assert row["p50_ms"] is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("renamed", "scores float32 (batch, 4)"),
        ("garbage", "it cannot be parsed"),
        ("crashing", "crashes: its process was ended by SIGSEGV"),
        ("hanging", "hangs: it did not end within"),
    ],
)
def test_what_cannot_run_says_why(searched: Searched, name: str, reason: str) -> None:
    row = searched.rows[name]
    assert reason in row["reason"]
    assert "\n" not in row["reason"]
    assert (row["accuracy"], row["p50_ms"], row["size_bytes"]) == (None, None, None)


# Padding: an embedding's mean over the sequence, with the mask and without it.
_TEXT = """
<ir_version: 10, opset_import: ["": 18]>
text (int64[batch, sequence] input_ids, int64[batch, sequence] attention_mask,
      int64[batch, sequence] token_type_ids) => (float[batch, 2] probabilities)
<int64[1] one = {1}, int64[1] last = {-1}, float tiny = {1e-6}>
{
    words = Gather(table, input_ids)  parts = Cast<to = 1>(token_type_ids)
    kept = Cast<to = 1>(attention_mask)  none = Mul(parts, tiny)  some = Add(kept, none)
    wide = Unsqueeze(some, last)  masked = Mul(words, wide)
    total = ReduceSum<keepdims = 0>(masked, one)  count = ReduceSum(some, one)
    logits = Div(total, count)  probabilities = Softmax<axis = 1>(logits)
}
"""
_LEAK = _TEXT.replace("kept = Cast<to = 1>(attention_mask)", "kept = Cast<to = 1>(all)").replace(
    "words =", "same = Sub(attention_mask, attention_mask)  unit = Cast<to = 7>(one)  "
    "all = Add(same, unit)  words =",
)  # fmt: skip


def _text_graph(text: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(text)
    table = np.random.default_rng(0).normal(0, 3, (400, 2)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(table, "table"))
    onnx.checker.check_model(model)
    return model


def _text_plan(leak: Path) -> SearchPlan:
    rng = np.random.default_rng(0)
    texts = [EncodedText(rng.integers(5, 200, 3 + index % 9), False) for index in range(24)]
    inputs, core = TextSamples(TASK, texts), _text_graph(_TEXT)
    engine = PlainEngine(core, TASK.signature, num_threads=1)
    exact = [engine.run(inputs.feed([index]))["probabilities"] for index in range(len(inputs))]
    answers = Answers(probabilities=np.concatenate(exact))
    assert answers.probabilities is not None
    right = LabelledSamples(inputs=inputs, targets=answers.probabilities.argmax(axis=1))
    return SearchPlan(
        core=core,
        trials=[
            Trial(name="fp32", kind="float", precision="fp32"),
            Trial(name="leak", kind="file", precision="int8", file=str(leak)),
        ],
        surroundings=Surroundings(
            assembly=Assembly(frame="none", signature=TASK.signature),
            reading=Reading(),
            gate=Gate(),
            invariance_samples=24,
            invariance_tolerance={"fp32": 1e-4, "int8": 1e-4},
            batches=True,
            num_threads=1,
            timing_threads=1,
        ),
        standards=Standards(gate=Gate(), selection=right, reading=Reading()),
        calibration=inputs,
        reference=answers,
        timing=planted.SETTINGS.timing,
        budget_s=120.0,
    )


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchPlan, Found]:
    folder = tmp_path_factory.mktemp("texts")
    (folder / "work").mkdir()
    leak = planted.store(folder / "leak.onnx", _text_graph(_LEAK))
    plan = _text_plan(leak)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEML_SEARCH_CACHE", str(folder / "cache"))
        return plan, run_search(plan, folder / "work", silent)


def test_an_answer_that_depends_on_padding_is_for_single_items_only(
    texts: tuple[SearchPlan, Found],
) -> None:
    plan, found = texts
    fp32, leak = found.candidates
    assert fp32.batch_safe
    assert fp32.evidence["invariance"]["padded"]
    assert not leak.broken
    assert leak.evidence["invariance"]["max_abs_diff"] > 0.1
    assert not leak.batch_safe
    # Alone nothing is padded: it answers as fp32 does, and only the padding tells them apart.
    assert leak.latency is not None
    leak.latency = replace(
        leak.latency, speedup=2.0, speedup_low=1.9, speedup_high=2.1, stable=True
    )
    leak.answers, leak.evidence = fp32.answers, {}
    verdict, why = judge(leak, fp32, plan.standards)
    assert verdict == "passed"
    assert why.endswith("for single items only: answers depend on neighbours")
    pair = [fp32, leak]
    verdicts = {"fp32": ("reference", ""), "leak": (verdict, why)}
    assert choose(pair, verdicts, goal="latency") == (leak, fp32)
