"""Put a version in service: check it as a candidate, switch to it whole, check it again.

Every step is written down before it is taken. A failure is undone at once; what a kill leaves is
undone, or finished, by whoever publishes or rolls back next. At each moment in between, the
configurations that are on disk name a version that is whole, the old one or the new one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgeml.core.bundle import Bundle, Check
from edgeml.core.files import move, write_whole
from edgeml.errors import EdgemlError, PublishError, ServerError
from edgeml.serving.publishing.candidate import (
    bridge_configs,
    check_names_free,
    place_candidates,
    remove_candidates,
)
from edgeml.serving.publishing.journal import (
    CANDIDATE,
    COMMITTED,
    PLACING,
    SWITCHING,
    Journal,
    remove_journal,
    remove_staging,
    write_journal,
)
from edgeml.serving.publishing.link import ServerLink
from edgeml.serving.publishing.retiring import retire
from edgeml.serving.publishing.undoing import undo
from edgeml.serving.repository.candidates import candidate_name
from edgeml.serving.repository.publish import cannot_write, place_configs
from edgeml.serving.repository.samples import PERF_ANALYZER, WARMUP
from edgeml.serving.repository.version_record import BUNDLE, VersionRecord, place_of

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Change:
    """A version that is to be served in place of another.

    Attributes:
        root: The repository.
        record: The version.
        staging: Where its files are ready, in a folder for each model that is not yet there and
            for each version that is not.
        bundle: The bundle, or what the version keeps of it.
        check: Checks the files in a folder of the model's version, in this process.
        link: The server to tell; None where files are all there is.
        tell: Called with each step, once it is written down and before it is taken.
    """

    root: Path
    record: VersionRecord
    staging: Path
    bundle: Bundle
    check: Callable[[Bundle, Path], Check]
    link: ServerLink | None
    tell: Tell

    @property
    def bridged(self) -> bool:
        """Whether an ensemble runs the candidates while the models under it change."""
        return any((self.root / name).is_dir() for name in self.record.ensembles)


def carry_out(change: Change, journal: Journal) -> tuple[str, ...]:
    """Check a version and put it in service.

    Args:
        change: What to do; its files are staged.
        journal: What was written down when that began.

    Returns:
        What was checked, one line each.

    Raises:
        PublishError: The version could not be put in service; all is as it was.
        InputError: A candidate's name is in use by somebody's own model.
        HostError: The repository cannot be written; all is as it was.
    """
    current = journal
    checks: list[str] = []

    def step(name: str) -> None:
        nonlocal current
        current = replace(current, step=name)
        write_journal(change.root, current)
        change.tell(name)

    try:
        checks += _require(change.check(change.bundle, _checked_folder(change)))
        # An older version was a candidate when it was published: it comes back at once.
        tried = change.link is not None and journal.action == "publish"
        if tried or change.bridged:
            check_names_free(change.root, change.record)
            step(CANDIDATE)
            checks += _try_candidate(change)
        step(PLACING)
        _place(change, current)
        step(SWITCHING)
        _switch(change, current)
        checks += _ask(change, {name: name for name in change.record.fronts})
        step(COMMITTED)
    except BaseException as exc:
        if current.step == COMMITTED:
            raise
        trouble = undo(change.root, current, link=change.link)
        told = _told(exc, change, current, trouble)
        if told is exc:
            raise
        raise told from exc
    finish(change.root, current, link=change.link, tell=change.tell)
    return tuple(checks)


def finish(root: Path, journal: Journal, *, link: ServerLink | None, tell: Tell) -> None:
    """Remove what a change that is committed needs no longer.

    Args:
        root: The repository.
        journal: The change.
        link: The server; None leaves candidates that are loaded there.
        tell: Called with each step.
    """
    tell("cleaning")
    staging = Path(journal.staging)
    if link is not None:
        # The version is served: a server that goes away now takes its candidates along.
        with contextlib.suppress(ServerError):
            unload_candidates(root, journal, link)
    remove_candidates(root, journal.model, journal.names, staging=staging)
    tell("cleaned")
    remove_staging(staging)
    remove_journal(root, journal.model)


def unload_candidates(root: Path, journal: Journal, link: ServerLink) -> None:
    """Unload the candidates of a change that a server has, what runs others first."""
    there = link.index()
    for name in reversed(journal.names):
        candidate = candidate_name(journal.model, name)
        if there.get(candidate) and (root / candidate).is_dir():
            link.unload(candidate)


def _checked_folder(change: Change) -> Path:
    return _sources(change)[change.record.model] / str(change.record.version)


def _sources(change: Change) -> Mapping[str, Path]:
    """Return name to the folder that has the version: staged, or in its place already."""
    version = str(change.record.version)
    found = {}
    for name in change.record.names:
        staged = change.staging / name
        kept = place_of(change.root, change.record.model, name, change.record.version).parent
        found[name] = staged if (staged / version).is_dir() else kept
    return found


def _try_candidate(change: Change) -> list[str]:
    """Put the candidates there, and let the server answer with them."""
    record, link = change.record, change.link
    staging = change.staging / "candidates"
    place_candidates(change.root, record, _sources(change), staging=staging)
    change.tell("candidate placed")
    if link is None:
        return []
    names = {name: candidate_name(record.model, name) for name in record.fronts}
    if names[record.model] not in link.index():
        raise ServerError(
            f"the server does not see '{change.root}': it serves another repository; the one that "
            "is published to was expected; name its server, or publish without one",
            url=link.url,
        )
    for name in names.values():
        link.load(name)
    change.tell("candidate loaded")
    checks = _ask(change, names)
    change.tell("candidate checked")
    if not change.bridged:
        for name in reversed(record.names):
            link.unload(candidate_name(record.model, name))
        remove_candidates(change.root, record.model, record.names, staging=change.staging)
    return checks


def _ask(change: Change, names: Mapping[str, str]) -> list[str]:
    """Compare a server's answers with the bundle's; return what was checked."""
    if change.link is None:
        return []
    found: list[str] = []
    for name in names.values():
        check = change.link.check(change.bundle, name, version=change.record.version)
        found += _require(replace(check, name=f"'{name}', {check.name}"))
    return found


def _require(check: Check) -> list[str]:
    line = f"{check.name}: {check.detail}"
    if not check.ok:
        raise _FailedCheckError(line)
    return [line]


def _place(change: Change, journal: Journal) -> None:
    """Put the version's files beside the old ones; nothing names them yet."""
    version = str(change.record.version)
    for name in change.record.names:
        if name not in journal.before:
            continue  # it is put there whole, with its configuration
        for part in (f"{WARMUP}/{version}", version):
            staged, place = change.staging / name / part, change.root / name / part
            if staged.is_dir() and not place.exists():
                move(staged, place)
        change.tell(f"placed {name}")


def _switch(change: Change, journal: Journal) -> None:
    """Let the configurations name the new version, in an order in which none is ever broken."""
    record, link = change.record, change.link
    if change.bridged:
        for name in (n for n in record.ensembles if n in journal.before):
            place_configs(bridge_configs(record, name), change.root / name)
            change.tell(f"bridged {name}")
            if link is not None:
                link.load(name)
    for name in journal.retired:
        retire(change.root, record.model, name, link=link)
        change.tell(f"retired {name}")
    for name in record.names:
        if name in journal.before:
            _switch_configs(change, name)
        else:
            move(change.staging / name, change.root / name)
        change.tell(f"switched {name}")
        if link is not None:
            link.load(name)
            change.tell(f"loaded {name}")


def _switch_configs(change: Change, name: str) -> None:
    folder, configs = change.root / name, change.record.configs[name]
    samples = change.staging / name / PERF_ANALYZER
    if samples.is_file():
        samples.replace(folder / PERF_ANALYZER)
    if len(configs) > 1:
        first = {path: text for path, text in configs.items() if "/" in path}
        for path, text in first.items():
            write_whole(folder / path, text)
        change.tell(f"half switched {name}")
    place_configs(configs, folder)


class _FailedCheckError(Exception):
    """A check that did not pass; its text is the check's line."""


def _told(error: BaseException, change: Change, journal: Journal, trouble: str) -> BaseException:
    """Return the error that says what happened, in one line, and what is served now."""
    if isinstance(error, OSError) and not isinstance(error, EdgemlError):
        error = cannot_write(change.root / change.record.model, error)
    if isinstance(error, _FailedCheckError | ServerError):
        return PublishError(
            model=journal.model,
            version=journal.version,
            kept=journal.previous,
            reason=f"{error}{trouble}",
        )
    if trouble and isinstance(error, EdgemlError):
        error.add_note(trouble.removeprefix("; "))
    return error


def kept_bundle(root: Path, model: str, version: int) -> Bundle:
    """Return what a version keeps of its bundle.

    Raises:
        BundleError: It is not there, or damaged.
    """
    return Bundle.read(root / model / str(version) / BUNDLE)
