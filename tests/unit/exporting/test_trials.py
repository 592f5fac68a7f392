"""Trials are data: JSON and back, whatever the recipe."""

from __future__ import annotations

import json

import pytest

from edgeml.exporting.linear_quantizing import LinearRecipe
from edgeml.exporting.quantizing import IntegerTypes, StaticRecipe
from edgeml.exporting.trials import KINDS, PLAIN_KINDS, Trial
from edgeml.exporting.weight_quantizing import DynamicRecipe, WeightRecipe

TYPES = IntegerTypes(activations="uint8", weights="int8", reduce_range=True)
RECIPES = {
    "static": StaticRecipe(
        types=TYPES, op_types=("Conv",), float_nodes=("a", "b"), input_scale=(0.5, 3)
    ),
    "linear": LinearRecipe(types=TYPES, percent=99.9, float_nodes=("c",)),
    "dynamic": DynamicRecipe(op_types=("LSTM", "MatMul"), reduce_range=True),
    "weights": WeightRecipe(bits=4),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_trial_survives_json(kind: str) -> None:
    made = Trial(
        name="n",
        kind=kind,
        precision="int8",
        recipe=RECIPES.get(kind),
        file="m.onnx" if kind == "file" else "",
        engine="openvino",
        engine_options={"inference_precision": "f32"},
        tuned_for="avx2",
    )
    again = Trial.from_json(json.loads(json.dumps(made.to_json())))
    assert again == made
    assert type(again.recipe) is type(made.recipe)
    assert json.dumps(made.describe())  # it goes into the manifest


def test_a_recipe_of_another_kind_is_refused() -> None:
    for kind in PLAIN_KINDS:
        with pytest.raises(ValueError, match="has the recipe"):
            Trial(name="n", kind=kind, precision="int8", recipe=RECIPES["static"])
    for kind in RECIPES:
        other = RECIPES["weights" if kind != "weights" else "static"]
        for recipe in (None, other):
            with pytest.raises(ValueError, match="has the recipe"):
                Trial(name="n", kind=kind, precision="int8", recipe=recipe)
    with pytest.raises(ValueError, match="unknown kind"):
        Trial(name="n", kind="guess", precision="int8")


def test_another_engine_runs_the_same_file() -> None:
    made = Trial(name="int8", kind="static", precision="int8", recipe=RECIPES["static"])
    other = made.on_engine("openvino", inference_precision="f32")
    assert (other.name, other.engine) == ("int8-openvino", "openvino")
    assert other.recipe == made.recipe
    assert other.describe() == made.describe()
