"""``edgeml.export``: a checkpoint in, a bundle of proven variants out."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml._optional import require
from edgeml.core.bundle import Bundle, check_replaceable
from edgeml.core.gate import Gate
from edgeml.core.paired import compare_accuracy
from edgeml.core.progress import Progress, silent
from edgeml.core.timing import TimingPlan
from edgeml.errors import ExportError, InputError, ParityError
from edgeml.runtime.host import check_threads, detect_host

if TYPE_CHECKING:
    import numpy.typing as npt

    from edgeml.workflows.candidates import Candidate, LabelledSamples
    from edgeml.workflows.judging import Settled
    from edgeml.workflows.sources import Source

_CALIBRATION_SAMPLES = 300


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """How an export measures.

    Attributes:
        num_threads: Threads for everything but latency, which is taken with one; None takes what
            affinity and cgroup quota allow.
        timing: How much to time.
        seed: Seed of the calibration sample, and of the split of data that the checkpoint has not
            seen.
    """

    num_threads: int | None = None
    timing: TimingPlan = field(default_factory=TimingPlan)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_threads is not None and self.num_threads < 1:
            raise InputError(f"num_threads is {self.num_threads}; at least 1 was expected")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; at least 0 was expected")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What :func:`export` made: the bundle, and one row a variant."""

    bundle: Bundle
    rows: tuple[dict[str, Any], ...]

    def __fspath__(self) -> str:
        return str(self.bundle.path)

    def to_json(self) -> dict[str, Any]:
        """Return the keys of the command line's JSON."""
        manifest = self.bundle.manifest
        return {
            "bundle": str(self.bundle.path),
            "chosen": manifest.chosen,
            "chosen_for_batches": manifest.chosen_for_batches,
            "chosen_by_device": dict(manifest.chosen_by_device),
            "variants": list(self.rows),
        }


def export(
    source: str | Path,
    *,
    out: str | Path,
    data: str | Path | None = None,
    gate: Gate | None = None,
    name: str | None = None,
    version: str = "1",
    settings: ExportSettings | None = None,
    progress: Progress = silent,
) -> Exported:
    """Export a checkpoint to fp32, fp16 and INT8, prove each, and choose by measurement.

    Calibration samples come from the training part, variants are compared on the validation part,
    and the test part is read once at the end. A variant is chosen only if it is no worse than fp32
    by the gate and proven faster on this machine; otherwise fp32 is, and the manifest says why.

    Args:
        source: A checkpoint folder of :func:`finetune`; or a text classifier that somebody else
            fine-tuned, as a folder in the hub's layout or a hub id, which needs ``data``.
        out: The bundle's folder; a bundle that stands there is replaced when the new one is whole.
        data: Data to prove on; None takes what the checkpoint was trained on. Samples that the
            training has seen are refused.
        gate: When a variant is no worse than fp32; None is ``Gate()``, half a point.
        name: The bundle's name; None takes the name of ``out`` without ``.bundle``.
        version: The bundle's version.
        settings: Threads, timing, seed.
        progress: Told of each step.

    Raises:
        InputError: The source is not a checkpoint, or ``out`` is something else.
        DataError: The data is missing, damaged or unfit.
        ParityError: The fp32 variant answers differently from the checkpoint.
        ExportError: The model cannot be traced or quantized.
        MissingExtraError: The extra [train] is not installed.
    """
    place = Path(out)
    check_replaceable(place)
    settings = settings or ExportSettings()
    threads = check_threads(settings.num_threads)
    settings = replace(settings, num_threads=threads)
    opened = _open(source, data, settings, progress)
    parts = _prepare(opened, settings)
    made = opened.make_candidates(parts.calibration, detect_host().instruction_set)
    _measure(made, opened, parts.selection, settings, progress)
    settled = _decide(made, parts.selection, gate or Gate())
    _report_once(settled.kept, opened, parts.reporting, num_threads=threads)

    from edgeml.workflows.bundling import Packing, pack

    packing = Packing(
        name=name or place.absolute().name.removesuffix(".bundle"),
        version=version,
        source=opened,
        golden=_golden_indices(opened),
        candidates=tuple(settled.kept),
        verdicts=settled.verdicts,
        for_batches=settled.for_batches,
        broken={row.name: row.broken for row in made if row.broken},
        selection=parts.selection,
        seed=settings.seed,
    )
    pack(place, packing)
    bundle = Bundle.read(place)
    rows = [_row(variant) for variant in bundle.manifest.variants]
    rows += [_dropped_row(row, settled.verdicts[row.name]) for row in settled.dropped]
    rows += [_broken_row(row) for row in made if row.broken]
    return Exported(bundle=bundle, rows=tuple(rows))


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """Three disjoint parts: indices to calibrate on, samples to choose by and to report."""

    calibration: npt.NDArray[np.int64]
    selection: LabelledSamples
    reporting: LabelledSamples


def _open(
    source: str | Path, data: str | Path | None, settings: ExportSettings, progress: Progress
) -> Source:
    from edgeml.training.checkpoint import FILE, read_checkpoint

    path = Path(source)
    if not (path / FILE).is_file() and looks_like_hub(source):
        require("transformers", extra="hf")
        from edgeml.workflows.hugging_face_source import open_hugging_face_source

        return open_hugging_face_source(str(source), data, seed=settings.seed, progress=progress)
    checkpoint, network = read_checkpoint(path)
    if checkpoint.task == "text-classification":
        from edgeml.workflows.text_source import open_text_source

        return open_text_source(
            path, checkpoint, network, data, seed=settings.seed, progress=progress
        )
    from edgeml.workflows.image_source import open_image_source

    return open_image_source(checkpoint, network, data, seed=settings.seed, progress=progress)


def looks_like_hub(source: str | Path) -> bool:
    """Return whether a source is a folder in the hub's layout, or is no path and may be a hub id.

    ``name`` alone could be a mistyped folder as well: a hub id has an owner here.
    """
    path = Path(source)
    if path.exists():
        return (path / "config.json").is_file()
    # Where the first part is a folder here, the second is a mistyped name in it.
    return (
        re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", str(source)) is not None and not path.parent.exists()
    )


def _prepare(source: Source, settings: ExportSettings) -> _Parts:
    from edgeml.workflows.candidates import LabelledSamples

    def samples(indices: npt.NDArray[np.int64]) -> LabelledSamples:
        return LabelledSamples(inputs=source.prepare(indices), targets=source.targets[indices])

    rng = np.random.default_rng(settings.seed)
    shuffled = rng.permutation(source.split.train)
    parts = _Parts(
        calibration=np.sort(shuffled[:_CALIBRATION_SAMPLES]),
        selection=samples(rng.permutation(source.split.validation)),
        reporting=samples(source.split.test),
    )
    if source.foreign:
        source.refuse_seen([parts.selection.inputs, parts.reporting.inputs])
    return parts


def _measure(
    candidates: list[Candidate],
    source: Source,
    selection: LabelledSamples,
    settings: ExportSettings,
    progress: Progress,
) -> None:
    from edgeml.workflows.judging import Measuring, measure_candidates

    measure_candidates(
        candidates,
        source,
        selection,
        measuring=Measuring(num_threads=settings.num_threads or 1, plan=settings.timing),
        progress=progress,
    )
    _require_sound(candidates[0])


def _require_sound(fp32: Candidate) -> None:
    """Stop the export where even fp32 is not what was trained."""
    if fp32.broken:
        raise ExportError(f"the fp32 variant is unusable: {fp32.broken}; train the model again")
    parity = fp32.evidence["parity"]
    if parity["max_abs_diff"] > parity["tolerance"]:
        raise ParityError(
            variant="fp32",
            max_abs_diff=parity["max_abs_diff"],
            tolerance=parity["tolerance"],
            sample=parity["sample"],
        )
    if fp32.failures:
        raise ExportError(f"the fp32 variant is unusable: {'; '.join(fp32.failures)}")
    if not fp32.batch_safe:  # it answers batches where nothing else may
        worst = fp32.evidence["invariance"]["max_abs_diff"]
        raise ExportError(
            f"the fp32 variant is unusable: its answers depend on their neighbours in a batch or "
            f"on padding (by {worst:.2g}); a model that answers each sample by itself was expected"
        )


def _decide(made: list[Candidate], selection: LabelledSamples, gate: Gate) -> Settled:
    """Judge each usable candidate, choose, and keep what the bundle holds."""
    from edgeml.workflows.judging import judge, settle

    candidates = [row for row in made if not row.broken]
    fp32 = candidates[0]
    verdicts = {row.name: judge(row, fp32, selection, gate) for row in candidates}
    settled = settle(candidates, verdicts)
    for row in made:  # the best INT8 candidate may have taken the name of one that is broken
        if row.broken and row.name in settled.verdicts:
            row.name = f"{row.name}-broken"
    return settled


def _report_once(
    candidates: list[Candidate], source: Source, reporting: LabelledSamples, *, num_threads: int
) -> None:
    """Read the reporting split, after every choice is made, and note what it says."""
    from edgeml.exporting.checks import run_batches

    right: dict[str, npt.NDArray[np.bool_]] = {}
    for candidate in candidates:
        engine = candidate.engine(source.signature, num_threads=num_threads)
        answers = run_batches(engine, reporting.inputs, batch=None if candidate.batch_safe else 1)
        engine.close()
        right[candidate.name] = reporting.right(answers)
        paired = compare_accuracy(right[candidates[0].name], right[candidate.name])
        candidate.evidence["reported_accuracy"] = paired.candidate
        candidate.evidence["reported"] = asdict(paired)


def _golden_indices(source: Source, count: int = 4) -> list[int]:
    """Return the first test item of each of the first few classes."""
    test = source.split.test
    targets = source.targets[test]
    if targets.ndim == 2:
        return [int(index) for index in test[:count]]
    return [
        int(test[np.flatnonzero(targets == index)[0]])
        for index in range(len(source.labels))
        if np.any(targets == index)
    ][:count]


def _row(variant: Any) -> dict[str, Any]:
    evidence = variant.evidence
    return {
        "name": variant.name,
        "precision": variant.precision,
        "size_bytes": variant.size_bytes,
        "accuracy": variant.accuracy,
        "accuracy_drop": evidence.get("accuracy", {}).get("drop", 0.0),
        "agreement": 1.0 - evidence.get("agreement", {}).get("flips", 0.0),
        "p50_ms": variant.p50_ms,
        "speedup": variant.speedup,
        "verdict": variant.verdict,
        "reason": variant.reason,
        "batch_safe": variant.batch_safe,
        "reported_accuracy": evidence.get("reported_accuracy"),
    }


def _dropped_row(candidate: Candidate, verdict: tuple[str, str]) -> dict[str, Any]:
    """Return the row of a candidate that was measured and is not kept in the bundle."""
    evidence, latency = candidate.evidence, candidate.latency
    accuracy = evidence.get("accuracy", {})
    return {
        "name": candidate.name,
        "precision": candidate.precision,
        "size_bytes": candidate.model.ByteSize(),
        "accuracy": accuracy.get("candidate"),
        "accuracy_drop": accuracy.get("drop", 0.0),
        "agreement": 1.0 - evidence.get("agreement", {}).get("flips", 0.0),
        "p50_ms": latency.p50_ms if latency else None,
        "speedup": latency.speedup if latency else None,
        "verdict": verdict[0],
        "reason": f"{verdict[1]}; not kept in the bundle",
        "batch_safe": candidate.batch_safe,
        "reported_accuracy": None,
    }


def _broken_row(candidate: Candidate) -> dict[str, Any]:
    """Return the row of a candidate that is not in the bundle, since it cannot be used."""
    figures = (
        "size_bytes",
        "accuracy",
        "accuracy_drop",
        "agreement",
        "p50_ms",
        "speedup",
        "batch_safe",
        "reported_accuracy",
    )
    return {
        "name": candidate.name,
        "precision": candidate.precision,
        **dict.fromkeys(figures),
        "verdict": "rejected",
        "reason": candidate.broken,
    }
