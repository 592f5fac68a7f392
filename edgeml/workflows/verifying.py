"""Verify a bundle: hashes, golden examples, and whether it was tuned for this machine."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeml.core.bundle import GOLDEN, Bundle, Check
from edgeml.core.manifest import Variant
from edgeml.core.predictor import Engine
from edgeml.errors import EdgemlError, IntegrityError, MissingExtraError
from edgeml.runtime.host import detect_host
from edgeml.runtime.host_profile import find_profile
from edgeml.tasks.predictor import Task
from edgeml.workflows.loading import open_engine, task_of
from edgeml.workflows.training_options import RECOMMENDATION_TASK


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What :func:`verify` found."""

    ok: bool
    checks: tuple[Check, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the checks as JSON values."""
        rows = [{"name": c.name, "ok": c.ok, "detail": c.detail} for c in self.checks]
        return {"ok": self.ok, "checks": rows}


def verify(bundle: str | Path) -> Verification:
    """Check every file, replay the golden examples on every variant, and look at this machine.

    Args:
        bundle: The bundle's folder.

    Returns:
        One check a file, one for the preprocessing, one a variant, one for the host, and one for
        the profile of ``edgeml tune`` where there is one. A host that differs from the one tuned
        for, a profile of another one and an engine that is not installed are told, and no failure.

    Raises:
        BundleError: The folder is not a readable bundle at all.
    """
    opened = Bundle.read(bundle)
    checks = opened.verify_files()
    if all(check.ok for check in checks):
        checks += _golden_checks(opened)
    checks.append(_host_check(opened))
    checks += _profile_checks(opened)
    return Verification(ok=all(check.ok for check in checks), checks=tuple(checks))


def require_golden(bundle: Bundle, variant: Variant, engine: Engine, task: Task) -> None:
    """Replay the golden examples on one variant.

    Raises:
        IntegrityError: Preprocessing or answers are not those of the export.
    """
    for check in (_preprocessing_check(bundle, task), golden_check(bundle, variant, engine)):
        if not check.ok:
            raise IntegrityError(path=str(bundle.path), reason=f"{check.name}: {check.detail}")


def _golden_checks(bundle: Bundle) -> list[Check]:
    if bundle.manifest.task == RECOMMENDATION_TASK:
        from edgeml.workflows.recommendation_verifying import golden_checks

        return golden_checks(bundle)
    if GOLDEN not in bundle.manifest.files:
        return [Check(name="golden", ok=False, detail="the bundle has no golden examples")]
    try:
        checks = [_preprocessing_check(bundle, task_of(bundle))]
    except EdgemlError as exc:
        return [Check(name="golden preprocessing", ok=False, detail=str(exc))]
    for variant in bundle.manifest.variants:
        try:
            # The variant itself: a predictor would give a batch to another where this one's
            # answers depend on their neighbours.
            with contextlib.closing(open_engine(bundle, variant, num_threads=1)) as engine:
                checks.append(golden_check(bundle, variant, engine))
        except MissingExtraError as exc:
            checks.append(Check(name=f"golden {variant.name}", ok=True, detail=f"not run: {exc}"))
        except EdgemlError as exc:
            checks.append(Check(name=f"golden {variant.name}", ok=False, detail=str(exc)))
    return checks


def _preprocessing_check(bundle: Bundle, task: Task) -> Check:
    golden = bundle.golden()
    name = "golden preprocessing"
    items = [task.decode_golden(bundle.open_file(relative)) for relative in golden.inputs]
    prepared = [task.prepare(item) for item in items]
    tensors = task.collate(prepared) if prepared else {}
    for key, stored in golden.tensors.items():
        array = tensors.get(key)
        if array is None or len(stored) != len(array):
            return Check(name=name, ok=False, detail="the golden tensors do not cover its inputs")
        for index in range(len(stored)):
            if not np.array_equal(array[index], stored[index]):
                detail = (
                    f"{golden.inputs[index]} becomes other tensors than at export; install the "
                    "libraries of the export (Pillow, tokenizers)"
                )
                return Check(name=name, ok=False, detail=detail)
    if not golden.tensors:
        return Check(name=name, ok=False, detail="the golden tensors do not cover its inputs")
    return Check(name=name, ok=True, detail=f"{len(golden.inputs)} inputs equal to the bit")


def golden_check(bundle: Bundle, variant: Variant, engine: Engine) -> Check:
    """Compare a variant's answers to the golden tensors with those of the export."""
    golden = bundle.golden()
    name = f"golden {variant.name}"
    expected = golden.outputs.get(variant.name, {})
    allowed = golden.tolerance.get(variant.name)
    if not expected or allowed is None:
        return Check(name=name, ok=False, detail="no golden outputs were stored for it")
    outputs = engine.run(golden.tensors)
    for key, array in expected.items():
        if key not in outputs or outputs[key].shape != array.shape:
            detail = f"the golden output '{key}' {array.shape} is not among the model's answers"
            return Check(name=name, ok=False, detail=detail)
    differences = [
        np.abs(outputs[key].astype(np.float64) - array.astype(np.float64)).max(initial=0.0)
        for key, array in expected.items()
    ]
    # Written so that NaN fails, whichever output holds it.
    worst = float(np.max(differences))
    ok = worst <= allowed
    return Check(
        name=name, ok=ok, detail=f"largest difference {worst:.2g} of {allowed:.2g} allowed"
    )


def _host_check(bundle: Bundle) -> Check:
    mine = detect_host().instruction_set
    tuned = bundle.variant().tuned_for
    if tuned in (None, mine):
        return Check(name="host", ok=True, detail=f"this machine has {mine}, as expected")
    detail = f"tuned for {tuned}, this machine has {mine}: export here to choose again"
    return Check(name="host", ok=True, detail=detail)


def _profile_checks(bundle: Bundle) -> list[Check]:
    found = find_profile(bundle)
    if found is None:
        return []
    detail = f"used: {found.setup.describe()}" if found.setup is not None else ""
    if found.problem:
        detail = f"not used: it {found.problem}; run 'edgeml tune' again"
    return [Check(name="host profile", ok=True, detail=detail)]
