"""Every error that edgeml raises on purpose. This module imports nothing of edgeml.

A message is one line: what happened; what was expected; what to do. Facts are attributes too, so
that a program need not parse the message. Each leaf is also the builtin that a stranger would
catch.

    EdgemlError
    ├─ MissingExtraError (ImportError)         an optional part of edgeml is not installed
    ├─ InputError (ValueError)                 a user's image, text, table or argument is unusable
    │  └─ SignatureError                       a tensor has the wrong name, dtype, shape or values
    ├─ DataError (ValueError)                  a data set is missing, damaged or unfit
    ├─ GateError (RuntimeError)                a check that was asked for by name did not pass
    ├─ BundleError (ValueError)                this is not a bundle that this version can read
    │  └─ IntegrityError                       its files are not what its manifest says
    ├─ ExportError (RuntimeError)              a model could not be turned into ONNX
    │  └─ ParityError                          it could, and answers differently from its source
    ├─ ProviderUnavailableError (RuntimeError) the provider asked for is not the one we got
    ├─ ModelOutputError (ArithmeticError)      a model answered with NaN or infinity
    ├─ InferenceError (RuntimeError)           the runtime could not compute an answer
    ├─ ClosedError (RuntimeError)              a predictor was used after close()
    ├─ MeasurementError (RuntimeError)         a load run could not be made
    ├─ PublishError (RuntimeError)             a version could not be put in service; the old one is
    ├─ HostError (OSError)                     this machine lacks a port, a program, memory or disk
    └─ ServerError (RuntimeError)              a server answered with an error
       ├─ ServerUnreachableError (ConnectionError)
       ├─ ServerTimeoutError (TimeoutError)
       ├─ RequestRefusedError                  it refused one request for what is in it
       ├─ ServerOverloadedError                it, or a limit before it, has too much to do
       └─ ModelNotReadyError
"""

from __future__ import annotations

from typing import Any


class EdgemlError(Exception):
    """Base of every error that edgeml raises on purpose.

    Whatever a user's path or a library's words hold, the message is one line.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))

    def __reduce__(self) -> tuple[Any, ...]:
        """Let errors cross processes: constructors that take keywords only would not unpickle."""
        return _rebuild, (type(self), self.args), self.__dict__


def _rebuild(kind: type[EdgemlError], arguments: tuple[Any, ...]) -> EdgemlError:
    # Of a class that is a RuntimeError and an OSError, kind.__new__ is the wrong one of two.
    error = OSError.__new__(kind) if issubclass(kind, OSError) else kind.__new__(kind)
    error.args = arguments
    return error


class MissingExtraError(EdgemlError, ImportError):
    """An optional part of edgeml was used without its extra."""

    def __init__(self, *, module: str, extra: str) -> None:
        super().__init__(
            f"the module '{module}' is not installed; this part of edgeml needs the extra "
            f"'{extra}'; run: pip install 'edgeml[{extra}]'"
        )
        self.module = module
        self.extra = extra


class InputError(EdgemlError, ValueError):
    """A user's image, text, table or argument is unusable.

    Attributes:
        item: What was being read, as the user named it, or None.
        limit: The limit that was exceeded, by name, or None.
        got: The value found, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        item: str | None = None,
        limit: str | None = None,
        got: object = None,
    ) -> None:
        super().__init__(f"{item}: {message}" if item else message)
        self.item = item
        self.limit = limit
        self.got = got


class SignatureError(InputError):
    """A tensor does not fit the model's signature.

    Attributes:
        tensor: The tensor's name.
        expected: What the signature asks for.
        got: What was given.
    """

    def __init__(self, *, tensor: str, expected: str, got: str) -> None:
        super().__init__(
            f"tensor '{tensor}' is {got}; the model expects {expected}; "
            "convert the array, or use predict(), which preprocesses",
            got=got,
        )
        self.tensor = tensor
        self.expected = expected


class DataError(EdgemlError, ValueError):
    """A data set is missing, damaged or unfit for its use.

    Attributes:
        source: The data set or file.
        reason: What is wrong, and what to do.
    """

    def __init__(self, *, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason


class GateError(EdgemlError, RuntimeError):
    """A check that was asked for by name did not pass.

    Attributes:
        gate: The check.
        measured: The figure found.
        limit: The figure that would have passed.
    """

    def __init__(self, message: str, *, gate: str, measured: float, limit: float) -> None:
        super().__init__(message)
        self.gate = gate
        self.measured = measured
        self.limit = limit


class BundleError(EdgemlError, ValueError):
    """A folder is not a bundle that this version of edgeml can read.

    Attributes:
        path: The folder or file.
        reason: What is wrong, and what to do.
    """

    def __init__(self, *, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class IntegrityError(BundleError):
    """A bundle's files are not what its manifest says."""


class ExportError(EdgemlError, RuntimeError):
    """A model could not be turned into ONNX."""


class ParityError(ExportError):
    """An exported model answers differently from its source.

    Attributes:
        max_abs_diff: Largest difference found between two outputs.
        tolerance: Largest difference allowed.
        sample: Index of the sample with the largest difference.
    """

    def __init__(self, *, variant: str, max_abs_diff: float, tolerance: float, sample: int) -> None:
        super().__init__(
            f"variant '{variant}' differs from its source by {max_abs_diff:.3g} at sample "
            f"{sample}; at most {tolerance:.3g} is allowed; the export is wrong: "
            "report it with the model"
        )
        self.max_abs_diff = max_abs_diff
        self.tolerance = tolerance
        self.sample = sample


class ProviderUnavailableError(EdgemlError, RuntimeError):
    """The execution provider asked for is not the one that would answer."""

    def __init__(self, *, requested: str, available: tuple[str, ...]) -> None:
        super().__init__(
            f"the execution provider '{requested}' is not available; this ONNX Runtime has "
            f"{', '.join(available) or 'none'}; install a build that has it or ask for another"
        )
        self.requested = requested
        self.available = available


class ModelOutputError(EdgemlError, ArithmeticError):
    """A model answered with NaN or infinity."""

    def __init__(self, *, tensor: str) -> None:
        super().__init__(
            f"the model's output '{tensor}' holds NaN or infinity; finite numbers were expected; "
            "run 'edgeml verify' on the bundle and check the input"
        )
        self.tensor = tensor


class InferenceError(EdgemlError, RuntimeError):
    """The runtime could not compute an answer to a feed that fits the signature.

    Attributes:
        reason: The runtime's own words.
    """

    def __init__(self, *, reason: str) -> None:
        super().__init__(
            f"the runtime could not compute this feed ({reason}); tensors that the model accepts "
            "were expected; check free axes and the range of the values"
        )
        self.reason = reason


class ClosedError(EdgemlError, RuntimeError):
    """A predictor was used after close()."""

    def __init__(self) -> None:
        super().__init__("this predictor is closed; an open one was expected; load it again")


class MeasurementError(EdgemlError, RuntimeError):
    """A load run could not be made; one that was made and is no good is invalid instead."""


class PublishError(EdgemlError, RuntimeError):
    """A version could not be put in service, and what was served before is served still.

    Attributes:
        model: The model.
        version: The version that is not served.
        kept: The version that is, or None where there is none.
        reason: What went wrong.
    """

    def __init__(self, *, model: str, version: int, kept: int | None, reason: str) -> None:
        keeps = f"version {kept} keeps serving" if kept else "nothing was served before it"
        super().__init__(
            f"version {version} of '{model}' is not served: {reason}; {keeps}; mend what is named "
            "and try again"
        )
        self.model = model
        self.version = version
        self.kept = kept
        self.reason = reason


class HostMismatchWarning(UserWarning):
    """This machine lacks what a bundle or a profile was made for; something else answers."""


class HostError(EdgemlError, OSError):
    """This machine lacks something: a port, a program, a library, memory, disk.

    Attributes:
        what: The thing that is missing or taken.
        needed: What to do about it.
    """

    def __init__(self, *, what: str, needed: str) -> None:
        super().__init__(f"{what}; {needed}")
        self.what = what
        self.needed = needed


class ServerError(EdgemlError, RuntimeError):
    """A server answered with an error.

    Attributes:
        url: The server.
    """

    def __init__(self, message: str, *, url: str) -> None:
        super().__init__(f"{url}: {message}")
        self.url = url


class ServerUnreachableError(ServerError, ConnectionError):
    """No server answers at this address, or it went away."""


class ServerTimeoutError(ServerError, TimeoutError):
    """A server did not answer in time.

    Attributes:
        timeout_s: The time that was allowed, in seconds.
    """

    def __init__(self, *, url: str, timeout_s: float) -> None:
        super().__init__(
            f"no answer within {timeout_s:g} s; the server is slow, overloaded or hung; "
            "raise timeout_s or look at its log",
            url=url,
        )
        self.timeout_s = timeout_s


class RequestRefusedError(ServerError):
    """A server refused one request for what is in it; another one may be answered."""


class ServerOverloadedError(ServerError):
    """More is asked of a server than it can answer in time; this request was not computed.

    Attributes:
        reason: ``queue-full``, or ``waited`` too long in a queue, the server's or that of a limit
            before it; or what only a limit says, at once: ``too-late`` (it could not have been
            answered by its deadline) or ``shed`` (a call of higher priority took its place).
        refused_by: ``server``, or ``limit`` where nothing was sent: it says nothing of the server's
            health.
    """

    def __init__(self, message: str, *, url: str, reason: str, refused_by: str = "server") -> None:
        super().__init__(message, url=url)
        self.reason = reason
        self.refused_by = refused_by


class ModelNotReadyError(ServerError):
    """A server is there and the model is not.

    Attributes:
        model: The model's name.
    """

    def __init__(self, message: str, *, url: str, model: str) -> None:
        super().__init__(message, url=url)
        self.model = model
