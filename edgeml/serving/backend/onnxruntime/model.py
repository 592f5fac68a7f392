"""ONNX Runtime on the CPU as a python-based Triton backend, in Triton's own interpreter.

Triton uses this file only where ``libtriton_onnxruntime.so`` is absent, so one ``config.pbtxt`` is
served by either. It refuses what it cannot do right: a GPU instance, a file whose hash is not the
published one, a graph that is not the declared one, and an interpreter whose tensors arrive with
wrong values.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import edgeml_stub

edgeml_stub.add_packages()

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


def open_session(args: dict[str, str], config: dict[str, Any]) -> onnxruntime.InferenceSession:
    """Open the file that the configuration names, after comparing its hash with the contract's."""
    kind = args["model_instance_kind"]
    if kind != "CPU":
        raise pb_utils.TritonModelException(
            f"this instance was placed on {kind}; this server's ONNX Runtime has only the CPU; "
            "start it with --model-config-name=cpu, or use a server with the GPU backend"
        )
    file = config.get("default_model_filename") or "model.onnx"
    path = Path(args["model_repository"]) / args["model_version"] / file
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise pb_utils.TritonModelException(
            f"the artefact '{path}' cannot be read ({exc}); publish the bundle again"
        ) from exc
    check_hash(config, file, data)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(edgeml_stub.parameter(config, "intra_op_thread_count") or 1)
    options.inter_op_num_threads = int(edgeml_stub.parameter(config, "inter_op_thread_count") or 1)
    options.graph_optimization_level = _level(config)
    # A thread that spins takes its core from the server and from the other models.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as exc:
        raise pb_utils.TritonModelException(
            f"ONNX Runtime {onnxruntime.__version__} cannot open '{path}' ({exc}); publish again"
        ) from exc


def check_hash(config: dict[str, Any], file: str, data: bytes) -> None:
    """Refuse a file that is not the published one; without a contract there is none to compare."""
    text = edgeml_stub.parameter(config, "edgeml_contract")
    if not text:
        pb_utils.Logger.log_warn(f"{config['name']}: no contract, '{file}' is served unchecked")
        return
    rows = json.loads(text)["variants"].values()
    expected = next((row["sha256"] for row in rows if row["file"] == file), None)
    got = hashlib.sha256(data).hexdigest()
    if got != expected:
        published = f"sha256 {expected[:12]}" if expected else "no such file"
        raise pb_utils.TritonModelException(
            f"'{file}' has the sha256 {got[:12]}; the contract has {published}; the file is "
            "damaged or foreign: publish the bundle again"
        )


def check_declared(session: onnxruntime.InferenceSession, config: dict[str, Any]) -> None:
    """Refuse a graph whose inputs or outputs are not the declared ones."""
    pairs = (("input", session.get_inputs()), ("output", session.get_outputs()))
    for side, tensors in pairs:
        declared = {row["name"] for row in config[side]}
        found = {tensor.name for tensor in tensors}
        if (side == "input" and declared != found) or not declared <= found:
            raise pb_utils.TritonModelException(
                f"the graph has the {side}s {sorted(found)}; the configuration declares "
                f"{sorted(declared)}; publish the bundle again"
            )


class TritonPythonModel:
    """One instance of a model; Triton calls its methods from one thread."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the session, or say why not."""
        config = json.loads(args["model_config"])
        edgeml_stub.check_interpreter()
        self._session = open_session(args, config)
        check_declared(self._session, config)
        self._batched = int(config.get("max_batch_size", 0)) > 0
        self._outputs = [row["name"] for row in config["output"]]
        self._warm_up(config)
        artefact = config.get("default_model_filename") or "model.onnx"
        threads = self._session.get_session_options().intra_op_num_threads
        pb_utils.Logger.log_info(
            f"{config['name']} version {args['model_version']}: {artefact} on CPU, {threads} "
            f"thread(s), ONNX Runtime {onnxruntime.__version__}, NumPy {np.__version__}"
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request in its order; those of the same shape run together."""
        responses: list[Any] = [None] * len(requests)
        groups: dict[Any, list[tuple[int, dict[str, Any]]]] = {}
        for index, request in enumerate(requests):
            try:
                feed = _read(request)
            except ValueError as exc:
                responses[index] = edgeml_stub.refusal(exc)
                continue
            key = tuple((name, array.dtype, array.shape[1:]) for name, array in feed.items())
            groups.setdefault(key if self._batched else index, []).append((index, feed))
        for group in groups.values():
            for (index, _), response in zip(group, self._answer(group), strict=True):
                responses[index] = response
        return responses

    def _answer(self, group: list[tuple[int, dict[str, Any]]]) -> list[Any]:
        feeds = [feed for _, feed in group]
        if len(feeds) == 1:
            return [self._run_alone(feeds[0])]
        sizes = [len(next(iter(feed.values()))) for feed in feeds]
        joined = {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}
        try:
            outputs = self._session.run(self._outputs, joined)
        except Exception:
            return [self._run_alone(feed) for feed in feeds]
        if any(len(output) != sum(sizes) for output in outputs):
            return [self._run_alone(feed) for feed in feeds]
        ends = np.cumsum(sizes).tolist()
        return [
            self._respond([output[end - size : end] for output in outputs])
            for end, size in zip(ends, sizes, strict=True)
        ]

    def _run_alone(self, feed: dict[str, Any]) -> Any:
        try:
            return self._respond(self._session.run(self._outputs, feed))
        except Exception as exc:
            return edgeml_stub.refusal(exc)

    def _respond(self, arrays: list[Any]) -> Any:
        pairs = zip(self._outputs, arrays, strict=True)
        tensors = [pb_utils.Tensor(name, array) for name, array in pairs]
        return pb_utils.InferenceResponse(output_tensors=tensors)

    def _warm_up(self, config: dict[str, Any]) -> None:
        """Run once on zeros where every shape is fixed: the first run of a session is slow."""
        feed = {}
        for row in config["input"]:
            dims = [] if "reshape" in row and not row["reshape"].get("shape") else row["dims"]
            shape = [int(dim) for dim in dims]
            if min(shape, default=1) < 0:
                return
            dtype = pb_utils.triton_string_to_numpy(row["data_type"])
            feed[row["name"]] = np.zeros([1, *shape] if self._batched else shape, dtype=dtype)
        try:
            self._session.run(self._outputs, feed)
        except Exception as exc:
            pb_utils.Logger.log_warn(f"{config['name']}: the warm-up on zeros failed: {exc}")


def _read(request: Any) -> dict[str, Any]:
    """Copy a request's tensors out of shared memory, which Triton uses again, and refuse NaN."""
    feed = {}
    for tensor in request.inputs():
        array = tensor.as_numpy().copy()
        if array.dtype.kind == "f" and array.size and np.isnan(array.min()):
            raise ValueError(f"tensor '{tensor.name()}' holds NaN; finite numbers were expected")
        feed[tensor.name()] = array
    return feed


def _level(config: dict[str, Any]) -> Any:
    """Translate ``optimization.graph.level`` as the C++ backend does: unset means everything."""
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    levels = onnxruntime.GraphOptimizationLevel
    return {
        -1: levels.ORT_ENABLE_BASIC,
        1: levels.ORT_ENABLE_EXTENDED,
        2: levels.ORT_DISABLE_ALL,
    }.get(level, levels.ORT_ENABLE_ALL)
