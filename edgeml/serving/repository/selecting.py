"""Which models of a repository can be served here, and why the others cannot."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeml.errors import InputError
from edgeml.serving.host.plain import is_plain
from edgeml.serving.repository.candidates import is_candidate_name, marked_for
from edgeml.serving.repository.config import CPU_CONFIG, DEFAULT_CONFIG, ServedModel, read_config


@dataclass(frozen=True, kw_only=True)
class SkippedModel:
    """A model that is not loaded, and the reason."""

    name: str
    reason: str


def select_models(
    root: Path, *, use_cpu_config: bool, wanted: Sequence[str] | None = None
) -> tuple[list[str], list[SkippedModel]]:
    """Split a repository into the models that are built and those that are not.

    Args:
        root: The repository.
        use_cpu_config: Whether ``configs/cpu.pbtxt`` is read where a model has one.
        wanted: Names to load, besides the models that an ensemble among them runs; otherwise all.

    Returns:
        Names to load, and the others with reasons, both sorted.

    Raises:
        InputError: ``root`` is not a folder, or a wanted model is not there or not built.
    """
    if not root.is_dir():
        raise InputError(
            "this is not a folder; a model repository was expected; publish a bundle into it first",
            item=str(root),
        )
    built: list[str] = []
    skipped: list[SkippedModel] = []
    names = sorted(path.name for path in root.iterdir() if path.is_dir())
    needed = None if wanted is None else {*wanted, *_steps_of(root, wanted)}
    # An ensemble runs candidates while the models under it change, and a kill leaves it so.
    own = [name for name in names if not is_candidate_name(name) and not name.startswith(".")]
    bridges = _steps_of(root, own)
    for folder in (root / name for name in names if not name.startswith(".")):
        reason = why_not(folder, use_cpu_config=use_cpu_config)
        if needed is not None and folder.name not in needed:
            reason = reason or "it was not asked for"
            skipped.append(SkippedModel(name=folder.name, reason=reason))
        elif needed is None and (of := marked_for(folder)) and folder.name not in bridges:
            reason = (
                f"it is a candidate that an interrupted publish of '{of}' left; publish or roll "
                "back that model to remove it"
            )
            skipped.append(SkippedModel(name=folder.name, reason=reason))
        elif reason:
            skipped.append(SkippedModel(name=folder.name, reason=reason))
        else:
            built.append(folder.name)
    for name in wanted or ():
        if name not in built:
            why = next(
                (row.reason for row in skipped if row.name == name), "there is no such model"
            )
            raise InputError(f"the model cannot be loaded: {why}", item=name)
    return built, skipped


def why_not(folder: Path, *, use_cpu_config: bool) -> str:
    """Return why a model cannot be loaded here, or an empty text.

    Args:
        folder: The model's folder.
        use_cpu_config: Whether ``configs/cpu.pbtxt`` is read where there is one.
    """
    reason = _own_reason(folder, use_cpu_config=use_cpu_config)
    if reason:
        return reason
    model = read_config(_config_of(folder, use_cpu_config=use_cpu_config))
    return _what_a_step_lacks(folder, model, use_cpu_config=use_cpu_config)


def _config_of(folder: Path, *, use_cpu_config: bool) -> Path:
    path = folder / CPU_CONFIG
    return path if use_cpu_config and path.is_file() else folder / DEFAULT_CONFIG


def _own_reason(folder: Path, *, use_cpu_config: bool) -> str:
    """Return why a model cannot be loaded, whatever the models are that it runs."""
    if not is_plain(folder.name):
        return "its name has spaces or characters of the shell; rename the folder"
    path = _config_of(folder, use_cpu_config=use_cpu_config)
    if not path.is_file():
        return f"it has no {DEFAULT_CONFIG}; publish a bundle"
    try:
        model = read_config(path)
    except InputError as exc:
        return str(exc)
    if use_cpu_config and model.kind == "KIND_GPU":
        return "its configuration needs a GPU that this server cannot use, and allows no fallback"
    return _what_is_missing(folder, model)


def rate_limited(root: Path, names: Sequence[str], *, use_cpu_config: bool) -> bool:
    """Return whether an instance of one of these models asks for resources before it runs.

    Args:
        root: The repository.
        names: Models that can be loaded.
        use_cpu_config: Whether ``configs/cpu.pbtxt`` is read where a model has one.
    """
    files = (_config_of(root / name, use_cpu_config=use_cpu_config) for name in names)
    return any(read_config(file).rate_limited for file in files)


def has_gpu() -> bool:
    """Return whether this machine has an NVIDIA GPU that its driver answers for."""
    if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/dxg").exists():
        return False
    program = shutil.which("nvidia-smi")
    if program is None:
        return True
    try:
        done = subprocess.run(
            [program, "-L"], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and "GPU" in done.stdout


def _what_is_missing(folder: Path, model: ServedModel) -> str:
    present = sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
    if not present:
        return "it has no version folder; publish the bundle without --config-only"
    for version in model.versions or present[-1:]:
        missing = [file for file in model.files if not (folder / str(version) / file).exists()]
        if missing:
            return f"version {version} lacks {', '.join(missing)}; publish the bundle again"
    return ""


def _what_a_step_lacks(folder: Path, model: ServedModel, *, use_cpu_config: bool) -> str:
    """Return why an ensemble cannot run one of its models, or an empty text."""
    for name, version in model.steps:
        step = folder.parent / name
        if not step.is_dir():
            return f"it runs the model '{name}', which is not here; publish the bundle again"
        if reason := _own_reason(step, use_cpu_config=use_cpu_config):
            return f"it runs the model '{name}', which cannot be loaded: {reason}"
        served = read_config(_config_of(step, use_cpu_config=use_cpu_config)).versions
        if served and version not in (-1, *served):
            return (
                f"it runs version {version} of '{name}', which serves "
                f"{', '.join(map(str, served))}; publish the bundle again"
            )
    return ""


def _steps_of(root: Path, names: Sequence[str]) -> set[str]:
    """Return the models that ensembles among these run."""
    steps: set[str] = set()
    for name in names:
        with contextlib.suppress(InputError):  # what is wrong with it is said where it is loaded
            steps.update(step for step, _ in read_config(root / name / DEFAULT_CONFIG).steps)
    return steps
