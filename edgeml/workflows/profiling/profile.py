"""``edgeml.profile``: measure every deployment of a bundle, and say which is the better place."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import edgeml
from edgeml.bench.histograms import write_log
from edgeml.bench.record import Record
from edgeml.core.bundle import Bundle
from edgeml.core.files import write_json
from edgeml.core.progress import Progress, ProgressEvent, silent
from edgeml.errors import BundleError, EdgemlError
from edgeml.workflows.profiling.advice import Service, candidates_of
from edgeml.workflows.profiling.conditions import append_history, conditions_of, history_entry
from edgeml.workflows.profiling.deployments import Deployment, parse_targets
from edgeml.workflows.profiling.floors import floor_of
from edgeml.workflows.profiling.footprint import measure_footprint
from edgeml.workflows.profiling.measuring import Measurable, measure_all
from edgeml.workflows.profiling.page import write_page
from edgeml.workflows.profiling.recommending import recommend
from edgeml.workflows.profiling.rows import Row, Subject
from edgeml.workflows.profiling.samples import Samples, expected_of, samples_of
from edgeml.workflows.profiling.searching import search_rates
from edgeml.workflows.profiling.servers import Running, memory_mb, running_servers
from edgeml.workflows.profiling.settings import (
    ProfileSettings,
    ServiceLevel,
    check_scenarios,
    settings_of,
)
from edgeml.workflows.profiling.stages import Breakdown, break_down

RUNNABLE = ("image-classification", "text-classification", "tensor")
DEFAULT_TARGETS = ("edge", "http")
DEFAULT_SCENARIOS = ("single-stream", "server", "offline")
HISTOGRAMS = "histograms"


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What a profile found.

    Attributes:
        rows: One row a target and scenario, as JSON values.
        recommendation: ``target, reason, margin`` and what they rest on.
        report: All of it, as in ``report.json``.
        folder: Where ``report.json``, ``report.html`` and ``history.jsonl`` are, and
            ``histograms/TARGET-SCENARIO[-RUN].hlog``.
    """

    rows: list[dict[str, Any]]
    recommendation: dict[str, Any]
    report: Mapping[str, Any] = field(repr=False)
    folder: Path

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values, without the samples behind the pictures."""
        rows = [
            {key: value for key, value in row.items() if key != "response_ms"} for row in self.rows
        ]
        return {**self.report, "rows": rows, "out": str(self.folder)}


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What is fixed before anything is measured."""

    bundle: Bundle
    samples: Samples
    deployments: tuple[Deployment, ...]
    scenarios: tuple[str, ...]
    level: ServiceLevel
    settings: ProfileSettings
    progress: Progress
    folder: Path

    def say(self, text: str) -> None:
        self.progress(ProgressEvent(stage="profile", done=0, total=0, note=text))

    def keep(self, name: str, record: Record) -> None:
        """Write the latencies of a run as an HDR histogram log."""
        write_log(record, self.folder / HISTOGRAMS / f"{name}.hlog")


def profile(
    bundle: str | Path | Bundle,
    *,
    targets: Sequence[str] = DEFAULT_TARGETS,
    scenarios: Sequence[str] = DEFAULT_SCENARIOS,
    level: ServiceLevel | None = None,
    settings: ProfileSettings | None = None,
    out: str | Path | None = None,
    progress: Progress = silent,
) -> Profile:
    """Measure deployments of one bundle side by side, and recommend one.

    Every server without an address is started with as many threads as the in-process row has, and
    stopped at the end. What is sent are the bundle's golden inputs; answers are compared with those
    of the same variant in this process.

    Args:
        bundle: The bundle's folder.
        targets: ``edge``, ``http``, ``triton-grpc``, ``triton-http``, ``triton-http-json``,
            ``triton-shm``; ``NAME=URL`` uses a server of yours.
        scenarios: ``single-stream``, ``multi-stream``, ``server``, ``offline``.
        level: What the deployment must keep; None asks for nothing.
        settings: How much is measured; None takes the preset ``quick``, at most three minutes.
        out: Where the report goes; None writes it beside the bundle.
        progress: Called with what is being measured.

    Returns:
        Rows, recommendation, and the report's place.

    Raises:
        InputError: A target, a scenario or a number is none.
        BundleError: This is no readable bundle, or it has nothing to send.
        HostError: A server does not start.
        MissingExtraError: The extra of a target is not installed.
        MeasurementError: A target could not be measured at all.
    """
    opened = bundle if isinstance(bundle, Bundle) else Bundle.read(bundle)
    if opened.manifest.task not in RUNNABLE:
        reason = f"its task is '{opened.manifest.task}'; {', '.join(RUNNABLE)} can be profiled"
        raise BundleError(path=str(opened.path), reason=reason)
    folder = Path(out) if out is not None else _beside(opened.path)
    job = _Job(
        bundle=opened,
        samples=samples_of(opened),
        deployments=parse_targets(targets),
        scenarios=check_scenarios(tuple(scenarios)),
        level=level or ServiceLevel(),
        settings=settings or settings_of("quick"),
        progress=progress,
        folder=folder,
    )
    shutil.rmtree(folder / HISTOGRAMS, ignore_errors=True)  # another run's are not this one's
    (folder / HISTOGRAMS).mkdir(parents=True)
    return _written(folder, _measure(job))


def _written(folder: Path, report: dict[str, Any]) -> Profile:
    write_json(folder / "report.json", report)
    write_page(folder / "report.html", report)
    append_history(folder / "history.jsonl", history_entry(report))
    return Profile(
        rows=report["rows"],
        recommendation=report["recommendation"],
        report=report,
        folder=folder,
    )


def _beside(path: Path) -> Path:
    return path.absolute().with_name(f"{path.absolute().name}.profile")


def _measure(job: _Job) -> dict[str, Any]:
    threads = job.settings.num_threads
    with edgeml.load(job.bundle, num_threads=threads) as predictor:
        chosen = predictor.served_by.split("/")[2]
    conditions = conditions_of(job.bundle, variant=chosen)
    footprint = None
    if any(row.name == "edge" for row in job.deployments):
        variant = job.bundle.variant(chosen)
        job.say("cold start and footprint")
        footprint = measure_footprint(
            job.bundle, variant, num_threads=threads, starts=job.settings.starts
        )
    job.say("starting servers")
    with running_servers(job.bundle, job.deployments, num_threads=threads) as servers:
        targets = [_measurable(job, row, servers.get(row.name), chosen) for row in job.deployments]
        rows = measure_all(
            targets,
            job.scenarios,
            job.settings,
            rate_per_s=job.level.rate_per_s,
            say=job.say,
            keep=job.keep,
        )
        breakdowns = _breakdowns(job, servers)
        searched = search_rates(targets, rows, job.settings, level=job.level, say=job.say)
        memory = {name: memory_mb(row.pid) if row.pid else None for name, row in servers.items()}
    if footprint is not None:
        memory["edge"] = footprint.rss_mb
    services = {
        row.subject.target: Service.of(row, breakdowns.get(row.subject.target))
        for row in rows
        if row.scenario == "single-stream" and row.service_sample_ms.size
    }
    found = candidates_of(rows, job.level, services=services, memory_mb=memory)
    job.say("done")
    return {
        "rows": _shown(job, rows),
        "recommendation": recommend(found, job.level),
        "breakdown": [row.to_json() for row in breakdowns.values()],
        "curves": {
            name: {"kind": "modelled", "points": service.curve()}
            for name, service in services.items()
        },
        "highest_rates": searched,
        "footprint": footprint.to_json() if footprint else None,
        "memory_mb": memory,
        "servers_start_s": {name: row.start_s for name, row in servers.items()},
        "conditions": {
            **conditions,
            "samples": f"{len(job.samples.items)} {job.samples.origin}",
            "threads_of_each_target": threads,
            "generator": "a process of its own on the same machine; it shares the processors",
        },
        "settings": job.settings.to_json(),
    }


def _shown(job: _Job, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows that were asked for."""
    return [row.to_json() for row in rows if row.scenario in job.scenarios]


def _measurable(
    job: _Job, deployment: Deployment, server: Running | None, chosen: str
) -> Measurable:
    """Return a target with what its rows are about, and the answers that it should give."""
    job.say(f"{deployment.name}: the floor of its client")
    served_by = _served_by(job, deployment, server)
    words = served_by.split("/")
    name = words[2] if len(words) > 2 else ("" if server is not None else chosen)
    variant = job.bundle.manifest.variant(name)
    expected = None
    if variant is not None:
        with edgeml.load(job.bundle, variant=variant.name, num_threads=1) as predictor:
            expected = expected_of(predictor, job.samples)
    evidence = dict(variant.evidence) if variant else {}
    reported = evidence.get("reported_accuracy")
    subject = Subject(
        target=deployment.name,
        placement=deployment.placement,
        served_by=served_by,
        variant=variant.name if variant else "",
        accuracy=reported if reported is not None else (variant.accuracy if variant else None),
        size_bytes=variant.size_bytes if variant else None,
        threads=job.settings.num_threads if server is None else server.threads,
        floor=floor_of(deployment, server),
    )
    factory, options = _factory(job, deployment, server)
    return Measurable(subject=subject, factory=factory, options={**options, "expected": expected})


def _factory(
    job: _Job, deployment: Deployment, server: Running | None
) -> tuple[str, dict[str, Any]]:
    path = str(job.bundle.path.absolute())
    if server is None:
        return "edge", {"bundle": path, "num_threads": job.settings.num_threads}
    if deployment.kind.server == "http":
        return "http", {"bundle": path, "url": server.urls["http"]}
    common = {"bundle": path, "model": server.model}
    if deployment.name == "triton-http-json":
        return "triton_json", {**common, "url": server.urls["http"]}
    wanted = "http" if deployment.name == "triton-http" else "grpc"
    url = server.urls.get(wanted) or next(iter(server.urls.values()))
    return "triton", {**common, "url": url, "shared_memory": deployment.name == "triton-shm"}


def _served_by(job: _Job, deployment: Deployment, server: Running | None) -> str:
    """Return who answers, by the server's own words; empty where it does not say."""
    from edgeml.workflows.profiling.http_caller import HttpCaller

    if server is None:
        with edgeml.load(job.bundle, num_threads=job.settings.num_threads) as predictor:
            return predictor.served_by
    if deployment.kind.server == "http":
        caller = HttpCaller(server.urls["http"])
        try:
            return str(caller.get("/").get("served_by", ""))
        except (EdgemlError, AttributeError):
            return ""
        finally:
            caller.close()
    with edgeml.connect(
        next(iter(server.urls.values())), model=server.model, bundle=job.bundle
    ) as predictor:
        return predictor.served_by


def _breakdowns(job: _Job, servers: Mapping[str, Running]) -> dict[str, Breakdown]:
    found = {}
    for deployment in job.deployments:
        job.say(f"{deployment.name}: where the time goes")
        try:
            found[deployment.name] = break_down(
                deployment.name,
                bundle=job.bundle,
                samples=job.samples,
                server=servers.get(deployment.name),
                num_threads=job.settings.num_threads,
            )
        except EdgemlError as exc:
            job.say(f"{deployment.name}: its stages cannot be told ({exc})")
    return found
