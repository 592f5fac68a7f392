"""Our search on one member: the command line, cold and again, and the verdict of the equal gate."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import edgeml
from benchmarks.peers.process import ONE_THREAD, ROOT, PeerError
from benchmarks.zoo.catalogue import CALIBRATION_SAMPLES, FP32, RECIPES
from benchmarks.zoo.judging import judge
from benchmarks.zoo.making import DATA, MODEL, read_or_none, write_whole
from benchmarks.zoo.members import Member
from benchmarks.zoo.opening import Array, Call, open_file
from benchmarks.zoo.recipes.job import read_inputs, read_labels

SEARCH = "search.json"
ENGINE_SETS: Mapping[str, tuple[str, ...]] = {
    "any": ("onnxruntime", "openvino"),
    # After the larger set, whose measurements it finds: only its own finals are timed anew.
    "ort": ("onnxruntime",),
}
_TIMEOUT_S = 3600.0

Say = Callable[[str], None]
Export = Callable[[Sequence[str], Path], dict[str, Any]]


def search(
    member: Member,
    folder: Path,
    *,
    model_sha256: str,
    budget: str,
    say: Say,
    export: Export | None = None,
) -> dict[str, Any]:
    """Search with each set of engines unless that was done, and return what was found.

    Args:
        member: Which one.
        folder: Its folder, with the model and the data.
        model_sha256: Of another model everything is searched again.
        budget: What ``edgeml export --budget`` takes.
        say: Takes progress.
        export: Runs ``edgeml export`` with arguments and a folder for its cache; a fake in tests.

    Raises:
        PeerError: The export failed; what was found before is kept.
    """
    found = read_or_none(folder / SEARCH) or {}
    if found.get("model_sha256") != model_sha256 or found.get("budget") != budget:
        found = {"model_sha256": model_sha256, "budget": budget}
    for name, engines in ENGINE_SETS.items():
        if name in found:
            continue
        say(f"{member.name}: searching with {' and '.join(engines)}")
        found[name] = _search_twice(folder, name, engines, budget, export or _export)
        write_whole(folder / SEARCH, found)
    return found


def bundle_of(folder: Path, name: str) -> Path:
    """Return the bundle of a set of engines."""
    return folder / f"bundle-{name}"


def open_bundle(bundle: Path, *, variant: str | None = None) -> Call:
    """Open a bundle on one thread, with the engine that its manifest names for the variant."""
    predictor = edgeml.load(bundle, variant=variant, num_threads=1)

    def call(feed: Mapping[str, Array]) -> Array:
        (logits,) = predictor.run(feed).values()
        return logits

    return call


def open_variant(bundle: Path, name: str | None = None) -> Call:
    """Open a variant's file as the peers' are opened: on ONNX Runtime its session alone.

    Under OpenVINO it is the bundle's own engine, whose options stand in the manifest.
    """
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    wanted = name or manifest["chosen"]
    row = next(row for row in manifest["variants"] if row["name"] == wanted)
    if row.get("engine", "onnxruntime") == "onnxruntime":
        return open_file(bundle / row["file"], "onnxruntime")
    return open_bundle(bundle, variant=wanted)


def _search_twice(
    folder: Path, name: str, engines: Sequence[str], budget: str, export: Export
) -> dict[str, Any]:
    cache = folder / "cache"
    if name == next(iter(ENGINE_SETS)):
        shutil.rmtree(cache, ignore_errors=True)
    bundle, again = bundle_of(folder, name), folder / f"bundle-{name}-again"
    common = [str(folder / MODEL), "--data", str(folder / DATA), "--budget", budget]
    common += ["--engines", ",".join(engines), "--threads", "2", "--json"]
    started = time.monotonic()
    result = export([*common, "--out", str(bundle)], cache)
    between = time.monotonic()
    export([*common, "--out", str(again)], cache)
    ended = time.monotonic()
    for left in (again, again.with_name(f"{again.name}.report")):
        shutil.rmtree(left, ignore_errors=True)
    return {
        "engines": list(engines),
        "seconds": round(between - started, 1),
        "warm_seconds": round(ended - between, 1),
        **_chosen(bundle, result),
        "verdict": _judge(folder, bundle),
        "result": result,
    }


def _chosen(bundle: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was chosen, and what runs it, as the manifest says."""
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    row = next(row for row in manifest["variants"] if row["name"] == manifest["chosen"])
    reported = next(row for row in result["variants"] if row["name"] == manifest["chosen"])
    return {
        "chosen": row["name"],
        "engine": row.get("engine", "onnxruntime"),
        "engine_options": row.get("engine_options", {}),
        "file_sha256": row["sha256"],
        "size_bytes": row["size_bytes"],
        "own_drop": reported.get("accuracy_drop"),
        "own_speedup": reported.get("speedup"),
    }


def _judge(folder: Path, bundle: Path) -> dict[str, Any]:
    return judge(
        open_bundle(bundle),
        open_file(folder / MODEL, RECIPES[FP32].engine),
        inputs=read_inputs(folder / DATA),
        labels=read_labels(folder / DATA),
        first=CALIBRATION_SAMPLES,
    )


def _export(arguments: Sequence[str], cache: Path) -> dict[str, Any]:
    cache.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "edgeml", "export", *map(_absolute, arguments)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, **ONE_THREAD, "EDGEML_SEARCH_CACHE": str(cache.resolve())},
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise PeerError(f"the export did not end within {_TIMEOUT_S:g} s") from exc
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise PeerError((lines or [f"the export ended with {done.returncode}"])[-1])
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _absolute(argument: str) -> str:
    """Return a path of ours as it is seen from anywhere."""
    return str(Path(argument).resolve()) if "/" in argument else argument
