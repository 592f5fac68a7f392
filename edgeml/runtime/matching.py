"""Whether a file is the one that a manifest describes: what every engine asks when it opens one."""

from __future__ import annotations

from edgeml.core.signature import ModelSignature
from edgeml.errors import BundleError


def check_signature(found: ModelSignature, declared: ModelSignature, *, path: str) -> None:
    """Refuse a file that does not take and give what its manifest says.

    Args:
        found: What the file takes and gives.
        declared: What the manifest says.
        path: The file, for the message.

    Raises:
        BundleError: Names, dtypes, ranks or fixed axes differ.
    """
    if not _fits(found, declared):
        reason = (
            f"the file takes and gives {_text(found)}; the manifest says {_text(declared)}; "
            "export the bundle again"
        )
        raise BundleError(path=path, reason=reason)


def first_line(exc: Exception) -> str:
    """Return the first line of an error's words, cut to a readable length."""
    return (str(exc).strip() or type(exc).__name__).splitlines()[0][:200]


def _fits(found: ModelSignature, declared: ModelSignature) -> bool:
    """Return whether names, dtypes, ranks and fixed axes agree; symbolic names may differ."""
    for side in ("inputs", "outputs"):
        ours = {spec.name: spec for spec in getattr(declared, side)}
        theirs = {spec.name: spec for spec in getattr(found, side)}
        if ours.keys() != theirs.keys():
            return False
        for name, spec in ours.items():
            other = theirs[name]
            if spec.dtype != other.dtype or len(spec.shape) != len(other.shape):
                return False
            pairs = zip(spec.shape, other.shape, strict=True)
            if any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs):
                return False
    return True


def _text(signature: ModelSignature) -> str:
    specs = (*signature.inputs, *signature.outputs)
    return ", ".join(f"{spec.name} {spec.describe()}" for spec in specs)
