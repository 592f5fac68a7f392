"""Open a bundle on this machine: manifest, hash, host, engine, task."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

from edgeml.core.bundle import Bundle
from edgeml.core.manifest import Variant
from edgeml.errors import BundleError, EdgemlError, HostMismatchWarning, InputError
from edgeml.runtime.engine import OnnxEngine, SessionSettings
from edgeml.runtime.host import check_threads, detect_host
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.opening import open_task
from edgeml.tasks.predictor import Task, TaskPredictor
from edgeml.tasks.text import TOKENIZER

Verify = Literal["hash", "golden"]

# Instruction sets on which 8-bit products are summed without saturating, hence give the same
# numbers.
_EXACT = frozenset({"amx_int8", "avx512_vnni", "avx_vnni"})


def load(
    bundle: str | Path | Bundle,
    *,
    variant: str | None = None,
    num_threads: int | None = None,
    verify: Verify = "hash",
) -> TaskPredictor:
    """Load a bundle for prediction in this process.

    Args:
        bundle: The bundle's folder.
        variant: Name of a variant; None takes the one that the export chose, and for batches
            another where the manifest names one. If that one was tuned for an instruction set that
            this machine lacks, fp32 is taken instead and a
            :class:`~edgeml.errors.HostMismatchWarning` says so, as does ``served_by``.
        num_threads: Threads of one call; None takes what affinity and cgroup quota allow.
        verify: ``hash`` compares the hash of each file that is opened; ``golden`` also replays the
            golden examples.

    Returns:
        A predictor; use it as a context manager or close it.

    Raises:
        BundleError: This is no readable bundle, or (as IntegrityError) a file is damaged.
        InputError: An argument is wrong.

    Example:
        >>> import edgeml
        >>> edgeml.load("no-such.bundle")
        Traceback (most recent call last):
        edgeml.errors.BundleError: no-such.bundle: this is not a bundle: ...
    """
    if verify not in ("hash", "golden"):
        raise InputError(f"verify is {verify!r}; 'hash' or 'golden' was expected")
    threads = check_threads(num_threads)
    opened = bundle if isinstance(bundle, Bundle) else Bundle.read(bundle)
    row = _for_this_host(opened, variant)
    task = task_of(opened)
    engine = open_engine(opened, row, num_threads=threads)
    together = _for_batches(opened, row)
    batch_engine = None
    if together.name != row.name:
        try:
            batch_engine = open_engine(opened, together, num_threads=threads)
        except EdgemlError:
            engine.close()
            raise
    predictor = TaskPredictor(task, engine, batch_engine=batch_engine)
    if verify == "golden":
        from edgeml.workflows.verifying import require_golden

        try:
            require_golden(opened, row, engine, task)
            if batch_engine is not None:
                require_golden(opened, together, batch_engine, task)
        except EdgemlError:
            predictor.close()
            raise
    return predictor


def open_engine(bundle: Bundle, variant: Variant, *, num_threads: int) -> OnnxEngine:
    """Open one variant of a bundle after comparing its hash."""
    manifest = bundle.manifest
    return OnnxEngine(
        bundle.checked_path(variant.file),
        settings=SessionSettings(num_threads=num_threads),
        signature=manifest.signature,
        served_by=f"onnxruntime/cpu/{variant.name}/{manifest.version}",
    )


def task_of(bundle: Bundle) -> Task:
    """Return the task that a bundle's contract describes.

    Raises:
        BundleError: This version of edgeml does not run the bundle's task.
    """
    manifest = bundle.manifest
    labels = ClassLabels(names=manifest.labels, multi_label=manifest.multi_label)
    try:
        return open_task(
            manifest.task,
            manifest.preprocessing,
            labels,
            tokenizer=lambda: bundle.open_file(TOKENIZER),
        )
    except InputError as exc:
        raise BundleError(path=str(bundle.path), reason=str(exc)) from exc


def _for_batches(bundle: Bundle, row: Variant) -> Variant:
    """Return what answers batches beside a variant whose answers depend on their neighbours."""
    if row.batch_safe:
        return row
    named = bundle.variant(bundle.manifest.chosen_for_batches)
    mine = detect_host().instruction_set
    fits = named.tuned_for is None or {named.tuned_for, mine} <= _EXACT or named.tuned_for == mine
    if named.batch_safe and fits:
        return named
    return bundle.variant("fp32")


def _for_this_host(bundle: Bundle, name: str | None) -> Variant:
    row = bundle.variant(name)
    mine = detect_host().instruction_set
    if row.tuned_for is None or row.tuned_for == mine or {row.tuned_for, mine} <= _EXACT:
        return row
    text = f"variant '{row.name}' was tuned for {row.tuned_for} and this machine has {mine}"
    portable = bundle.manifest.variant("fp32")
    if name is None and portable is not None:
        text += "; fp32 is used instead; export on this machine to choose again"
        row = portable
    else:
        text += "; its answers may differ here: run 'edgeml verify' before trusting it"
    warnings.warn(text, HostMismatchWarning, stacklevel=3)
    return row
