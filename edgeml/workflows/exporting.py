"""``edgeml.export``: a model in, a bundle of proven variants out."""

from __future__ import annotations

import json
import math
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeml._optional import require
from edgeml.core.bundle import Bundle, check_replaceable
from edgeml.core.gate import Gate
from edgeml.core.manifest import ENGINE
from edgeml.core.progress import Progress, silent
from edgeml.core.timing import TimingPlan
from edgeml.errors import InputError
from edgeml.runtime.host import check_threads
from edgeml.runtime.opening import ENGINES, installed_engines


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """How an export searches and measures.

    Attributes:
        num_threads: Threads for everything but latency, which is taken with one; None takes what
            affinity and cgroup quota allow.
        timing: How much to time at the end.
        seed: Seed of the calibration sample, and of the split of data that the checkpoint has not
            seen.
        budget_s: Seconds that a search is meant to take: candidates begin in its first two
            thirds, the rest is for timing the best side by side.
        engines: Engines that may run the chosen variant; ``openvino`` needs the extra [openvino]
            wherever the bundle goes, so it must be asked for.
        goal: ``latency`` chooses the fastest variant that is no worse; ``size`` the smallest, and
            also tries weights in eight and four bits.
        files: ONNX files of the same inputs and outputs that somebody else made; they are judged
            like any other candidate.
        outputs: For graphs from elsewhere: whether the output holds scores of ``classes`` or other
            ``values``; ``auto`` decides by labels, shape and sums.
        sensitivity: Whether blocks are measured even where no choice depends on it.
    """

    num_threads: int | None = None
    timing: TimingPlan = field(default_factory=TimingPlan)
    seed: int = 0
    budget_s: float = 600.0
    engines: tuple[str, ...] = (ENGINE,)
    goal: str = "latency"
    files: tuple[str, ...] = ()
    outputs: str = "auto"
    sensitivity: bool = False

    def __post_init__(self) -> None:
        if self.num_threads is not None and self.num_threads < 1:
            raise InputError(f"num_threads is {self.num_threads}; at least 1 was expected")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; at least 0 was expected")
        if not 0 < self.budget_s < math.inf:
            raise InputError(f"the budget is {self.budget_s} s; a positive time was expected")
        for name, value, known in (
            ("goal", self.goal, ("latency", "size")),
            ("outputs", self.outputs, ("auto", "classes", "values")),
        ):
            if value not in known:
                raise InputError(f"{name} is {value!r}; one of {', '.join(known)} was expected")
        if ENGINE not in self.engines:
            raise InputError(f"engines is {self.engines}; {ENGINE} must be among them")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What :func:`export` made: the bundle, one row a variant, and the report beside it."""

    bundle: Bundle
    rows: tuple[dict[str, Any], ...]
    report: Path
    seconds: float
    notes: tuple[str, ...] = ()

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
            "chosen_by_engine": dict(manifest.chosen_by_engine),
            "data": manifest.data,
            "proven": manifest.proven,
            "variants": list(self.rows),
            "report": str(self.report),
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
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
    """Search for the fastest variant of a model that is no worse, prove it, and pack a bundle.

    Calibration samples come from the training part, variants are compared on the validation part,
    and the test part is read once at the end. A variant is chosen only if it is no worse than fp32
    by the gate and proven faster on this machine; otherwise fp32 is, and the manifest says why.
    Each candidate is made and measured in a process of its own; what was measured is kept, so that
    a search that was interrupted goes on, and one that is repeated is done at once.

    Args:
        source: A checkpoint folder of :func:`finetune`; a classifier of texts or images that
            somebody else fine-tuned, as a folder in the hub's layout or a hub id; an ``.onnx``
            file; or ``package.module:factory`` of a torch module.
        out: The bundle's folder; a bundle that stands there is replaced when the new one is whole.
            The report goes beside it, into ``NAME.report``.
        data: Data to prove on; None takes what the checkpoint was trained on. For graphs and
            modules an ``.npz``: one array an input, first axis samples, and perhaps ``labels``;
            without any, inputs are made up and the manifest says so. Samples that the training has
            seen are refused.
        gate: When a variant is no worse than fp32; None is ``Gate()``, half a point.
        name: The bundle's name; None takes the name of ``out`` without ``.bundle``.
        version: The bundle's version.
        settings: Budget, engines, threads, timing, seed.
        progress: Told of each step.

    Raises:
        InputError: The source is none of these, or ``out`` is something else.
        DataError: The data is missing, damaged or unfit.
        ParityError: The fp32 variant answers differently from the source.
        ExportError: The model cannot be traced or run.
        MissingExtraError: The extra that the source needs is not installed.
    """
    start = time.monotonic()
    place = Path(out)
    check_replaceable(place)
    settings = settings or ExportSettings()
    threads = check_threads(settings.num_threads)
    settings = replace(settings, num_threads=threads)
    if is_recommender(source):
        return _export_recommender(Path(source), place, data, gate, name, version, progress)
    _check_engines(settings.engines)
    _check_files(settings.files)
    require("onnx", extra="export")
    from edgeml.workflows.bundling import Packing, pack
    from edgeml.workflows.proving import prove
    from edgeml.workflows.search_report import report_folder, rows_of, write_search_report
    from edgeml.workflows.source_opening import open_source

    opened = open_source(source, data, settings, progress)
    with tempfile.TemporaryDirectory(prefix="edgeml-search-") as folder:
        proof = prove(opened, gate or Gate(), settings, Path(folder), progress)
        packing = Packing(
            name=name or place.absolute().name.removesuffix(".bundle"),
            version=version,
            source=opened,
            settled=proof.settled,
            made=tuple(proof.found.candidates),
            selection=proof.plan.standards.selection,
            seed=settings.seed,
        )
        pack(place, packing)
        bundle = Bundle.read(place)
        rows = rows_of(bundle, proof)
    seconds = time.monotonic() - start
    report = report_folder(place)
    write_search_report(report, bundle, rows, proof, seconds=seconds)
    return Exported(
        bundle=bundle, rows=tuple(rows), report=report, seconds=seconds, notes=opened.notes
    )


def is_recommender(source: str | Path) -> bool:
    """Return whether a folder is a recommender's checkpoint."""
    file = Path(source) / "checkpoint.json"
    try:
        task = json.loads(file.read_bytes()).get("task") if file.is_file() else None
    except (OSError, ValueError, AttributeError):
        return False
    return bool(task == "recommendation")


def _export_recommender(
    source: Path,
    place: Path,
    data: str | Path | None,
    gate: Gate | None,
    name: str | None,
    version: str,
    progress: Progress,
) -> Exported:
    """Hand a recommender on: its ranker is judged by AUC, NDCG and overlap, not by accuracy."""
    require("onnx", extra="export")
    require("torch", extra="train")
    require("faiss", extra="recommend")
    from edgeml.workflows.recommendation_exporting import export_recommender

    if data is not None:
        raise InputError(
            "a recommender is proven on the rows that its checkpoint holds; leave data out",
            item="--data",
        )
    if gate is not None and gate != Gate():
        raise InputError(
            "a recommender has gates of its own (AUC, NDCG@10, overlap); leave the gate out",
            item="--max-drop",
        )
    return export_recommender(source, out=place, name=name, version=version, progress=progress)


def _check_engines(engines: tuple[str, ...]) -> None:
    installed = installed_engines()
    for engine in engines:
        if engine not in ENGINES:
            raise InputError(f"there is no engine '{engine}'; known: {', '.join(ENGINES)}")
        if engine not in installed:
            require(engine, extra=engine)


def _check_files(files: tuple[str, ...]) -> None:
    for file in files:
        if not Path(file).is_file():
            raise InputError(
                "this candidate is no file; an .onnx file was expected; check the path", item=file
            )
