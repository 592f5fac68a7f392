"""What a publish or rollback is about to do, on disk before it does it; and who may do it.

Both are files in the repository's own folder: Triton takes every folder there for a model, those
whose names start with a dot as well, and passes files over.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from edgeml.core.files import write_whole
from edgeml.errors import HostError

Action = Literal["publish", "rollback"]

# In this order. Up to SWITCHING nothing that is served has changed; from COMMITTED on, the new
# version is the one that stays.
STAGING, CANDIDATE, PLACING, SWITCHING, COMMITTED = (
    "staging",
    "candidate",
    "placing",
    "switching",
    "committed",
)


@dataclass(frozen=True, kw_only=True)
class Journal:
    """What is under way.

    Attributes:
        action: ``publish`` or ``rollback``.
        model: The model's name.
        version: The version that is to be served.
        previous: The version that is served until then, or None.
        names: The model and its parts, what runs others last.
        ensembles: Those that run others.
        retired: Parts of the previous version that this one does not have.
        before: Name to path to text of the configurations until then; a name that is not there yet
            is missing.
        staging: Folder outside the repository's models where files are made ready.
        step: The step that is done next.
    """

    action: Action
    model: str
    version: int
    previous: int | None
    names: tuple[str, ...]
    ensembles: tuple[str, ...]
    retired: tuple[str, ...]
    before: Mapping[str, Mapping[str, str]]
    staging: str
    step: str = STAGING


def write_journal(root: Path, journal: Journal) -> None:
    """Put a journal on disk."""
    text = json.dumps(asdict(journal), indent=2, ensure_ascii=False)
    write_whole(journal_path(root, journal.model), text + "\n")


def read_journal(root: Path, model: str) -> Journal | None:
    """Return what an earlier publish or rollback of a model left; None where it left nothing.

    Raises:
        HostError: It left a journal that cannot be read.
    """
    path = journal_path(root, model)
    try:
        values = json.loads(path.read_bytes())
        for key in ("names", "ensembles", "retired"):
            values[key] = tuple(values[key])
        return Journal(**values)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise HostError(
            what=f"the journal of an interrupted publish cannot be read ('{path}': {exc})",
            needed=f"check by hand which version '{model}' names, then remove the journal",
        ) from exc


def remove_journal(root: Path, model: str) -> None:
    """Remove the journal of a model: nothing is under way any more."""
    journal_path(root, model).unlink(missing_ok=True)


def remove_staging(staging: Path) -> None:
    """Remove a staging folder, and the one around it if nothing else is in it."""
    shutil.rmtree(staging, ignore_errors=True)
    with contextlib.suppress(OSError):
        staging.parent.rmdir()


def journal_path(root: Path, model: str) -> Path:
    """Return where the journal of a model is."""
    return root / f".{model}.publishing.json"


@contextlib.contextmanager
def locked(root: Path, model: str) -> Iterator[None]:
    """Let one publish or rollback at a time change a model; the lock dies with its process.

    Raises:
        HostError: Another one is under way, or nothing can be written there.
    """
    path = root / f".{model}.publishing.lock"
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as exc:
        raise HostError(
            what=f"'{root / model}' cannot be written ({exc})",
            needed="free the place or choose another",
        ) from exc
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise HostError(
                what=f"another publish or rollback of '{model}' is under way (process {holder})",
                needed="one at a time was expected; wait for its end and look at what it did",
            ) from exc
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)
