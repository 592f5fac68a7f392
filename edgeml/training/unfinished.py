"""An unfinished training on disk: written whole after each epoch, and refused where it differs.

Tensors lie in one safetensors file, everything else in JSON: no pickle.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from edgeml.core.files import check_place, sha256_of, staged_folder, write_json
from edgeml.errors import DataError, InputError

FILE = "state.json"
_TENSORS = "state.safetensors"
_SCHEMA_VERSION = 1
_DAMAGE = (KeyError, OSError, TypeError, ValueError, SafetensorError)


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
    expected = json.loads(json.dumps(dict(identity)))
    differing = [key for key in sorted({*found, *expected}) if found.get(key) != expected.get(key)]
    if differing:
        raise InputError(
            f"the unfinished training differs in {', '.join(differing)}; the same were expected; "
            "give what it was started with, or train without --resume",
            item=str(place),
        )
    return tensors, progress


def remove_state(place: Path) -> None:
    """Remove the state of a training that is finished."""
    if (place / FILE).is_file():
        shutil.rmtree(place, ignore_errors=True)
