"""Parts that one version has and the next one lacks: put aside in the model's folder, and back."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from edgeml.core.files import move
from edgeml.errors import ServerError
from edgeml.serving.publishing.link import ServerLink
from edgeml.serving.repository.version_record import RETIRED


def retire(root: Path, model: str, name: str, *, link: ServerLink | None) -> None:
    """Unload a part and put it aside, where no server looks.

    Args:
        root: The repository.
        model: The model that it is a part of.
        name: The part.
        link: The server; None for files alone.
    """
    if not (root / name).is_dir():
        return
    if link is not None:
        with contextlib.suppress(ServerError):  # one that never came up need not go down
            link.unload(name)
    aside = root / model / RETIRED / name
    if aside.exists():  # it retired before and came back since: its other versions stay with it
        for version in (path for path in aside.iterdir() if path.name.isdecimal()):
            if not (root / name / version.name).exists():
                move(version, root / name / version.name)
        shutil.rmtree(aside)
    move(root / name, aside)


def bring_back(root: Path, model: str, name: str) -> None:
    """Put a part back in its place."""
    aside = root / model / RETIRED / name
    if aside.is_dir() and not (root / name).exists():
        move(aside, root / name)
