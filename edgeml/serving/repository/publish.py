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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeml.core.bundle import Bundle
from edgeml.core.files import sha256_of, staged_folder, write_json
from edgeml.errors import HostError, InputError, IntegrityError
from edgeml.serving.repository.config import CPU_CONFIG, DEFAULT_CONFIG, LABELS, Policy, read_config
from edgeml.serving.repository.contract import Contract, decode_contract, part_of
from edgeml.serving.repository.options import ServingOptions
from edgeml.serving.repository.plans import ModelPlan, plan_models
from edgeml.serving.repository.samples import PERF_ANALYZER, WARMUP

CONTRACT = "contract.json"
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
    """

    model: str
    version: int
    path: Path
    parts: tuple[str, ...] = ()


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
    model = _checked_name(bundle.manifest.name if name is None else name)
    plans = plan_models(bundle, name=model, policy=policy, options=options or ServingOptions())
    root, folder = Path(repository).absolute(), Path(repository).absolute() / model
    for plan in plans:
        _check_free(root / _checked_name(plan.name), plan.contract)
    try:
        with _locked(folder):
            kept = _served_version(folder) if config_only else None
            version = kept or max(_next_version(root / plan.name) for plan in plans)
            if kept:
                _keep_versions(plans, root, version)
            elif not config_only:
                for plan in plans:
                    _place_version(bundle, plan, root / plan.name / str(version))
            if kept or not config_only:
                for plan in plans:
                    _place_samples(plan, version, root / plan.name)
            # The bundle's model first and the ensemble last: it names the others by their version.
            for plan in plans:
                _place_configs(plan, version, root / plan.name)
    except OSError as exc:
        if isinstance(exc, HostError):
            raise
        raise HostError(
            what=f"'{folder}' cannot be written ({exc})", needed="free the place or choose another"
        ) from exc
    parts = [plan.name for plan in plans[1:]]
    return Published(model=model, version=version, path=folder, parts=tuple(parts))


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name) or set(name) == {"."}:
        raise InputError(
            f"the model name is {name!r}; up to 128 letters, digits, '_', '-' and '.', not "
            "starting with '.' or '-', were expected; choose another --name"
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
    if found != wanted:
        whose = f"as the {found[0]} of '{found[1]}'" if found else "as a model of its own"
        raise InputError(
            f"the repository has '{folder.name}' {whose}; a name that is free was expected; choose "
            "another --name"
        )


def _next_version(folder: Path) -> int:
    if not folder.is_dir():
        return 1
    versions = (int(path.name) for path in folder.iterdir() if path.name.isdecimal())
    return max(versions, default=0) + 1


def _served_version(folder: Path) -> int | None:
    """Return the version that the model's configuration names, else its latest, if it has one."""
    present = {int(path.name) for path in folder.iterdir() if path.name.isdecimal()}
    try:
        named = present.intersection(read_config(folder / DEFAULT_CONFIG).versions)
    except InputError:
        named = set()
    return max(named or present, default=None)


def _keep_versions(plans: list[ModelPlan], root: Path, version: int) -> None:
    """Take the contract of versions that stay along, after checking that they may stay."""
    for plan in plans:
        _check_artefacts(plan, root / plan.name / str(version))
    for plan in plans:
        text = json.dumps(plan.contract, indent=2, ensure_ascii=False, allow_nan=False)
        _replace(root / plan.name / str(version) / CONTRACT, text + "\n")


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
    # The contract stays with its version too, so that an older one can be served again by name.
    # Triton ignores folders whose names are not numbers, and edgeml's start with a dot besides.
    with staged_folder(place) as staged:
        write_json(staged / CONTRACT, plan.contract)
        for file, source in plan.files.items():
            target = staged / file
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


def _place_samples(plan: ModelPlan, version: int, folder: Path) -> None:
    """Write what warms a version up, and what perf_analyzer cannot make up by itself."""
    if plan.samples is not None and plan.warmup:
        for relative, contents in plan.samples.warmup_files(version=version).items():
            _replace(folder / WARMUP / relative, contents)
    if plan.load:
        _replace(folder / PERF_ANALYZER, plan.load.encode())


def _place_configs(plan: ModelPlan, version: int, folder: Path) -> None:
    configs = plan.build(version)
    if plan.contract["labels"] and part_of(plan.contract) is None:
        _replace(folder / LABELS, "".join(f"{label}\n" for label in plan.contract["labels"]))
    # The CPU's file first: a server with a GPU reads the other, and each is whole in itself.
    for relative in (CPU_CONFIG, DEFAULT_CONFIG):
        if relative in configs:
            _replace(folder / relative, configs[relative])
    if CPU_CONFIG not in configs:
        (folder / CPU_CONFIG).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            (folder / CPU_CONFIG).parent.rmdir()


def _replace(path: Path, contents: str | bytes) -> None:
    """Write a file beside its place, put it on disk, and put it in place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pending = path.parent / f".{path.name}.partial"
    with pending.open("wb") as file:
        file.write(contents if isinstance(contents, bytes) else contents.encode())
        file.flush()
        os.fsync(file.fileno())
    pending.replace(path)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
