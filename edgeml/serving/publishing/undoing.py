"""Take a change back: the old configurations, then the old models, and nothing of the new."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from edgeml.core.files import move
from edgeml.errors import ServerError
from edgeml.serving.publishing.candidate import bridge_configs, remove_candidates
from edgeml.serving.publishing.journal import (
    SWITCHING,
    Journal,
    remove_journal,
    remove_staging,
)
from edgeml.serving.publishing.link import ServerLink
from edgeml.serving.publishing.retiring import bring_back
from edgeml.serving.repository.candidates import candidate_name, marked_for
from edgeml.serving.repository.config import DEFAULT_CONFIG
from edgeml.serving.repository.publish import place_configs
from edgeml.serving.repository.samples import WARMUP
from edgeml.serving.repository.version_record import read_record


def undo(root: Path, journal: Journal, *, link: ServerLink | None) -> str:
    """Undo a change that is not committed; the files come first, whatever the server says.

    Args:
        root: The repository.
        journal: The change.
        link: The server; None where there is none.

    Returns:
        What the server refused on the way, to be added to a message; mostly empty.
    """
    refused: list[str] = []

    def tell_server(action: Callable[[str], None] | None, name: str) -> None:
        if action is None or refused:  # one that is gone is not asked once for every model
            return
        try:
            action(name)
        except ServerError as exc:
            refused.append(str(exc))

    load, unload = (link.load, link.unload) if link is not None else (None, None)
    if journal.step == SWITCHING:
        _restore(root, journal, load=lambda name: tell_server(load, name))
    for name in reversed(journal.names):
        if marked_for(root / candidate_name(journal.model, name)) == journal.model:
            tell_server(unload, candidate_name(journal.model, name))
    staging = Path(journal.staging)
    staging.mkdir(parents=True, exist_ok=True)
    remove_candidates(root, journal.model, journal.names, staging=staging)
    for name in reversed(journal.names):
        if name not in journal.before:
            if (root / name).is_dir():
                tell_server(unload, name)
                _remove(root / name, staging)
        elif journal.action == "publish":
            for part in (str(journal.version), f"{WARMUP}/{journal.version}"):
                _remove(root / name / part, staging)
    remove_staging(staging)
    remove_journal(root, journal.model)
    return f"; the server could not be told to go back ({refused[0]})" if refused else ""


def _restore(root: Path, journal: Journal, *, load: Callable[[str], None]) -> None:
    """Name the old version again, in the order in which nothing is ever broken."""
    bridges = [name for name in journal.ensembles if name in journal.before]
    bridges = [name for name in bridges if (root / candidate_name(journal.model, name)).is_dir()]
    if bridges:
        record = read_record(
            root / candidate_name(journal.model, journal.model) / str(journal.version)
        )
        for name in bridges:
            place_configs(bridge_configs(record, name), root / name)
            load(name)
    for name in journal.names:
        if name in journal.before:
            place_configs(journal.before[name], root / name)
            if journal.before[name]:
                load(name)
            else:  # a folder that had no configuration
                (root / name / DEFAULT_CONFIG).unlink(missing_ok=True)
    for name in reversed(journal.retired):
        bring_back(root, journal.model, name)
        load(name)


def _remove(place: Path, staging: Path) -> None:
    """Take a folder away in one step, then remove its files."""
    if place.exists():
        gone = staging / f"undone-{place.parent.name}-{place.name}"
        shutil.rmtree(gone, ignore_errors=True)
        move(place, gone)
        shutil.rmtree(gone, ignore_errors=True)
