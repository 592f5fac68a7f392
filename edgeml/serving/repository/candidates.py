"""Candidates: what a publish puts beside a model while it checks a version through the server.

A candidate is a model of its own, because a server answers with the highest version that it has
loaded. Its folder carries a mark, so that somebody's own model of such a name is left alone.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

SUFFIX = "__candidate"
MARK = ".candidate.json"
_NAME = re.compile(re.escape(SUFFIX) + r"(_(tokenizer|labels|text|decoder|encoded))?$")


def candidate_name(model: str, name: str) -> str:
    """Return what a model, or a part of it, is called as a candidate.

    Args:
        model: The model's name.
        name: Its own name, or that of one of its parts.
    """
    return f"{model}{SUFFIX}{name.removeprefix(model)}"


def own_name(name: str) -> str:
    """Return what a candidate is called once it is served; any other name as it is."""
    return name.replace(SUFFIX, "", 1) if is_candidate_name(name) else name


def is_candidate_name(name: str) -> bool:
    """Return whether a name is one that publishing keeps for itself."""
    return _NAME.search(name) is not None


def marked_for(folder: Path) -> str | None:
    """Return the model that a folder is a candidate for; None for any other folder."""
    try:
        value = json.loads((folder / MARK).read_bytes())
        return str(value["model"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
