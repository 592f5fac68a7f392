"""Put a bundle into a Triton model repository, whole or not at all.

The configuration names the one version that it serves, so the order does the work: first the
version's folder, complete and under its number, then the configurations, each replaced in one step.
A kill before that step leaves the old version served and the new folder unnamed; there is nothing
in between.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeml.core.bundle import Bundle
from edgeml.core.files import sha256_of, staged_folder, write_json, write_whole
from edgeml.errors import HostError, InputError, IntegrityError
from edgeml.serving.repository.candidates import SUFFIX, is_candidate_name, own_name
from edgeml.serving.repository.config import CPU_CONFIG, DEFAULT_CONFIG, LABELS, Policy, read_config
from edgeml.serving.repository.contract import (
    ENCODED_PART,
    TEXT_PART,
    Contract,
    decode_contract,
    part_of,
)
from edgeml.serving.repository.options import ServingOptions
from edgeml.serving.repository.plans import ModelPlan, plan_models
from edgeml.serving.repository.samples import PERF_ANALYZER, WARMUP
from edgeml.serving.repository.version_record import (
    VersionRecord,
    hashes_below,
    keep_bundle,
    read_record,
    write_record,
)

CONTRACT = "contract.json"
_ENSEMBLES = (TEXT_PART, ENCODED_PART)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, kw_only=True)
class Published:
    """One version of a model in a repository.

    Attributes:
        model: The model's name.
        version: The version that the configuration now names.
        path: The model's folder.
        parts: Further models of the same version: what a text model has around it, the one that
            takes strings last.
        previous: The version that was served before, or None.
        server: The server that loaded it and answered as the bundle does; None for files alone.
        checks: What was checked, one line each.
        removed: Versions that were removed, because only so many are kept.
        recovered: What an earlier publish or rollback had left, and what became of it, or empty.
    """

    model: str
    version: int
    path: Path
    parts: tuple[str, ...] = ()
    previous: int | None = None
    server: str | None = None
    checks: tuple[str, ...] = ()
    removed: tuple[int, ...] = ()
    recovered: str = ""


def publish_bundle(
    bundle: Bundle,
    repository: str | Path,
    *,
    name: str | None = None,
    policy: Policy = "allowed",
    config_only: bool = False,
    options: ServingOptions | None = None,
) -> Published:
    """Publish a bundle as the next version of a model.

    A text bundle also becomes the string-in model ``NAME_text`` and its parts, under the same
    version number; ``serving/repository/text_config.py`` has them.

    Args:
        bundle: What to serve.
        repository: The model repository; it is made if it is not there.
        name: The model's name; otherwise the bundle's.
        policy: ``allowed`` serves on a GPU and falls back to the CPU, ``required`` never falls
            back, ``forbidden`` always uses the CPU.
        config_only: Write the configurations and labels and leave the artefacts out, for review. A
            model that has a version keeps it, if its artefacts are this bundle's.
        options: How a server runs the model; None takes the defaults.

    Returns:
        What was published.

    Raises:
        InputError: A name, the policy or an option is unusable, a variant is missing, a
            name is another model's, or the configurations alone would break a version that is
            served.
        IntegrityError: A file of the bundle is not what its manifest says.
        HostError: The repository cannot be written.
    """
    # Whatever is wrong with the request is said before anything is written.
    plans = checked_plans(bundle, repository, name=name, policy=policy, options=options)
    model, root = plans[0].name, Path(repository).absolute()
    folder = root / model
    try:
        with _locked(folder):
            served = served_version(folder)
            kept = served if config_only else None
            version = kept or next_version(root, plans)
            if kept:
                _keep_versions(bundle, plans, root, version)
            elif not config_only:
                for plan in (
                    plans[1:] + plans[:1]
                ):  # the record is in the model's own, so it is last
                    _place_version(bundle, plan, root / plan.name / str(version))
            if kept or not config_only:
                for plan in plans:
                    place_samples(plan, version, root / plan.name)
                record = record_of(plans, version=version, replaces=served, root=root)
                _write_record(root / model / str(version), record, kept=bool(kept))
            # The bundle's model first and the ensemble last: it names the others by their version.
            for plan in plans:
                _place_configs(plan, version, root / plan.name)
    except OSError as exc:
        raise cannot_write(folder, exc) from exc
    parts = [plan.name for plan in plans[1:]]
    return Published(model=model, version=version, path=folder, parts=tuple(parts), previous=served)


def cannot_write(place: Path, error: OSError) -> HostError:
    """Return the error that says that a repository cannot be written."""
    if isinstance(error, HostError):
        return error
    return HostError(
        what=f"'{place}' cannot be written ({error})", needed="free the place or choose another"
    )


def checked_plans(
    bundle: Bundle,
    repository: str | Path,
    *,
    name: str | None,
    policy: Policy,
    options: ServingOptions | None,
) -> list[ModelPlan]:
    """Plan what publishing a bundle writes, after checking the request; see ``publish_bundle``."""
    model = _checked_name(bundle.manifest.name if name is None else name)
    plans = plan_models(bundle, name=model, policy=policy, options=options or ServingOptions())
    for plan in plans:
        _check_free(Path(repository).absolute() / _checked_name(plan.name), plan.contract)
    return plans


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name) or set(name) == {"."}:
        raise InputError(
            f"the model name is {name!r}; up to 128 letters, digits, '_', '-' and '.', not "
            "starting with '.' or '-', were expected; choose another --name"
        )
    if is_candidate_name(name):
        raise InputError(
            f"the model name is {name!r}; names that end in '{SUFFIX}' are those of versions that "
            "are being checked; choose another --name"
        )
    return name


def _check_free(folder: Path, contract: Contract) -> None:
    """Refuse to write a model over one that has another role: a part over a model, or so."""
    if not (folder / DEFAULT_CONFIG).is_file():
        return
    try:
        text = read_config(folder / DEFAULT_CONFIG).contract_text
        found = part_of(decode_contract(text)) if text else None
    except InputError:  # nothing that is served, nor that another edgeml wrote
        return
    wanted = part_of(contract)
    # A kill may leave an ensemble that runs candidates: it is the same one still.
    if found is not None:
        found = (found[0], own_name(found[1]))
    if found != wanted:
        whose = f"as the {found[0]} of '{found[1]}'" if found else "as a model of its own"
        raise InputError(
            f"the repository has '{folder.name}' {whose}; a name that is free was expected; choose "
            "another --name"
        )


def next_version(root: Path, plans: Sequence[ModelPlan]) -> int:
    """Return a version that neither the model nor one of its parts has."""
    return max((max(versions_in(root / plan.name), default=0) for plan in plans), default=0) + 1


def versions_in(folder: Path) -> set[int]:
    """Return the versions in a model's folder; none where there is no folder."""
    if not folder.is_dir():
        return set()
    return {int(path.name) for path in folder.iterdir() if path.name.isdecimal()}


def served_version(folder: Path) -> int | None:
    """Return the version that the model's configuration names, else its latest, if it has one."""
    present = versions_in(folder)
    try:
        named = present.intersection(read_config(folder / DEFAULT_CONFIG).versions)
    except InputError:
        named = set()
    return max(named or present, default=None)


def _keep_versions(bundle: Bundle, plans: list[ModelPlan], root: Path, version: int) -> None:
    """Take the contract of versions that stay along, after checking that they may stay."""
    for plan in plans:
        _check_artefacts(plan, root / plan.name / str(version))
    for plan in plans:
        text = json.dumps(plan.contract, indent=2, ensure_ascii=False, allow_nan=False)
        write_whole(root / plan.name / str(version) / CONTRACT, text + "\n")
        if part_of(plan.contract) is None and plan.contract["labels"]:
            labels = "".join(f"{label}\n" for label in plan.contract["labels"])
            write_whole(root / plan.name / str(version) / LABELS, labels)
    keep_bundle(bundle, root / plans[0].name / str(version))


def _check_artefacts(plan: ModelPlan, place: Path) -> None:
    """Refuse configurations under which the version that is there would no longer be served."""
    for file in (CONTRACT, *plan.files):
        path = place / file
        if path.is_file() and (file == CONTRACT or sha256_of(path) == plan.sha256_of(file)):
            continue
        raise InputError(
            f"version {place.name} of '{plan.name}' is served and its '{file}' is not "
            "this bundle's; configurations alone would break it; publish without "
            "--config-only, or into another repository for review"
        )


def _place_version(bundle: Bundle, plan: ModelPlan, place: Path) -> None:
    """Write every file of a version, checking the bundle's copy and our own."""
    # Triton ignores folders whose names are not numbers, and edgeml's start with a dot besides.
    with staged_folder(place) as staged:
        fill_version(bundle, plan, staged)


def fill_version(bundle: Bundle, plan: ModelPlan, folder: Path) -> None:
    """Write every file of a version but its record into an empty folder.

    Args:
        bundle: What is served.
        plan: One model of it.
        folder: The folder.

    Raises:
        IntegrityError: A file of the bundle, or our copy of it, is not what it shall be.
    """
    # The contract stays with its version too, so that an older one can be served again by name.
    write_json(folder / CONTRACT, plan.contract)
    for file, source in plan.files.items():
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, bytes):
            target.write_bytes(source)
        else:
            shutil.copyfile(bundle.checked_path(source.file), target)
        if sha256_of(target) != plan.sha256_of(file):
            raise IntegrityError(
                path=str(target),
                reason="the copy differs from the bundle; the disk or memory is unreliable: "
                "publish again",
            )
    if part_of(plan.contract) is None:
        if plan.contract["labels"]:
            labels = "".join(f"{label}\n" for label in plan.contract["labels"])
            (folder / LABELS).write_bytes(labels.encode())
        keep_bundle(bundle, folder)


def record_of(
    plans: Sequence[ModelPlan],
    *,
    version: int,
    replaces: int | None,
    root: Path,
) -> VersionRecord:
    """Return the record of a version whose files are in place.

    Args:
        plans: The models of it.
        version: The version.
        replaces: The one that is served before it.
        root: Where the models' folders are: the repository, or a staged one.
    """
    files = {}
    for plan in plans:
        files[plan.name] = hashes_below(root / plan.name / str(version))
        warmup = hashes_below(root / plan.name / WARMUP / str(version))
        files[plan.name] |= {f"{WARMUP}/{version}/{path}": row for path, row in warmup.items()}
    parts = {plan.name: part_of(plan.contract) for plan in plans}
    return VersionRecord(
        model=plans[0].name,
        version=version,
        replaces=replaces,
        names=tuple(plan.name for plan in plans),
        ensembles=tuple(n for n, part in parts.items() if part and part[0] in _ENSEMBLES),
        configs={plan.name: plan.build(version) for plan in plans},
        files=files,
    )


def _write_record(folder: Path, record: VersionRecord, *, kept: bool) -> None:
    if kept:  # what it replaced when it was published stays what a rollback leads to
        try:
            record = replace(record, replaces=read_record(folder).replaces)
        except (InputError, IntegrityError):
            record = replace(record, replaces=None)
    write_record(folder, record)


def place_samples(plan: ModelPlan, version: int, folder: Path) -> None:
    """Write what warms a version up, and what perf_analyzer cannot make up by itself."""
    if plan.samples is not None and plan.warmup:
        for relative, contents in plan.samples.warmup_files(version=version).items():
            write_whole(folder / WARMUP / relative, contents)
    if plan.load:
        write_whole(folder / PERF_ANALYZER, plan.load)


def _place_configs(plan: ModelPlan, version: int, folder: Path) -> None:
    place_configs(plan.build(version), folder)


def place_configs(configs: Mapping[str, str], folder: Path) -> None:
    """Put the configurations of a version in place: from then on it is the one that is served.

    Args:
        configs: Path below the model's folder to text.
        folder: The model's folder.
    """
    # The CPU's file first: a server with a GPU reads the other, and each is whole in itself.
    for relative in (CPU_CONFIG, DEFAULT_CONFIG):
        if relative in configs:
            write_whole(folder / relative, configs[relative])
    if CPU_CONFIG not in configs:
        (folder / CPU_CONFIG).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            (folder / CPU_CONFIG).parent.rmdir()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one publish at a time into a model's folder; the lock dies with its process."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
