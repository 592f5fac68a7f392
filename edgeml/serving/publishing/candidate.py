"""A version under another name: the same files, and configurations in which names are exchanged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeml.core.files import link_tree, move, sync_tree, write_json
from edgeml.errors import InputError
from edgeml.serving.repository.candidates import MARK, candidate_name, marked_for
from edgeml.serving.repository.config import config_text, parse_config
from edgeml.serving.repository.contract import PARAMETER, encode_contract
from edgeml.serving.repository.publish import place_configs
from edgeml.serving.repository.samples import WARMUP
from edgeml.serving.repository.version_record import VersionRecord


def candidate_names(record: VersionRecord) -> dict[str, str]:
    """Return name to candidate's name of a version's models."""
    return {name: candidate_name(record.model, name) for name in record.names}


def check_names_free(root: Path, record: VersionRecord) -> None:
    """Refuse to put candidates where somebody's own models are.

    Raises:
        InputError: There is such a model.
    """
    for name in candidate_names(record).values():
        if (root / name).exists() and marked_for(root / name) != record.model:
            raise InputError(
                f"the repository has a model '{name}' that no publish put there; the name is "
                f"needed to check versions of '{record.model}'; rename or remove that model",
                item=str(root / name),
            )


def place_candidates(
    root: Path, record: VersionRecord, sources: Mapping[str, Path], *, staging: Path
) -> None:
    """Put a version into the repository as models of their own.

    Args:
        root: The repository.
        record: The version.
        sources: Name to a folder that has the version's folder and its warm-up.
        staging: A new folder beside the repository, where they are made.
    """
    names = candidate_names(record)
    shutil.rmtree(staging, ignore_errors=True)
    for name in record.names:
        folder = staging / names[name]
        for part in (str(record.version), f"{WARMUP}/{record.version}"):
            if (sources[name] / part).is_dir():
                link_tree(sources[name] / part, folder / part)
        write_json(folder / MARK, {"model": record.model, "version": record.version})
        configs = record.configs[name]
        place_configs({path: renamed(text, names) for path, text in configs.items()}, folder)
    sync_tree(staging)
    for name in record.names:
        _remove(root / names[name])
        move(staging / names[name], root / names[name])


def remove_candidates(root: Path, model: str, names: Sequence[str], *, staging: Path) -> None:
    """Take candidates out of the repository, what runs others first.

    Args:
        root: The repository.
        model: The model that they are candidates for.
        names: The names of the model and its parts.
        staging: Where a folder goes in one step, before its files are removed.
    """
    for name in reversed(names):
        folder = root / candidate_name(model, name)
        if marked_for(folder) == model:
            place = staging / f"removed-{folder.name}"
            _remove(place)
            move(folder, place)
            _remove(place)


def bridge_configs(record: VersionRecord, name: str) -> dict[str, str]:
    """Return configurations of an ensemble under its own name that runs the candidates.

    Args:
        record: The version.
        name: The ensemble.
    """
    names = candidate_names(record)
    configs = record.configs[name]
    return {path: renamed(text, {**names, name: name}) for path, text in configs.items()}


def renamed(text: str, names: Mapping[str, str]) -> str:
    """Return a configuration with its name, the models that it runs and its contract's renamed.

    Args:
        text: The configuration.
        names: Old name to new name; a name that is missing stays.
    """
    values = parse_config(text)
    values["name"] = names.get(values["name"], values["name"])
    for step in values.get("ensemble_scheduling", {}).get("step", []):
        step["model_name"] = names.get(step["model_name"], step["model_name"])
    contract = json.loads(values["parameters"][PARAMETER]["string_value"])
    if "of" in contract:
        contract["of"] = names.get(contract["of"], contract["of"])
    values["parameters"][PARAMETER]["string_value"] = encode_contract(contract)
    return config_text(values)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
