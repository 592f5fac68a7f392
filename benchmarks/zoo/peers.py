"""The peers of one member: each recipe's file, made once, and its verdict."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.peers.environments import cache_folder, python_of
from benchmarks.peers.process import ONE_THREAD, ROOT, PeerError
from benchmarks.zoo.catalogue import CALIBRATION_SAMPLES, FP32, RECIPES, Recipe
from benchmarks.zoo.judging import judge
from benchmarks.zoo.making import DATA, MODEL, read_or_none, write_whole
from benchmarks.zoo.members import Member
from benchmarks.zoo.opening import open_file
from benchmarks.zoo.recipes.job import read_inputs, read_labels
from edgeml.core.files import staged_folder, write_json

PEERS, _ROW = "peers.json", "row.json"
_TIMEOUT_S = 1800.0

Say = Callable[[str], None]
Make = Callable[[Recipe, Member, Path, Path], dict[str, Any]]


def make_peers(
    member: Member, folder: Path, *, model_sha256: str, say: Say, make: Make | None = None
) -> dict[str, Any]:
    """Make and judge what is not there yet, and return what ``peers.json`` says.

    A recipe that fails is a row with its reason; remove its folder to try it again.

    Args:
        member: Which one.
        folder: Its folder, with the model and the data.
        model_sha256: Files of another model are made again.
        say: Takes progress.
        make: Makes and judges one recipe in an empty folder; a fake in tests.
    """
    rows = {}
    for recipe in RECIPES.values():
        if not recipe.applies(member):
            continue
        place = place_of(folder, recipe)
        row = read_or_none(place / _ROW)
        if row is None or row["model_sha256"] != model_sha256:
            say(f"{member.name}: {recipe.name}")
            with staged_folder(place) as part:
                row = (make or _make_and_judge)(recipe, member, folder, part)
                row = {"model_sha256": model_sha256, **row}
                write_json(part / _ROW, row)
        rows[recipe.name] = row
    write_whole(folder / PEERS, rows)
    return rows


def place_of(folder: Path, recipe: Recipe) -> Path:
    """Return the folder of a recipe's file."""
    return folder / "peers" / recipe.name


def file_of(folder: Path, recipe: Recipe) -> Path:
    """Return the file that a recipe runs."""
    return place_of(folder, recipe) / recipe.file if recipe.module else folder / MODEL


def _make_and_judge(recipe: Recipe, member: Member, folder: Path, out: Path) -> dict[str, Any]:
    started = time.monotonic()
    try:
        facts = _run(recipe, member, folder, out) if recipe.module else {}
        seconds = round(time.monotonic() - started, 1)
        file = out / recipe.file if recipe.module else folder / MODEL
        weights = file.with_suffix(".bin")
        size = file.stat().st_size + (weights.stat().st_size if weights.is_file() else 0)
        verdict = _judge(recipe, file, folder)
    except (PeerError, RuntimeError, OSError) as exc:
        reason = PeerError(str(exc) or type(exc).__name__)
        return {"made": False, "passed": False, "reason": str(reason)}
    return {"made": True, "seconds": seconds, "size_bytes": size, "facts": facts, **verdict}


def _run(recipe: Recipe, member: Member, folder: Path, out: Path) -> Mapping[str, str]:
    python = python_of(recipe.environment, cache=cache_folder())
    job = {
        "model": str((folder / MODEL).resolve()),
        "data": str((folder / DATA).resolve()),
        "out": str(out.resolve()),
        "file": recipe.file,
        "count": CALIBRATION_SAMPLES,
        "transformer": member.transformer,
    }
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    try:
        done = subprocess.run(
            [str(python), "-m", "benchmarks.zoo.recipes", recipe.module],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**env, **ONE_THREAD, "NNCF_CI": "1", "HF_HUB_OFFLINE": "1"},
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise PeerError(f"not made within {_TIMEOUT_S:g} s") from exc
    (out / "log.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise PeerError((lines or ["no reason given"])[-1])
    facts: dict[str, str] = json.loads((out / "facts.json").read_bytes())
    return facts


def _judge(recipe: Recipe, file: Path, folder: Path) -> dict[str, Any]:
    data = folder / DATA
    reference = open_file(folder / MODEL, RECIPES[FP32].engine)
    return judge(
        open_file(file, recipe.engine),
        reference,
        inputs=read_inputs(data),
        labels=read_labels(data),
        first=CALIBRATION_SAMPLES,
    )
