"""Which parts of a model INT8 costs accuracy, and what they save: one trial per block."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from edgeml.exporting.answers import Answers, collect_answers, compare_answers
from edgeml.exporting.linear_quantizing import LinearRecipe, linear_products
from edgeml.exporting.mixing import Block, split_into_blocks
from edgeml.exporting.quantizing import StaticRecipe
from edgeml.exporting.trials import Trial
from edgeml.workflows.trial_steps import Work, baseline_trial

_MOST_BLOCKS = 16
_SAMPLES = 48
_PROFILED_RUNS = 8
_PRODUCTS = ("Conv", "MatMul", "Gemm")


def measure_sensitivity(work: Work, trial: Trial, budget_s: float) -> dict[str, Any]:
    """Quantize one block at a time and measure its error on calibration samples.

    Args:
        work: The search's folder.
        trial: A quantized trial whose recipe can leave nodes in float.
        budget_s: After so long no further block is begun; the blocks that are left have no row.

    Returns:
        JSON values: ``blocks``, a row each, and the trial's name.
    """
    recipe = trial.recipe
    assert isinstance(recipe, (StaticRecipe, LinearRecipe))
    names = quantized_products(work, recipe)
    shares = _time_shares(work, names)
    exact = _answers(work, baseline_trial(work), work.baseline / "model.onnx")
    blocks: list[Block] = []
    deadline = time.monotonic() + budget_s
    split = split_into_blocks(names, most=_MOST_BLOCKS)
    for block in split:
        if time.monotonic() > deadline:
            break
        rest = tuple(name for name in names if name not in block)
        alone = replace(trial, recipe=replace(recipe, float_nodes=(*recipe.float_nodes, *rest)))
        error = _error(work, alone, exact)
        blocks.append(Block(nodes=block, error=error, saved_ms=sum(shares[name] for name in block)))
    return {
        "trial": trial.name,
        "blocks": [block.to_json() for block in blocks],
        "complete": len(blocks) == len(split),
    }


def quantized_products(work: Work, recipe: StaticRecipe | LinearRecipe) -> list[str]:
    """Return the names of the products that a recipe quantizes, in the graph's order."""
    if isinstance(recipe, LinearRecipe):
        return linear_products(work.workshop.lean)
    wanted = set(recipe.op_types or _PRODUCTS) & set(_PRODUCTS)
    kept = set(recipe.float_nodes)
    return [
        node.name
        for node in work.workshop.core.graph.node
        if node.op_type in wanted and node.name and node.name not in kept
    ]


def _error(work: Work, trial: Trial, exact: Answers) -> float:
    made, _ = work.workshop.build(trial)
    with tempfile.TemporaryDirectory(prefix="edgeml-block-") as folder:
        model = Path(folder) / "model.onnx"
        onnx.save(made, model)
        found = compare_answers(exact, _answers(work, trial, model), work.surroundings.reading)
    return max(found.mean_kl, found.relative_error)


def _answers(work: Work, trial: Trial, model: Path) -> Answers:
    around = work.surroundings
    few = work.calibration.first(_SAMPLES)
    batch = None if around.batches else 1
    with contextlib.closing(work.open(trial, model, num_threads=around.num_threads)) as engine:
        return collect_answers(engine, few, around.reading, batch=batch)


def _time_shares(work: Work, names: Sequence[str]) -> dict[str, float]:
    """Return the milliseconds of each product in the float model, from ONNX Runtime's profile."""
    one = dict(work.selection.feed([work.selection.typical()]))
    with tempfile.TemporaryDirectory(prefix="edgeml-profile-") as folder:
        options = onnxruntime.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        options.intra_op_num_threads = work.surroundings.timing_threads
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(
            str(work.baseline / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        for _ in range(_PROFILED_RUNS):
            session.run(None, one)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    spent: dict[str, float] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            spent[name] = spent.get(name, 0.0) + event["dur"] / 1000 / _PROFILED_RUNS
    # A fused kernel is called after its product, with an ending.
    longest = sorted(names, key=len, reverse=True)
    shares = dict.fromkeys(names, 0.0)
    for kernel, milliseconds in spent.items():
        owner = next((name for name in longest if kernel.startswith(name)), None)
        if owner is not None:
            shares[owner] += milliseconds
    known = sum(shares.values())
    if not known:  # the lean core's products have names that the float model has not
        even = sum(spent.values()) / max(1, len(names))
        return dict.fromkeys(names, even)
    return shares
