"""The manifest of a bundle, schema 1: typed values, and the one place that knows their JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from edgeml.core.signature import ModelSignature

SCHEMA_VERSION = 1
# What every installation has; other engines stand behind extras.
ENGINE = "onnxruntime"
TASKS = ("image-classification", "text-classification", "recommendation", "tensor")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One ONNX file of a bundle, what was measured of it, and the verdict.

    Attributes:
        name: ``fp32``, ``fp16``, ``int8`` or another candidate's name.
        file: Path inside the bundle.
        precision: ``fp32``, ``fp16`` or ``int8``.
        size_bytes: Size of the file.
        sha256: Hash of the file.
        opset: ONNX operator set of the file.
        tuned_for: Instruction set that it was chosen for, such as ``avx512_vnni``; None means any.
        accuracy: Share of right answers on the selection split; None without labels.
        p50_ms: Median latency of one item, batch 1.
        speedup: Latency of fp32 over this one's, paired; fp32 has 1.0; None where not measured.
        verdict: ``chosen``, ``passed``, ``rejected`` or ``reference``.
        reason: Why, in one sentence.
        batch_safe: Whether an answer stays the same whatever its neighbours in a batch.
        engine: What runs the file: ``onnxruntime`` or ``openvino``. Two variants may share a file.
        engine_options: What the engine is told beyond threads, such as ``inference_precision``.
        recipe: How the file was made.
        evidence: Everything else that was measured, by name.
    """

    name: str
    file: str
    precision: str
    size_bytes: int
    sha256: str
    opset: int
    tuned_for: str | None = None
    accuracy: float | None = None
    p50_ms: float | None = None
    speedup: float | None = None
    verdict: str = "reference"
    reason: str = ""
    batch_safe: bool = True
    engine: str = ENGINE
    engine_options: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def judged(self, verdict: str, reason: str) -> Variant:
        """Return this variant with another verdict."""
        return replace(self, verdict=verdict, reason=reason)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything that a bundle says of itself; the keys are DESIGN's.

    ``chosen`` answers single items. Where its answers would depend on their neighbours,
    ``chosen_for_batches`` names another; empty stands for the same one. ``chosen_by_engine`` names
    the best variant of each engine, for machines that have only some of them.
    """

    name: str
    version: str
    task: str
    signature: ModelSignature
    preprocessing: Mapping[str, Any]
    labels: tuple[str, ...]
    variants: tuple[Variant, ...]
    chosen: str
    chosen_by_device: Mapping[str, str]
    files: Mapping[str, str]
    provenance: Mapping[str, Any]
    data: str = "real"
    proven: bool = False
    multi_label: bool = False
    chosen_for_batches: str = ""
    chosen_by_engine: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        if self.task not in TASKS:
            raise ValueError(f"unknown task {self.task!r}; known: {', '.join(TASKS)}")
        if len(set(names)) != len(names) or not names:
            raise ValueError(f"variants need distinct names, got {names}")
        if self.chosen not in names:
            raise ValueError(f"chosen is {self.chosen!r}, which is none of {names}")
        for device, name in self.chosen_by_device.items():
            if name not in names:
                raise ValueError(f"chosen for {device} is {name!r}, which is none of {names}")
        for engine, name in self.chosen_by_engine.items():
            row = self.variant(name)
            if row is None or row.engine != engine:
                raise ValueError(f"chosen for {engine} is {name!r}, which is no variant of it")
        if not self.chosen_for_batches:
            object.__setattr__(self, "chosen_for_batches", self.chosen)
        if self.chosen_for_batches not in names:
            raise ValueError(
                f"chosen for batches is {self.chosen_for_batches!r}, which is none of {names}"
            )
        for variant in self.variants:
            if self.files.get(variant.file) != variant.sha256:
                raise ValueError(f"variant '{variant.name}' and files disagree about its hash")
        if self.task in ("image-classification", "text-classification"):
            self._check_labels()
        if self.task == "image-classification":
            self._check_image_contract()

    def variant(self, name: str) -> Variant | None:
        """Return the variant of this name, or None."""
        return next((row for row in self.variants if row.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON values, ``schema_version`` first."""
        return {
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "version": self.version,
            "task": self.task,
            "signature": self.signature.to_json(),
            "preprocessing": dict(self.preprocessing),
            "labels": list(self.labels),
            "multi_label": self.multi_label,
            "variants": [asdict(variant) for variant in self.variants],
            "chosen": self.chosen,
            "chosen_for_batches": self.chosen_for_batches,
            "chosen_by_device": dict(self.chosen_by_device),
            "chosen_by_engine": dict(self.chosen_by_engine),
            "files": dict(self.files),
            "provenance": dict(self.provenance),
            "data": self.data,
            "proven": self.proven,
        }

    def _check_labels(self) -> None:
        """Refuse labels that do not fit the output they belong to."""
        classes = self.signature.outputs[0].shape[-1]
        if isinstance(classes, int) and classes != len(self.labels):
            raise ValueError(
                f"the output has {classes} classes and there are {len(self.labels)} labels"
            )

    def _check_image_contract(self) -> None:
        """Refuse preprocessing that does not fit the tensor it belongs to."""
        shape = self.signature.inputs[0].shape
        sides = (self.preprocessing.get("height"), self.preprocessing.get("width"))
        fits = len(shape) == 4 and all(
            isinstance(axis, str) or axis == side
            for axis, side in zip(shape[1:3], sides, strict=True)
        )
        if not fits:
            got = self.signature.inputs[0].describe()
            raise ValueError(f"preprocessing makes {sides[0]}x{sides[1]} pixels for an input {got}")

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Manifest:
        """Read what :meth:`to_json` wrote.

        Args:
            value: Parsed JSON of schema 1; unknown keys are ignored.

        Raises:
            KeyError: A key is missing.
            TypeError: A value has the wrong kind.
            ValueError: The values contradict each other.
        """
        if not isinstance(value["labels"], list):
            raise TypeError(f"'labels' must be a list, got {type(value['labels']).__name__}")
        return cls(
            name=_text(value, "name"),
            version=_text(value, "version"),
            task=_text(value, "task"),
            signature=ModelSignature.from_json(value["signature"]),
            preprocessing=dict(value["preprocessing"]),
            labels=tuple(str(label) for label in value["labels"]),
            variants=tuple(_variant(row) for row in value["variants"]),
            chosen=_text(value, "chosen"),
            chosen_by_device=dict(value["chosen_by_device"]),
            files={str(path): str(digest) for path, digest in dict(value["files"]).items()},
            provenance=dict(value["provenance"]),
            data=str(value.get("data", "real")),
            proven=_flag(value, "proven"),
            multi_label=_flag(value, "multi_label"),
            chosen_by_engine=dict(value.get("chosen_by_engine", {})),
            chosen_for_batches=_text({"chosen_for_batches": "", **value}, "chosen_for_batches"),
        )


_NUMBER = (int, float, type(None))
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("name", "file", "precision", "sha256", "verdict", "reason", "engine"), str),
    **dict.fromkeys(("size_bytes", "opset"), int),
    **dict.fromkeys(("accuracy", "p50_ms", "speedup"), _NUMBER),
    **dict.fromkeys(("recipe", "evidence", "engine_options"), dict),
    "tuned_for": (str, type(None)),
    "batch_safe": bool,
}


def _variant(row: Mapping[str, Any]) -> Variant:
    known = {key: row[key] for key in row if key in _KINDS}
    for key, item in known.items():
        if not isinstance(item, _KINDS[key]):
            raise TypeError(f"a variant's '{key}' has the wrong kind: {type(item).__name__}")
    return Variant(**known)


def _flag(value: Mapping[str, Any], key: str) -> bool:
    found = value.get(key, False)
    if not isinstance(found, bool):
        raise TypeError(f"'{key}' must be true or false, got {type(found).__name__}")
    return found


def _text(value: Mapping[str, Any], key: str) -> str:
    if not isinstance(value[key], str):
        raise TypeError(f"'{key}' must be text, got {type(value[key]).__name__}")
    return str(value[key])
