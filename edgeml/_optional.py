"""The guard of optional dependencies: a missing extra and a broken install are told apart."""

from __future__ import annotations

import importlib

from edgeml.errors import MissingExtraError


def require(module: str, *, extra: str) -> None:
    """Import ``module`` or say which extra brings it.

    Used only at the head of a subpackage that stands behind an extra; everything else imports
    plainly.

    Args:
        module: Dotted name of the module.
        extra: Extra of edgeml that installs it.

    Raises:
        MissingExtraError: The module's package is not installed.
        ImportError: It is installed and broken; the cause is shown as it is.
    """
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as exc:
        if not f"{module}.".startswith(f"{exc.name}."):
            raise  # installed but broken: the real cause is more useful than advice
        raise MissingExtraError(module=module, extra=extra) from exc
