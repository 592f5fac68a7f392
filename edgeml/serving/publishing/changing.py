"""``publish`` and ``rollback``: what is to change is found out, made ready, and carried out."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from edgeml.core.bundle import Bundle, Check
from edgeml.core.files import link_tree, sync_tree
from edgeml.errors import HostError, InputError, IntegrityError
from edgeml.serving.publishing.journal import (
    COMMITTED,
    Action,
    Journal,
    locked,
    read_journal,
    remove_staging,
    write_journal,
)
from edgeml.serving.publishing.link import ServerLink
from edgeml.serving.publishing.retention import remove_versions
from edgeml.serving.publishing.transaction import Change, Tell, carry_out, finish, kept_bundle
from edgeml.serving.publishing.undoing import undo
from edgeml.serving.repository.config import CPU_CONFIG, DEFAULT_CONFIG
from edgeml.serving.repository.plans import ModelPlan
from edgeml.serving.repository.publish import (
    Published,
    cannot_write,
    fill_version,
    next_version,
    place_configs,
    place_samples,
    record_of,
    served_version,
    versions_in,
)
from edgeml.serving.repository.samples import WARMUP
from edgeml.serving.repository.version_record import (
    VersionRecord,
    check_files,
    place_of,
    read_record,
    write_record,
)

_ROOM_BYTES = 8 << 20


@dataclass(frozen=True, kw_only=True)
class Means:
    """What a change is made with.

    Attributes:
        check: Checks a version's files in this process, by the golden values of a bundle.
        server: URL of the server to load the version; None for files alone.
        keep: Versions to keep, the served one and the one that it can be rolled back to among them;
            None keeps all.
        tell: Called with each step, before it is taken.
    """

    check: Callable[[Bundle, Path], Check]
    server: str | None = None
    keep: int | None = None
    tell: Tell = lambda _: None

    def __post_init__(self) -> None:
        if self.keep is not None and self.keep < 1:
            raise InputError(f"keep is {self.keep}; a whole number from 1 was expected")


def publish_version(
    bundle: Bundle, repository: str | Path, plans: list[ModelPlan], means: Means
) -> Published:
    """Publish a bundle as the next version of a model, checked, and undone if it fails.

    Args:
        bundle: What to serve.
        repository: The repository; it is made if it is not there.
        plans: What :func:`checked_plans` returned for them.
        means: What it is done with.

    Raises:
        PublishError: The version is not good, or the server does not take it; all is as it was.
        InputError: A candidate's name is in use.
        IntegrityError: A file of the bundle is not what its manifest says.
        HostError: Another change of the model is under way, or the repository cannot be written.
        ServerUnreachableError: The server does not answer; nothing was written.
    """
    root, model = Path(repository).absolute(), plans[0].name
    with _changing(root, model, means) as (link, recovered):
        version, previous = next_version(root, plans), served_version(root / model)
        sizes = [bundle.checked_path(row.file).stat().st_size for row in bundle.manifest.variants]
        staging = _staging_for(root, model, needed_bytes=2 * sum(sizes))
        names = tuple(plan.name for plan in plans)
        journal = _journal(root, "publish", names, version, previous, staging)
        write_journal(root, journal)
        means.tell("staging")
        try:
            record = _stage(bundle, plans, journal, staging)
        except BaseException as exc:
            undo(root, journal, link=None)
            if isinstance(exc, OSError):
                raise cannot_write(root / model, exc) from exc
            raise
        return _carry_out(root, record, journal, bundle, means, link, recovered)


def roll_back(model: str, repository: str | Path, *, to: int | None, means: Means) -> Published:
    """Serve an older version of a model again, whole: its files, configurations and contract.

    Args:
        model: The model.
        repository: The repository.
        to: The version; None takes the one that the served version replaced.
        means: What it is done with.

    Raises:
        InputError: There is no such model or version, or it is served already.
        IntegrityError: A file of that version is damaged.
        PublishError: The server does not take it, or answers otherwise; all is as it was.
        HostError: Another change of the model is under way, or the repository cannot be written.
        ServerUnreachableError: The server does not answer; nothing was written.
    """
    root = Path(repository).absolute()
    folder = root / model
    if not model or Path(model).name != model or not (folder / DEFAULT_CONFIG).is_file():
        there = sorted(path.parent.name for path in root.glob(f"*/{DEFAULT_CONFIG}"))
        raise InputError(
            f"there is no model '{model}'; one of {', '.join(there) or 'none, publish first,'} was "
            "expected; name one of them",
            item=str(root),
        )
    with _changing(root, model, means) as (link, recovered):
        served = served_version(folder)
        version = _target(folder, served, to)
        record = read_record(folder / str(version))
        check_files(root, record)
        staging = _staging_for(root, model, needed_bytes=0)
        journal = _journal(root, "rollback", record.names, version, served, staging)
        write_journal(root, journal)
        means.tell("staging")
        _stage_kept(root, record, journal, staging)
        bundle = kept_bundle(root, model, version)
        return _carry_out(root, record, journal, bundle, means, link, recovered)


@contextlib.contextmanager
def _changing(root: Path, model: str, means: Means) -> Iterator[tuple[ServerLink | None, str]]:
    """Hold the lock and the server's line, after mending what an earlier change left."""
    with contextlib.ExitStack() as stack:
        # The server first: where it does not answer nothing is written, not even a lock.
        link = None
        if means.server is not None:
            link = stack.enter_context(ServerLink(means.server))
        stack.enter_context(locked(root, model))
        yield link, recover(root, model, link=link, tell=means.tell)


def recover(root: Path, model: str, *, link: ServerLink | None, tell: Tell) -> str:
    """Finish or undo what a killed publish or rollback left.

    Args:
        root: The repository.
        model: The model.
        link: The server that shall hear of it; None for files alone.
        tell: Called with each step.

    Returns:
        What was found and done, in one line; empty where there was nothing.
    """
    journal = read_journal(root, model)
    if journal is None:
        return ""
    what = f"a {journal.action} of version {journal.version} had been cut off"
    if journal.step == COMMITTED:
        finish(root, journal, link=link, tell=tell)
        return f"{what} after its last check and is finished"
    trouble = undo(root, journal, link=link)
    kept = f"version {journal.previous}" if journal.previous else "nothing, as before it,"
    return f"{what} at '{journal.step}' and is undone; {kept} is served{trouble}"


def _carry_out(
    root: Path,
    record: VersionRecord,
    journal: Journal,
    bundle: Bundle,
    means: Means,
    link: ServerLink | None,
    recovered: str,
) -> Published:
    change = Change(
        root=root,
        record=record,
        staging=Path(journal.staging),
        bundle=bundle,
        check=means.check,
        link=link,
        tell=means.tell,
    )
    checks = carry_out(change, replace(journal, ensembles=record.ensembles))
    removed = remove_versions(root, record, keep=means.keep)
    return Published(
        model=record.model,
        version=record.version,
        path=root / record.model,
        parts=record.names[1:],
        previous=journal.previous,
        server=means.server,
        checks=checks,
        removed=removed,
        recovered=recovered,
    )


def _journal(
    root: Path,
    action: Action,
    names: tuple[str, ...],
    version: int,
    previous: int | None,
    staging: Path,
) -> Journal:
    model = names[0]
    before = {
        name: {
            path: (root / name / path).read_text(encoding="utf-8")
            for path in (CPU_CONFIG, DEFAULT_CONFIG)
            if (root / name / path).is_file()
        }
        for name in names
        if (root / name).is_dir()
    }
    old: tuple[str, ...] = ()
    if previous is not None:
        with contextlib.suppress(InputError, IntegrityError):
            old = read_record(root / model / str(previous)).names
    return Journal(
        action=action,
        model=model,
        version=version,
        previous=previous,
        names=names,
        ensembles=(),
        retired=tuple(name for name in reversed(old) if name not in names),
        before=before,
        staging=str(staging),
    )


def _stage(
    bundle: Bundle, plans: list[ModelPlan], journal: Journal, staging: Path
) -> VersionRecord:
    """Write every file of a new version into the staging folder and put it on disk."""
    version = journal.version
    for plan in plans:
        folder = staging / plan.name / str(version)
        folder.mkdir(parents=True)
        fill_version(bundle, plan, folder)
        place_samples(plan, version, staging / plan.name)
    record = record_of(plans, version=version, replaces=journal.previous, root=staging)
    write_record(staging / record.model / str(version), record)
    for name in record.names:
        if name not in journal.before:
            place_configs(record.configs[name], staging / name)
    sync_tree(staging)
    return record


def _stage_kept(root: Path, record: VersionRecord, journal: Journal, staging: Path) -> None:
    """Make parts ready that an older version has and the served one lacks."""
    for name in record.names:
        if name in journal.before:
            continue
        source = place_of(root, record.model, name, record.version)
        link_tree(source, staging / name / source.name)
        warmup = source.parent / WARMUP / source.name
        if warmup.is_dir():
            link_tree(warmup, staging / name / WARMUP / source.name)
        place_configs(record.configs[name], staging / name)
    if staging.is_dir():
        sync_tree(staging)


def _target(folder: Path, served: int | None, to: int | None) -> int:
    """Return the version to roll back to."""
    present = sorted(versions_in(folder))
    shown = ", ".join(map(str, present)) or "none"
    if to is not None:
        if to not in present or to == served:
            why = "is served already" if to == served else "is not there"
            raise InputError(
                f"version {to} of '{folder.name}' {why}; another of {shown} was expected; name one"
            )
        return to
    older = None
    if served is not None:
        try:
            older = read_record(folder / str(served)).replaces
        except (InputError, IntegrityError):  # of an earlier edgeml, or what is wrong with it
            older = max((version for version in present if version < served), default=None)
    if older is None or older not in present:
        raise InputError(
            f"'{folder.name}' has no version before {served or 'the first'} (present: {shown}); an "
            "older one was expected; name one with --to, or publish"
        )
    return older


def _staging_for(root: Path, model: str, *, needed_bytes: int) -> Path:
    """Return an empty place on the repository's disk, outside it where that can be.

    Raises:
        HostError: The disk is too full.
    """
    above = root.parent
    outside = above.stat().st_dev == root.stat().st_dev and os.access(above, os.W_OK | os.X_OK)
    # Within the repository a server that starts would take it for a model, with a complaint.
    place = above / f".{root.name}.publishing" / model if outside else root / f".{model}.publishing"
    try:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        free = shutil.disk_usage(place).free
    except OSError as exc:
        raise cannot_write(root / model, exc) from exc
    if free < needed_bytes + _ROOM_BYTES:
        remove_staging(place)
        raise HostError(
            what=f"the disk of '{root}' has {free / 2**20:.0f} MiB free, and a version of "
            f"'{model}' needs {(needed_bytes + _ROOM_BYTES) / 2**20:.0f}",
            needed="free the place, or keep fewer versions (--keep)",
        )
    return place
