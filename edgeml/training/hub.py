"""Encoders from a model hub: the local cache first, safetensors only, and no long wait."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edgeml.core.answering import answer_within
from edgeml.errors import DataError, InputError

# The hub is asked for this long at most; a download that has begun may take its time.
ANSWER_TIMEOUT_S = 3.5
_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_WEIGHTS = "model.safetensors"
TEXT_FILES = ("config.json", "tokenizer.json")
IMAGE_FILES = ("config.json", "preprocessor_config.json")
_OPTIONAL = ("tokenizer_config.json", "special_tokens_map.json", "README.md")


def download_encoder(
    name: str, *, weights: bool, needed: tuple[str, ...] = TEXT_FILES
) -> tuple[Path, str]:
    """Return the folder of a hub's model, and its commit.

    Args:
        name: Such as ``distilbert-base-uncased`` or ``org/name``.
        weights: Whether its weights are needed.
        needed: Files that it must have beside them.

    Raises:
        InputError: The name is no id, or the hub has no such model, or not as safetensors.
        DataError: The hub cannot be reached.
    """
    if not _ID.fullmatch(name):
        raise InputError(
            "there is no such folder, and this is no id of a model hub; a folder with "
            f"config.json, or an id such as org/name was expected; {_advice(needed)}",
            item=name,
        )
    files = (*needed, _WEIGHTS) if weights else needed
    cached = _cached(name, files)
    if cached is None:
        _ask(name, files)
        cached = _download(name, (*files, *_OPTIONAL))
    return cached, cached.name


def _cached(name: str, files: tuple[str, ...]) -> Path | None:
    import huggingface_hub

    try:
        folder = Path(huggingface_hub.snapshot_download(name, local_files_only=True))
    except (OSError, ValueError):
        return None
    return folder if all((folder / file).is_file() for file in files) else None


def _ask(name: str, files: tuple[str, ...]) -> None:
    """Look at what files a model has, and refuse one that lacks some."""
    from huggingface_hub import errors

    try:
        info = answer_within(ANSWER_TIMEOUT_S, lambda: _info(name))
    except (errors.RepositoryNotFoundError, errors.GatedRepoError) as exc:
        raise InputError(
            "the model hub has no such model, or shows it only to members; an id such as org/name, "
            f"or a folder was expected; {_advice(files)}",
            item=name,
        ) from exc
    except Exception as exc:  # sockets, proxies, TLS and two HTTP libraries each have their own
        raise _unreachable(name, exc, files) from exc
    there = {row.rfilename for row in info.siblings or ()}
    lacking = [file for file in files if file not in there]
    if lacking:
        advice = "; its weights are pickled, and a pickle can run any code" if any(
            file.endswith(".bin") for file in there
        ) else ""  # fmt: skip
        raise InputError(
            f"the model hub's model has no {' and no '.join(lacking)}{advice}; convert it with "
            "save_pretrained(folder) and give the folder",
            item=name,
        )


def _info(name: str) -> Any:
    import huggingface_hub

    return huggingface_hub.HfApi().model_info(name, timeout=ANSWER_TIMEOUT_S)


def _download(name: str, files: tuple[str, ...]) -> Path:
    import huggingface_hub
    from huggingface_hub import utils

    bars: Any = utils
    shown = not bars.are_progress_bars_disabled()
    bars.disable_progress_bars()
    try:
        # By branch, not by commit: only then does the cache note what its newest copy is.
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(files)))
    except Exception as exc:
        raise _unreachable(name, exc, files) from exc
    finally:
        if shown:
            bars.enable_progress_bars()


def _advice(files: tuple[str, ...]) -> str:
    """Name the models that need no hub: of pictures or of texts."""
    if "preprocessor_config.json" in files:
        return "or use 'efficientnet-lite0', 'efficientnet-lite1' or 'efficientnet-lite2'"
    return "or use 'minilm-l6'"


def _unreachable(name: str, exc: Exception, files: tuple[str, ...]) -> DataError:
    wanted = ", ".join(dict.fromkeys((*files, _WEIGHTS)))
    reason = (
        f"the model hub cannot be reached ({type(exc).__name__}), and no copy is in the local "
        f"cache; give a folder with {wanted}, {_advice(files)}, which a package carries"
    )
    return DataError(source=name, reason=reason)
