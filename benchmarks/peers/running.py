"""One whole run, from settings to results."""

from __future__ import annotations

import dataclasses
from typing import Any

from benchmarks.peers import conditions
from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.measuring import Field, Say, Worker
from benchmarks.peers.preparing import open_worker
from benchmarks.peers.process import PeerError
from benchmarks.peers.settings import Files, Settings
from benchmarks.peers.summary import latency_rows, share_rows, whole_rows
from benchmarks.peers.texts import model_labels, read_labelled, read_texts
from edgeml.errors import DataError, InputError

_CHECKPOINT_FILES = ("config.json", "model.safetensors", "tokenizer.json")


def run(settings: Settings, *, command: str, date: str, say: Say) -> dict[str, Any]:
    """Measure the peers.

    Args:
        settings: What is compared, and how much of it.
        command: How the run was started, for the report.
        date: The day, for the report.
        say: Told what goes on.

    Returns:
        The results, as JSON values.

    Raises:
        InputError: There is no checkpoint.
        DataError: A file of texts is missing or malformed.
    """
    files, plan = settings.files, settings.protocol
    _check(settings)
    rows = read_labelled(files.texts)
    labels = model_labels(files.checkpoint, rows.labels)
    whole = [text for path in files.offline for text in read_texts(path)]
    workers, failed = _open_all(settings, say)
    before = conditions.load()
    field = Field(workers, failed, plan, say)
    try:
        field.time_blocks(rows.texts)
        field.ask_about()
        field.time_splits(rows.texts)
        field.time_whole(whole)
    finally:
        field.close()
    found, seed, names = field.collected, plan.seed, settings.peers
    offline = [name for name in names if PEERS[name].offline and whole and plan.repeats]
    return {
        "command": command,
        "date": date,
        "commit": conditions.commit(),
        "machine": conditions.machine(),
        "load_before": before,
        "load_after": conditions.load(),
        "protocol": dataclasses.asdict(plan),
        "files": _file_facts(files),
        "latency": latency_rows(found, names, labels, seed=seed),
        "whole": whole_rows(found, offline, num_texts=len(whole)),
        "whole_texts": len(whole),
        "share": share_rows(found, seed=seed),
        "turns_ns": {name: [turn.ns for turn in turns] for name, turns in found.turns.items()},
    }


def _check(settings: Settings) -> None:
    """Refuse what would make every row invalid, before an environment is built."""
    files = settings.files
    missing = [name for name in _CHECKPOINT_FILES if not (files.checkpoint / name).is_file()]
    if missing:
        raise InputError(
            f"it has no {', '.join(missing)}; a fine-tuned text checkpoint was expected; "
            "'edgeml finetune' makes one",
            item=str(files.checkpoint),
        )
    for path in files.offline:
        if not path.is_file():
            raise DataError(source=path.name, reason="there is no such file of texts")


def _open_all(settings: Settings, say: Say) -> tuple[dict[str, Worker], dict[str, str]]:
    workers: dict[str, Worker] = {}
    failed: dict[str, str] = {}
    try:
        for name in settings.peers:
            try:
                workers[name] = open_worker(PEERS[name], settings, say)
            except (PeerError, DataError) as exc:
                failed[name] = str(exc)
                say(f"{name}: {exc}")
    except BaseException:
        for worker in workers.values():
            worker.close()
        raise
    return workers, failed


def _file_facts(files: Files) -> dict[str, dict[str, str]]:
    read = {
        "checkpoint": files.checkpoint / "model.safetensors",
        "bundle": files.bundle / "manifest.json",
        "sentences": files.texts,
        "calibration": files.calibration,
    }
    read.update({f"list {number}": path for number, path in enumerate(files.offline, start=1)})
    return {what: conditions.file_facts(path) for what, path in read.items() if path.is_file()}
