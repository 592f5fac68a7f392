"""``edgeml.export``: a checkpoint in, a bundle of proven variants out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml.core.bundle import Bundle, check_replaceable
from edgeml.core.gate import Gate
from edgeml.core.paired import compare_accuracy
from edgeml.core.progress import Progress, ProgressEvent, silent
from edgeml.core.timing import TimingPlan
from edgeml.errors import DataError, ExportError, InputError, ParityError
from edgeml.runtime.host import check_threads, detect_host
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.image import INPUT, OUTPUT, ImagePreprocessing, ImageTask

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import nn

    from edgeml.data.dataset import ImageDataset, Split
    from edgeml.training.checkpoint import Checkpoint
    from edgeml.workflows.candidates import Candidate, Samples

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

    Calibration pictures come from the training part, variants are compared on the validation part,
    and the test part is read once at the end. A variant is chosen only if it is no worse than fp32
    by the gate and proven faster on this machine; otherwise fp32 is, and the manifest says why.

    Args:
        source: A checkpoint folder of :func:`finetune`.
        out: The bundle's folder; a bundle that stands there is replaced when the new one is whole.
        data: Data to prove on; None takes what the checkpoint was trained on. Pictures that the
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
    job = _open(Path(source), data, settings)
    parts = _prepare(job, settings, progress)
    made = _candidates(job, parts, settings, progress)
    candidates = [row for row in made if not row.broken]
    candidates, verdicts = _decide(candidates, parts.selection, gate or Gate())
    _report_once(candidates, job, parts.reporting, num_threads=threads)

    from edgeml.workflows.bundling import Packing, pack

    packing = Packing(
        name=name or place.absolute().name.removesuffix(".bundle"),
        version=version,
        task=job.task,
        checkpoint=job.checkpoint,
        dataset=job.dataset,
        golden=_golden_indices(job),
        candidates=tuple(candidates),
        verdicts=verdicts,
        broken={row.name: row.broken for row in made if row.broken},
        selection=parts.selection,
        seed=settings.seed,
    )
    pack(place, packing)
    bundle = Bundle.read(place)
    rows = [_row(variant) for variant in bundle.manifest.variants]
    rows += [_broken_row(row) for row in made if row.broken]
    return Exported(bundle=bundle, rows=tuple(rows))


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What is exported, and the data that it is proven on."""

    checkpoint: Checkpoint
    network: nn.Module
    task: ImageTask
    dataset: ImageDataset
    split: Split
    foreign: bool


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """Prepared pictures of three disjoint parts."""

    calibration: npt.NDArray[np.uint8]
    selection: Samples
    reporting: Samples


def _open(source: Path, data: str | Path | None, settings: ExportSettings) -> _Job:
    from edgeml.data.dataset import Split, make_split
    from edgeml.data.opening import open_image_data, reopen
    from edgeml.training.checkpoint import read_checkpoint

    checkpoint, network = read_checkpoint(source)
    dataset = open_image_data(data) if data is not None else reopen(checkpoint.data)
    if dataset.labels != checkpoint.labels:
        reason = (
            f"its classes are {', '.join(dataset.labels)}; the checkpoint's are "
            f"{', '.join(checkpoint.labels)}; give data of the same classes"
        )
        raise DataError(source=dataset.name, reason=reason)
    if dataset.fingerprint == checkpoint.data["fingerprint"]:
        split = Split(**checkpoint.split)
    elif data is None:
        reason = (
            "the data has changed since training, so that its stored split would leak; restore it, "
            "train again, or pass --data with pictures that the training has not seen"
        )
        raise DataError(source=dataset.name, reason=reason)
    else:
        split = make_split(dataset, seed=settings.seed)
    task = ImageTask(
        preprocessing=ImagePreprocessing.from_json(checkpoint.preprocessing),
        labels=ClassLabels(names=checkpoint.labels),
    )
    return _Job(
        checkpoint=checkpoint,
        network=network,
        task=task,
        dataset=dataset,
        split=split,
        foreign=dataset.fingerprint != checkpoint.data["fingerprint"],
    )


def _prepare(job: _Job, settings: ExportSettings, progress: Progress) -> _Parts:
    from edgeml.data.opening import prepare_images
    from edgeml.workflows.candidates import Samples

    def images(indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        return prepare_images(job.dataset, indices, job.task.preprocessing, progress=progress)

    def samples(indices: npt.NDArray[np.int64]) -> Samples:
        return Samples(images=images(indices), targets=job.dataset.targets[indices])

    rng = np.random.default_rng(settings.seed)
    shuffled = rng.permutation(job.split.train)
    parts = _Parts(
        calibration=images(np.sort(shuffled[:_CALIBRATION_SAMPLES])),
        selection=samples(rng.permutation(job.split.validation)),
        reporting=samples(job.split.test),
    )
    if job.foreign:
        _refuse_seen(job, parts)
    return parts


def _refuse_seen(job: _Job, parts: _Parts) -> None:
    """Refuse data that overlaps what the checkpoint was trained on, with the count."""
    from edgeml.data.opening import picture_hashes

    images = (parts.selection.images, parts.reporting.images)
    hashes = np.concatenate([picture_hashes(part) for part in images])
    seen = int(np.isin(hashes, job.checkpoint.seen).sum())
    if seen:
        reason = (
            f"{seen} of {len(hashes)} pictures to prove on were in the checkpoint's training data; "
            "none was expected; remove them"
        )
        raise DataError(source=job.dataset.name, reason=reason)


def _candidates(
    job: _Job, parts: _Parts, settings: ExportSettings, progress: Progress
) -> list[Candidate]:
    from edgeml.exporting.from_torch import trace_image_model
    from edgeml.training.engine import TorchEngine
    from edgeml.training.loop import Normalisation
    from edgeml.workflows import judging
    from edgeml.workflows.candidates import make_candidates

    contract = job.task.preprocessing
    progress(ProgressEvent(stage="trace", done=0, total=1, note="torch to ONNX"))
    core = trace_image_model(job.network, height=contract.height, width=contract.width)
    progress(ProgressEvent(stage="trace", done=1, total=1))
    threads = settings.num_threads or 1
    torch_engine = TorchEngine(
        job.network,
        Normalisation(mean=contract.mean, std=contract.std),
        job.task.signature,
        num_threads=threads,
    )
    reference = torch_engine.run({INPUT: judging.parity_samples(parts.selection)})[OUTPUT]
    progress(ProgressEvent(stage="quantize", done=0, total=1, note="fp16 and int8"))
    candidates = make_candidates(
        core, job.task, parts.calibration, instruction_set=detect_host().instruction_set
    )
    progress(ProgressEvent(stage="quantize", done=1, total=1))
    judging.measure_candidates(
        candidates,
        job.task,
        parts.selection,
        reference,
        measuring=judging.Measuring(num_threads=threads, plan=settings.timing),
        progress=progress,
    )
    _require_sound(candidates[0])
    return candidates


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


def _decide(
    candidates: list[Candidate], selection: Samples, gate: Gate
) -> tuple[list[Candidate], dict[str, tuple[str, str]]]:
    """Judge each candidate, keep the best INT8, and choose the fastest that passed, or fp32."""
    from edgeml.workflows.judging import judge, keep_best_int8

    fp32 = candidates[0]
    verdicts = {row.name: judge(row, fp32, selection, gate) for row in candidates}
    candidates, verdicts = keep_best_int8(candidates, verdicts)
    passed = [row for row in candidates if verdicts[row.name][0] == "passed"]
    if not passed:
        others = ", ".join(row.name for row in candidates[1:]) or "the others"
        verdicts[fp32.name] = ("chosen", f"none of {others} is no worse and proven faster here")
        return candidates, verdicts
    best = max(passed, key=lambda row: row.latency.speedup if row.latency else 0.0)
    verdicts[best.name] = ("chosen", f"fastest that is no worse: {verdicts[best.name][1]}")
    return candidates, verdicts


def _report_once(
    candidates: list[Candidate], job: _Job, reporting: Samples, *, num_threads: int
) -> None:
    """Read the reporting split, after every choice is made, and note what it says."""
    from edgeml.exporting.checks import run_batches

    right: dict[str, npt.NDArray[np.bool_]] = {}
    for candidate in candidates:
        engine = candidate.engine(job.task, num_threads=num_threads)
        answers = run_batches(engine, reporting.images).argmax(axis=1)
        engine.close()
        right[candidate.name] = answers == reporting.targets
        paired = compare_accuracy(right[candidates[0].name], right[candidate.name])
        candidate.evidence["reported_accuracy"] = paired.candidate
        candidate.evidence["reported"] = asdict(paired)


def _golden_indices(job: _Job, count: int = 4) -> list[int]:
    """Return the first test picture of each of the first few classes."""
    test = job.split.test
    targets = job.dataset.targets[test]
    return [
        int(test[np.flatnonzero(targets == index)[0]])
        for index in range(len(job.dataset.labels))
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
        "reported_accuracy": evidence.get("reported_accuracy"),
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
        "reported_accuracy",
    )
    return {
        "name": candidate.name,
        "precision": candidate.precision,
        **dict.fromkeys(figures),
        "verdict": "rejected",
        "reason": candidate.broken,
    }
