"""What the search may try, as data: a trial says how a variant is made and what runs it.

A trial is JSON on its way into a child process, into a cache's key and into the manifest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from edgeml.core.manifest import ENGINE
from edgeml.exporting.linear_quantizing import LinearRecipe
from edgeml.exporting.quantizing import IntegerTypes, StaticRecipe
from edgeml.exporting.weight_quantizing import DynamicRecipe, WeightRecipe

Recipe = StaticRecipe | LinearRecipe | DynamicRecipe | WeightRecipe
_RECIPES: Mapping[str, type[Recipe]] = {
    "static": StaticRecipe,
    "linear": LinearRecipe,
    "dynamic": DynamicRecipe,
    "weights": WeightRecipe,
}
# Without a recipe: the core as it is, the core with less work in it, FP16, a file of somebody's.
PLAIN_KINDS = ("float", "lean", "half", "file")
KINDS = (*PLAIN_KINDS, *_RECIPES)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One point of the search space.

    Attributes:
        name: What the candidate is called.
        kind: One of ``KINDS``.
        precision: ``fp32``, ``fp16``, ``bf16``, ``int8`` or ``int4``.
        recipe: How it is quantized, for the kinds that are.
        file: Path of the model, for the kind ``file``.
        engine: What runs it.
        engine_options: What the engine is told.
        tuned_for: Instruction set that it is made for, or None.
    """

    name: str
    kind: str
    precision: str
    recipe: Recipe | None = None
    file: str = ""
    engine: str = ENGINE
    engine_options: Mapping[str, Any] = field(default_factory=dict)
    tuned_for: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind {self.kind!r}; known: {', '.join(KINDS)}")
        expected = _RECIPES.get(self.kind)
        if (expected is None) != (self.recipe is None) or (
            expected is not None and not isinstance(self.recipe, expected)
        ):
            raise ValueError(f"a trial of the kind {self.kind!r} has the recipe {self.recipe!r}")

    def on_engine(self, engine: str, **options: Any) -> Trial:
        """Return the same file, run by another engine."""
        return replace(
            self, name=f"{self.name}-{engine}", engine=engine, engine_options=dict(options)
        )

    def to_json(self) -> dict[str, Any]:
        """Return the trial as JSON values."""
        recipe = asdict(self.recipe) if self.recipe is not None else None
        return {**asdict(self), "recipe": recipe}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Trial:
        """Read what :meth:`to_json` wrote."""
        recipe = None
        if value["recipe"] is not None:
            fields = {key: _tuple(item) for key, item in value["recipe"].items()}
            if isinstance(fields.get("types"), Mapping):
                fields["types"] = IntegerTypes(**fields["types"])
            recipe = _RECIPES[value["kind"]](**fields)
        return cls(**{**value, "recipe": recipe})

    def describe(self) -> dict[str, Any]:
        """Return how the variant was made, for the manifest."""
        if self.recipe is not None:
            return self.recipe.to_json()
        if self.kind == "half":
            return {"kind": "half", "keep_io_types": True}
        return {"kind": "float"} if self.kind == "lean" else {"kind": self.kind}


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
