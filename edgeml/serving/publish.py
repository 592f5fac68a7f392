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
from edgeml.serving.config import (
    CPU_CONFIG,
    DEFAULT_CONFIG,
    LABELS,
    Policy,
    build_configs,
    describe,
    parse_config,
    read_config,
)
from edgeml.serving.contract import Contract, contract_of

CONTRACT = "contract.json"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, kw_only=True)
class Published:
    """One version of a model in a repository.

    Attributes:
        model: The model's name.
        version: The version that the configuration now names.
        path: The model's folder.
    """

    model: str
    version: int
    path: Path


def publish_bundle(
    bundle: Bundle,
    repository: str | Path,
    *,
    name: str | None = None,
    policy: Policy = "allowed",
    config_only: bool = False,
    num_threads: int = 1,
) -> Published:
    """Publish a bundle as the next version of a model.

    Args:
        bundle: What to serve.
        repository: The model repository; it is made if it is not there.
        name: The model's name; otherwise the bundle's.
        policy: ``allowed`` serves on a GPU and falls back to the CPU, ``required`` never falls
            back, ``forbidden`` always uses the CPU.
        config_only: Write the configurations and labels and leave the artefacts out, for review. A
            model that has a version keeps it, if its artefacts are this bundle's.
        num_threads: Threads of one inference on a CPU.

    Returns:
        What was published.

    Raises:
        InputError: The name, the policy or the number of threads is unusable, a variant is missing,
            or the configurations alone would break a version that is served.
        IntegrityError: A file of the bundle is not what its manifest says.
        HostError: The repository cannot be written.
    """
    model = _checked_name(bundle.manifest.name if name is None else name)
    contract = contract_of(bundle)
    folder = Path(repository).absolute() / model

    def configs_for(version: int) -> dict[str, str]:
        return build_configs(
            contract, name=model, policy=policy, version=version, num_threads=num_threads
        )

    configs_for(1)  # whatever is wrong with the request is said before anything is written
    try:
        with _locked(folder):
            kept = _served_version(folder) if config_only else None
            version = kept or _next_version(folder)
            configs = configs_for(version)
            if kept:
                _check_artefacts(contract, configs, folder / str(version))
                text = json.dumps(contract, indent=2, ensure_ascii=False, allow_nan=False)
                _replace(folder / str(version) / CONTRACT, text + "\n")
            elif not config_only:
                _place_version(bundle, contract, configs, folder / str(version))
            _place_configs(contract, configs, folder)
    except OSError as exc:
        if isinstance(exc, HostError):
            raise
        raise HostError(
            what=f"'{folder}' cannot be written ({exc})", needed="free the place or choose another"
        ) from exc
    return Published(model=model, version=version, path=folder)


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name) or set(name) == {"."}:
        raise InputError(
            f"the model name is {name!r}; up to 128 letters, digits, '_', '-' and '.', not "
            "starting with '.' or '-', were expected; choose another --name"
        )
    return name


def _next_version(folder: Path) -> int:
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


def _check_artefacts(contract: Contract, configs: dict[str, str], place: Path) -> None:
    """Refuse configurations under which the version that is there would no longer be served."""
    hashes = {row["file"]: row["sha256"] for row in contract["variants"].values()}
    for file in _named_files(configs):
        path = place / file
        if not path.is_file() or sha256_of(path) != hashes[file]:
            raise InputError(
                f"version {place.name} of '{place.parent.name}' is served and its '{file}' is not "
                "this bundle's; configurations alone would break it; publish without "
                "--config-only, or into another repository for review"
            )


def _named_files(configs: dict[str, str]) -> dict[str, None]:
    """Return every file that a configuration names, each once."""
    return dict.fromkeys(
        file for text in configs.values() for file in describe(parse_config(text)).files
    )


def _place_version(
    bundle: Bundle, contract: Contract, configs: dict[str, str], place: Path
) -> None:
    """Copy every artefact that a configuration names, checking the bundle's copy and our own."""
    by_file = {row["file"]: variant for variant, row in contract["variants"].items()}
    # The contract stays with its version too, so that an older one can be served again by name.
    # Triton ignores folders whose names are not numbers, and edgeml's start with a dot besides.
    with staged_folder(place) as staged:
        write_json(staged / CONTRACT, contract)
        for file in _named_files(configs):
            variant = bundle.variant(by_file[file])
            shutil.copyfile(bundle.checked_path(variant.file), staged / file)
            if sha256_of(staged / file) != variant.sha256:
                raise IntegrityError(
                    path=str(staged / file),
                    reason=f"the copy of '{variant.file}' differs from the bundle; the disk or "
                    "memory is unreliable: publish again",
                )


def _place_configs(contract: Contract, configs: dict[str, str], folder: Path) -> None:
    labels = "".join(f"{label}\n" for label in contract["labels"])
    if labels:
        _replace(folder / LABELS, labels)
    # The CPU's file first: a server with a GPU reads the other, and each is whole in itself.
    for relative in (CPU_CONFIG, DEFAULT_CONFIG):
        if relative in configs:
            _replace(folder / relative, configs[relative])
    if CPU_CONFIG not in configs:
        (folder / CPU_CONFIG).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            (folder / CPU_CONFIG).parent.rmdir()


def _replace(path: Path, text: str) -> None:
    """Write a file beside its place, put it on disk, and put it in place in one step."""
    path.parent.mkdir(exist_ok=True)
    pending = path.parent / f".{path.name}.partial"
    with pending.open("w", encoding="utf-8") as file:
        file.write(text)
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
