"""Hypothesis strategies; they grow with the features."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from edgeml.core.dtypes import BY_NUMPY
from edgeml.core.manifest import TASKS, Manifest, Variant
from edgeml.core.signature import ModelSignature, TensorSpec

names = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=9
)
fractions = st.floats(0, 1)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
json_objects = st.dictionaries(
    names,
    st.none() | st.booleans() | st.integers() | names | st.lists(names, max_size=3),
    max_size=3,
)
tensor_specs = st.builds(
    TensorSpec,
    name=names,
    dtype=st.sampled_from(sorted(BY_NUMPY)),
    shape=st.lists(st.integers(0, 9) | names, min_size=1, max_size=4).map(tuple),
)
_sides = st.lists(tensor_specs, min_size=1, max_size=3, unique_by=lambda spec: spec.name).map(tuple)
signatures = st.builds(ModelSignature, inputs=_sides, outputs=_sides)


def _variant(name: str) -> st.SearchStrategy[Variant]:
    return st.builds(
        Variant,
        name=st.just(name),
        file=st.just(f"variants/{name}/model.onnx"),
        precision=st.sampled_from(["fp32", "fp16", "int8"]),
        size_bytes=st.integers(0, 2**40),
        sha256=digests,
        opset=st.integers(7, 30),
        tuned_for=st.none() | names,
        accuracy=st.none() | fractions,
        p50_ms=st.none() | st.floats(0, 1e6),
        speedup=st.none() | st.floats(0, 1e6),
        verdict=st.sampled_from(["chosen", "passed", "rejected", "reference"]),
        reason=names,
        batch_safe=st.booleans(),
        recipe=json_objects,
        evidence=json_objects,
    )


def _spec(name: str, dtype: str, shape: tuple[int | str, ...]) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Any manifest that is allowed to exist."""
    variant_names = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    variants = tuple(draw(_variant(name)) for name in variant_names)
    files: dict[str, str] = draw(st.dictionaries(names, digests, max_size=3))
    files.update({variant.file: variant.sha256 for variant in variants})
    chosen = st.sampled_from(variant_names)
    preprocessing: dict[str, Any] = draw(json_objects)
    task = draw(st.sampled_from(TASKS))
    signature = draw(signatures)
    labels = tuple(draw(st.lists(names, max_size=4)))
    classes = draw(st.just(len(labels)) | names)
    if task == "text-classification":  # its labels must agree with its output
        signature = ModelSignature(
            inputs=signature.inputs,
            outputs=(_spec("probabilities", "float32", ("batch", classes)),),
        )
    if task == "image-classification":  # its tensors and preprocessing must, too
        height, width = draw(st.integers(1, 99)), draw(st.integers(1, 99))
        preprocessing |= {"height": height, "width": width}
        signature = ModelSignature(
            inputs=(_spec("image", "uint8", ("batch", height, width, 3)),),
            outputs=(_spec("probabilities", "float32", ("batch", classes)),),
        )
    return Manifest(
        name=draw(names),
        version=draw(names),
        task=task,
        signature=signature,
        preprocessing=preprocessing,
        labels=labels,
        variants=variants,
        chosen=draw(chosen),
        chosen_by_device=draw(st.dictionaries(names, chosen, max_size=2)),
        files=files,
        provenance=draw(json_objects),
        data=draw(st.sampled_from(["real", "synthetic"])),
        proven=draw(st.booleans()),
        multi_label=draw(st.booleans()),
        chosen_for_batches=draw(st.just("") | chosen),
    )
