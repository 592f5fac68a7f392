"""An unfinished training on disk: written whole after each epoch, and refused where it differs.

Tensors lie in one safetensors file, everything else in JSON: no pickle.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from edgeml.core.files import (
    check_place,
    recover_folder,
    remove_folder,
    sha256_of,
    staged_folder,
    write_json,
)
from edgeml.errors import DataError, InputError
from edgeml.training.checkpoint import FILE as CHECKPOINT

FILE = "state.json"
_TENSORS = "state.safetensors"
_SCHEMA_VERSION = 1
_DAMAGE = (AttributeError, KeyError, OSError, TypeError, ValueError, SafetensorError)


@dataclass(frozen=True, kw_only=True)
class Saving:
    """Where an unfinished training lies.

    Attributes:
        place: Its folder.
        identity: What a resumed training must have in common with it, as JSON values.
        resume: Whether to go on from what is there.
    """

    place: Path
    identity: Mapping[str, Any]
    resume: bool = False


def state_place(out: Path) -> Path:
    """Return the folder of the unfinished training of a checkpoint: beside it."""
    return out.with_name(f"{out.name}.partial")


def check_state_place(place: Path) -> None:
    """Refuse to overwrite anything that is not an unfinished training.

    Raises:
        InputError: ``place`` is something else, or cannot be made.
    """
    check_place(place, marker=FILE, kind="unfinished training")


def look_for_state(out: Path, *, resume: bool) -> bool:
    """Find the unfinished training of a checkpoint before any work, and say what becomes of it.

    A command with ``--resume`` may be run until it succeeds: where there is nothing to go on with,
    it begins. An unfinished training that is about to be replaced is told while there is time to
    stop: its last state stands until the new training writes its first.

    Args:
        out: The checkpoint's place.
        resume: Whether to go on with what is there.

    Returns:
        Whether there is one, and it shall go on.

    Raises:
        InputError: Its place is taken by something else.
    """
    place = state_place(out)
    check_state_place(place)
    recover_folder(place)
    found = (place / FILE).is_file()
    if found and not resume:
        _say(
            f"{place}: an unfinished training is there ({_how_far(place)}) and will be replaced; "
            "to go on with it, stop now and add --resume"
        )
    elif resume and not found and not (out / CHECKPOINT).is_file():
        _say(f"{place}: there is nothing to resume; starting from the beginning")
    return found and resume


def finished_history(out: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the history of a finished training that a command with ``--resume`` asks for again.

    Args:
        out: The checkpoint's place.
        identity: What the training that is asked for must have in common with it, as JSON values.

    Returns:
        None where no checkpoint is.

    Raises:
        InputError: The checkpoint is of another training.
        DataError: It is damaged.
    """
    if not (out / CHECKPOINT).is_file():
        return None
    try:
        training = json.loads((out / CHECKPOINT).read_bytes())["training"]
        found, history = training.get("identity"), dict(training["history"])
    except _DAMAGE as exc:
        reason = f"the checkpoint is damaged ({exc}); train without --resume"
        raise DataError(source=str(out), reason=reason) from exc
    differing = ["an unknown way"] if found is None else _differing(found, identity)
    if differing:
        raise InputError(
            "there is no unfinished training to resume, and the checkpoint that is there differs "
            f"in {', '.join(differing)}; the same were expected; train without --resume, or choose "
            "another --out",
            item=str(out),
        )
    _say(f"{out}: the training was finished before; its checkpoint is kept as it is")
    return history


def _say(text: str) -> None:
    # Unlike warn, this does not keep in mind what was shown: a notebook's cell that is run again
    # must say it again.
    warnings.warn_explicit(text, RuntimeWarning, __file__, 0)


def _how_far(place: Path) -> str:
    try:
        value = json.loads((place / FILE).read_bytes())
        done = value["progress"]["history"]["epochs"]  # a row each, or their number
        total = value["identity"]["epochs"]
    except _DAMAGE:
        return "damaged"
    return f"{done if isinstance(done, int) else len(done)} of {total} epochs"


def _differing(found: Mapping[str, Any], identity: Mapping[str, Any]) -> list[str]:
    expected = json.loads(json.dumps(dict(identity)))
    return [key for key in sorted({*found, *expected}) if found.get(key) != expected.get(key)]


def write_state(
    place: Path,
    tensors: Mapping[str, Tensor],
    progress: Mapping[str, Any],
    identity: Mapping[str, Any],
) -> None:
    """Replace the state whole or not at all.

    Args:
        place: Its folder.
        tensors: Weights, averages, moments, states of chance.
        progress: The rest, as JSON values.
        identity: What a resumed training must have in common with this one, as JSON values.
    """
    check_state_place(place)
    with staged_folder(place) as folder:
        # Clones: safetensors refuses tensors that share memory.
        state = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
        save_file(state, folder / _TENSORS)
        value = {
            "schema_version": _SCHEMA_VERSION,
            "sha256": sha256_of(folder / _TENSORS),
            "identity": dict(identity),
            "progress": dict(progress),
        }
        write_json(folder / FILE, value)


def read_state(
    place: Path, identity: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the progress of an unfinished training.

    Raises:
        InputError: There is none, or it is of another training.
        DataError: It is damaged.
    """
    recover_folder(place)
    if not (place / FILE).is_file():
        raise InputError(
            "there is no unfinished training to resume; one that has finished an epoch was "
            "expected; train without --resume",
            item=str(place),
        )
    try:
        value = json.loads((place / FILE).read_bytes())
        if value["schema_version"] != _SCHEMA_VERSION:
            raise ValueError(f"schema_version {value['schema_version']}")
        found, progress = dict(value["identity"]), dict(value["progress"])
        if sha256_of(place / _TENSORS) != value["sha256"]:
            raise ValueError(f"{_TENSORS} has changed since it was written")
        tensors = load_file(place / _TENSORS)
    except _DAMAGE as exc:
        reason = f"the unfinished training is damaged ({exc}); train without --resume"
        raise DataError(source=str(place), reason=reason) from exc
    if differing := _differing(found, identity):
        raise InputError(
            f"the unfinished training differs in {', '.join(differing)}; the same were expected; "
            "give what it was started with, or train without --resume",
            item=str(place),
        )
    return tensors, progress


def remove_state(place: Path) -> None:
    """Remove the state of a training that is finished, whole even for whoever is killed at it."""
    if (place / FILE).is_file():
        remove_folder(place)
