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
from edgeml.errors import InputError, ParityError
from edgeml.runtime.host import available_threads, detect_host
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
        gate: When a variant is no worse than fp32.
        num_threads: Threads for everything but latency, which is taken with one; None takes what
            affinity and cgroup quota allow.
        timing: How much to time.
        seed: Seed of the calibration sample, and of the split of data that the checkpoint has not
            seen.
    """

    gate: Gate = field(default_factory=Gate)
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
        data: Data to prove on; None takes what the checkpoint was trained on.
        name: The bundle's name; None takes the name of ``out`` without ``.bundle``.
        version: The bundle's version.
        settings: Gate, threads, timing, seed.
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
    threads = settings.num_threads or available_threads()
    settings = replace(settings, num_threads=threads)
    job = _open(Path(source), data, settings)
    parts = _prepare(job, settings, progress)
    candidates = _candidates(job, parts, settings, progress)
    candidates, verdicts = _decide(candidates, parts.selection, settings.gate)
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
        selection=parts.selection,
        seed=settings.seed,
    )
    pack(place, packing)
    bundle = Bundle.read(place)
    return Exported(bundle=bundle, rows=tuple(_row(v) for v in bundle.manifest.variants))


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What is exported, and the data that it is proven on."""

    checkpoint: Checkpoint
    network: nn.Module
    task: ImageTask
    dataset: ImageDataset
    split: Split


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """Prepared pictures of three disjoint parts."""

    calibration: npt.NDArray[np.uint8]
    selection: Samples
    reporting: Samples


def _open(source: Path, data: str | Path | None, settings: ExportSettings) -> _Job:
    from edgeml.data.dataset import Split, make_split
    from edgeml.data.opening import open_image_data
    from edgeml.errors import DataError
    from edgeml.training.checkpoint import read_checkpoint

    checkpoint, network = read_checkpoint(source)
    dataset = open_image_data(data if data is not None else checkpoint.data["data"])
    if dataset.labels != checkpoint.labels:
        reason = (
            f"its classes are {', '.join(dataset.labels)}; the checkpoint's are "
            f"{', '.join(checkpoint.labels)}; give data of the same classes"
        )
        raise DataError(source=dataset.name, reason=reason)
    if dataset.fingerprint == checkpoint.data["fingerprint"]:
        split = Split(**checkpoint.split)
    elif data is None:
        reason = "the data has changed since training; its split would leak: pass --data explicitly"
        raise DataError(source=dataset.name, reason=reason)
    else:
        split = make_split(dataset, seed=settings.seed)
    task = ImageTask(
        preprocessing=ImagePreprocessing.from_json(checkpoint.preprocessing),
        labels=ClassLabels(names=checkpoint.labels),
    )
    return _Job(checkpoint=checkpoint, network=network, task=task, dataset=dataset, split=split)


def _prepare(job: _Job, settings: ExportSettings, progress: Progress) -> _Parts:
    from edgeml.data.opening import prepare_images
    from edgeml.workflows.candidates import Samples

    def images(indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        return prepare_images(job.dataset, indices, job.task.preprocessing, progress=progress)

    def samples(indices: npt.NDArray[np.int64]) -> Samples:
        return Samples(images=images(indices), targets=job.dataset.targets[indices])

    rng = np.random.default_rng(settings.seed)
    shuffled = rng.permutation(job.split.train)
    return _Parts(
        calibration=images(np.sort(shuffled[:_CALIBRATION_SAMPLES])),
        selection=samples(rng.permutation(job.split.validation)),
        reporting=samples(job.split.test),
    )


def _candidates(
    job: _Job, parts: _Parts, settings: ExportSettings, progress: Progress
) -> list[Candidate]:
    from edgeml.exporting.from_torch import trace_image_model
    from edgeml.training.engine import TorchEngine
    from edgeml.training.loop import Normalisation
    from edgeml.workflows import candidates as making

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
    reference = torch_engine.run({INPUT: making.parity_samples(parts.selection)})[OUTPUT]
    progress(ProgressEvent(stage="quantize", done=0, total=1, note="fp16 and int8"))
    candidates = making.make_candidates(
        core, job.task, parts.calibration, instruction_set=detect_host().instruction_set
    )
    progress(ProgressEvent(stage="quantize", done=1, total=1))
    making.measure_candidates(
        candidates,
        job.task,
        parts.selection,
        reference,
        measuring=making.Measuring(num_threads=threads, plan=settings.timing),
        progress=progress,
    )
    parity = candidates[0].evidence["parity"]
    if candidates[0].failures:
        raise ParityError(
            variant="fp32",
            max_abs_diff=parity["max_abs_diff"],
            tolerance=parity["tolerance"],
            sample=parity["sample"],
        )
    return candidates


def _decide(
    candidates: list[Candidate], selection: Samples, gate: Gate
) -> tuple[list[Candidate], dict[str, tuple[str, str]]]:
    """Judge each candidate, keep the best INT8, and choose the fastest that passed, or fp32."""
    from edgeml.workflows.candidates import judge, keep_best_int8

    fp32 = candidates[0]
    verdicts = {row.name: judge(row, fp32, selection, gate) for row in candidates}
    candidates, verdicts = keep_best_int8(candidates, verdicts)
    passed = [row for row in candidates if verdicts[row.name][0] == "passed"]
    if not passed:
        others = ", ".join(row.name for row in candidates[1:])
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
