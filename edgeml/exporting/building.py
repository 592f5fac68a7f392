"""Build one trial's model: the core, quantized as its recipe says, with the contract around it.

What trials share is made once and kept in a folder: the rewritten core, the prepared core, and the
histograms of their activations.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgeml.core.files import write_json
from edgeml.core.signature import Tensors
from edgeml.errors import ExportError
from edgeml.exporting.assembly import Assembly
from edgeml.exporting.fusion import FusionProof, prove_fusion
from edgeml.exporting.half import halve_core
from edgeml.exporting.linear_quantizing import (
    LinearRecipe,
    linear_inputs,
    linear_products,
    quantize_linear_layers,
)
from edgeml.exporting.onnx_files import read_onnx
from edgeml.exporting.quantizing import StaticRecipe, prepare_core, quantize_prepared
from edgeml.exporting.ranges import Histogram, collect_histograms, float_tensors, ranges_of
from edgeml.exporting.rewriting import rewrite, split_products
from edgeml.exporting.trials import Trial
from edgeml.exporting.weight_quantizing import (
    DynamicRecipe,
    WeightRecipe,
    quantize_at_run_time,
    quantize_weights,
)

_COMPARED = 8
_WEIGHTED = ("MatMul", "Gemm", "LSTM")


def _count_weighted(core: onnx.ModelProto, op_types: Sequence[str]) -> int:
    """Return how many operators with weights are to run quantized: of two activations none is."""
    weights = {row.name for row in core.graph.initializer}
    return sum(
        node.op_type in op_types and len(node.input) > 1 and node.input[1] in weights
        for node in core.graph.node
        if node.op_type in _WEIGHTED
    )


class Workshop:
    """Builds trials from one core, and keeps what they share in a folder.

    Args:
        core: The float core.
        assembly: What goes around it.
        folder: Where what is shared is kept; another process may have filled it.
        calibration: Returns feeds of the whole model, one sample each.
        compared: A few feeds, padded where there is padding, that a rewritten core must answer
            alike.
        num_threads: Threads of calibration.
    """

    def __init__(
        self,
        core: onnx.ModelProto,
        assembly: Assembly,
        *,
        folder: Path,
        calibration: Callable[[], Iterable[Tensors]],
        compared: Callable[[], Iterable[Tensors]],
        num_threads: int = 1,
    ) -> None:
        self.core = core
        self.assembly = assembly
        self.folder = folder
        self._calibration = calibration
        self._compared = compared
        self._num_threads = num_threads

    def build(self, trial: Trial) -> tuple[onnx.ModelProto, FusionProof | None]:
        """Return a trial's whole model, and the proof that it runs quantized.

        The proof is None for what is not quantized, and for files of others.

        Raises:
            ExportError: It cannot be made.
            InputError: A file of somebody else's is no model.
        """
        recipe = trial.recipe
        if trial.kind == "file":
            return read_onnx(Path(trial.file)), None
        if isinstance(recipe, StaticRecipe):
            return self._static(recipe)
        if isinstance(recipe, LinearRecipe):
            return self._linear(recipe)
        if isinstance(recipe, DynamicRecipe):
            made = self.assembly.assemble(quantize_at_run_time(self.core, recipe))
            return made, prove_fusion(
                made,
                self.core,
                op_types=recipe.op_types,
                num_requested=_count_weighted(self.core, recipe.op_types),
            )
        if isinstance(recipe, WeightRecipe):
            made = self.assembly.assemble(quantize_weights(self.lean, recipe))
            proof = prove_fusion(made, self.lean, num_requested=len(linear_products(self.lean)))
            return made, proof
        if trial.kind == "half":
            return self.assembly.assemble(halve_core(self.core)), None
        return self.assembly.assemble(self.lean if trial.kind == "lean" else self.core), None

    @property
    def lean(self) -> onnx.ModelProto:
        """The core with less work in it, where that could be proven; else the core."""
        return self._lean()[0]

    @property
    def rewriting(self) -> Mapping[str, Any]:
        """What was done to the core, and why no more."""
        return self._lean()[1]

    def _static(self, recipe: StaticRecipe) -> tuple[onnx.ModelProto, FusionProof]:
        prepared = self.folder / "prepared.onnx"
        if not prepared.is_file():
            with _whole(prepared) as target:
                prepare_core(self.core, target)
        histograms = self._histograms("prepared", onnx.load(prepared), float_tensors)
        quantized = quantize_prepared(prepared, histograms, recipe)
        made = self.assembly.assemble(quantized, integer_input=recipe.input_scale is not None)
        proof = prove_fusion(
            made, self.core, op_types=recipe.op_types, float_nodes=recipe.float_nodes
        )
        return made, proof

    def _linear(self, recipe: LinearRecipe) -> tuple[onnx.ModelProto, FusionProof]:
        lean = self.lean
        ranges = None
        if recipe.activations == "static":
            histograms = self._histograms("lean", lean, linear_inputs)
            ranges = ranges_of(histograms, percent=recipe.percent)
        made = self.assembly.assemble(quantize_linear_layers(lean, recipe, ranges))
        requested = len(set(linear_products(lean)) - set(recipe.float_nodes))
        return made, prove_fusion(made, lean, num_requested=requested)

    def _lean(self) -> tuple[onnx.ModelProto, Mapping[str, Any]]:
        model, facts = self.folder / "lean.onnx", self.folder / "lean.json"
        if not facts.is_file():
            feeds = [self._core_feed(feed) for feed in self._first_compared()]
            lean, found = rewrite(split_products(self.core), feeds)
            onnx.save(lean, model)
            write_json(facts, found)
        found = json.loads(facts.read_text(encoding="utf-8"))
        return onnx.load(model), found

    def _first_compared(self) -> list[Tensors]:
        return [feed for feed, _ in zip(self._compared(), range(_COMPARED), strict=False)]

    def _core_feed(self, feed: Tensors) -> Tensors:
        return self.assembly.core_feed(feed, self.core)

    def _histograms(
        self,
        name: str,
        model: onnx.ModelProto,
        tensors: Callable[[onnx.ModelProto], Sequence[str]],
    ) -> dict[str, Histogram]:
        """Return the histograms of a model's activations, counted once."""
        place = self.folder / f"ranges-{name}.npz"
        if not place.is_file():
            names = tensors(model)
            try:
                feeds = (self._core_feed(feed) for feed in self._calibration())
                found = collect_histograms(model, names, feeds, num_threads=self._num_threads)
            except ExportError:
                raise
            except Exception as exc:
                reason = (str(exc).strip() or type(exc).__name__).splitlines()[0]
                raise ExportError(f"the core cannot be calibrated ({reason})") from exc
            arrays: dict[str, Any] = {"names": np.array(names, dtype=str)}
            for number, row in enumerate(found.values()):
                arrays[f"counts_{number}"], arrays[f"extent_{number}"] = row.to_arrays()
            with _whole(place) as target:
                np.savez(target, **arrays)
        with np.load(place, allow_pickle=False) as stored:
            return {
                tensor: Histogram.from_arrays(
                    stored[f"counts_{number}"], stored[f"extent_{number}"]
                )
                for number, tensor in enumerate(stored["names"].tolist())
            }


@contextlib.contextmanager
def _whole(place: Path) -> Iterator[Path]:
    """Yield a path beside a place; what was written there takes the place, whole or not at all."""
    beside = place.with_name(f"unfinished-{place.name}")
    yield beside
    beside.replace(place)
