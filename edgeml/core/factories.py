"""Functions of a user's own, named as ``package.module:function`` and found as an import would.

The code is the user's and runs in this process; nothing else is taken from a string.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeml.errors import InputError

_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def looks_like_factory(source: str | Path) -> bool:
    """Return whether a source has the form ``package.module:factory``.

    >>> looks_like_factory("models.tiny:make"), looks_like_factory("models/tiny.onnx")
    (True, False)
    """
    return isinstance(source, str) and _NAME.fullmatch(source) is not None


def find_factory(name: str, *, wanted: str) -> Callable[..., Any]:
    """Import what a name of the form ``package.module:factory`` names.

    Args:
        name: The current folder is searched first.
        wanted: What kind of function was expected, for messages.

    Raises:
        InputError: The name has another form, or there is no such module or function.
    """
    if not looks_like_factory(name):
        raise InputError("this names no factory; package.module:function was expected", item=name)
    path, _, attributes = name.partition(":")
    try:
        found: Any = importlib.import_module(path)
    except (Exception, SystemExit) as exc:  # it is the user's code: it raises anything
        if isinstance(exc, ModuleNotFoundError) and f"{path}.".startswith(f"{exc.name}."):
            what = f"there is no module '{exc.name}', neither installed nor in the current folder"
        else:
            first = (str(exc).splitlines() or [""])[0]
            what = f"the module '{path}' cannot be imported ({type(exc).__name__}: {first})"
        raise InputError(f"{what}; an importable module was expected", item=name) from exc
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            raise InputError(
                f"'{path}' has no '{attributes}'; {wanted} was expected there", item=name
            )
        found = getattr(found, attribute)
    if not callable(found):
        raise InputError(
            f"'{attributes}' is a {type(found).__name__}; {wanted} was expected", item=name
        )
    return found  # type: ignore[no-any-return]


@contextmanager
def current_folder_first() -> Iterator[None]:
    """Let modules of the current folder be found while the block runs."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    # A file that was written a moment ago may not be in the importer's listing of its folder.
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
