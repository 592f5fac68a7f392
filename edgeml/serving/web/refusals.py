"""Why a request is not answered, and the HTTP status that says so."""

from __future__ import annotations

from edgeml.errors import (
    ClosedError,
    EdgemlError,
    InferenceError,
    InputError,
)

BAD_REQUEST = 400
TIMED_OUT = 408
TOO_LARGE = 413
WRONG_KIND = 415
UNUSABLE = 422
FAILED = 500
UNAVAILABLE = 503


class RefusedError(InputError):
    """A request is refused before its contents reach the model.

    Attributes:
        status: The HTTP status.
    """

    def __init__(self, message: str, *, status: int, item: str | None = None) -> None:
        super().__init__(message, item=item)
        self.status = status


def status_of(error: EdgemlError) -> int:
    """Return the HTTP status of an error: whose fault it is decides."""
    if isinstance(error, RefusedError):
        return error.status
    if isinstance(error, (InputError, InferenceError)):
        return UNUSABLE
    return UNAVAILABLE if isinstance(error, ClosedError) else FAILED


def line_of(error: BaseException) -> str:
    """Return an error as one line, with its notes."""
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", []))
    return " ".join(str(error).split()) + notes
