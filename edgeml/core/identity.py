"""Which model a predictor answers for: what must agree before one may answer in another's place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from edgeml.core.bundle import Bundle


@dataclass(frozen=True, kw_only=True)
class ModelIdentity:
    """What a bundle, or the contract that a server carries, says of a model.

    Attributes:
        name: Of the bundle.
        version: Of the bundle.
        task: Such as ``image-classification``.
        labels: Names of the classes, in order.
        multi_label: Whether several may hold at once.
        preprocessing: The contract, as JSON values.
        artefacts: Variant name to the hash of its file.
        bundle: The bundle itself, where it lies on this machine.
    """

    name: str
    version: str
    task: str
    labels: tuple[str, ...]
    multi_label: bool = False
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    artefacts: Mapping[str, str] = field(default_factory=dict)
    bundle: Bundle | None = field(default=None, compare=False)

    @classmethod
    def of_bundle(cls, bundle: Bundle) -> ModelIdentity:
        """Return the identity of a bundle on this machine."""
        manifest = bundle.manifest
        return cls(
            name=manifest.name,
            version=manifest.version,
            task=manifest.task,
            labels=manifest.labels,
            multi_label=manifest.multi_label,
            preprocessing=dict(manifest.preprocessing),
            artefacts={row.name: row.sha256 for row in manifest.variants},
            bundle=bundle,
        )

    def differences(self, other: ModelIdentity) -> list[str]:
        """Return what answers a different question: other artefacts are no difference."""
        keys = ("task", "labels", "multi_label", "preprocessing")
        return [key for key in keys if getattr(self, key) != getattr(other, key)]


@runtime_checkable
class Identified(Protocol):
    """A predictor that knows which model it answers for."""

    @property
    def identity(self) -> ModelIdentity | None:
        """The model; None where nobody said."""
        ...


def identity_of(predictor: object) -> ModelIdentity | None:
    """Return which model a predictor answers for, or None where it does not know."""
    return predictor.identity if isinstance(predictor, Identified) else None
