"""ONNX Runtime on the CPU as a python-based Triton backend, in Triton's own interpreter.

Triton uses this file only where ``libtriton_onnxruntime.so`` is absent, so one ``config.pbtxt`` is
served by either. It refuses what it cannot do right: a GPU instance, a file whose hash is not the
published one, a graph that is not the declared one, and an interpreter whose tensors arrive with
wrong values. What NVIDIA's backend refuses it refuses too: see ``edgeml_declared``.
"""

from __future__ import annotations

import gc
import json
import time
from typing import Any

import edgeml_stub

edgeml_stub.add_packages()

import edgeml_session
import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

_clock = time.perf_counter_ns


class TritonPythonModel:
    """One instance of a model; Triton calls its methods from one thread."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the session, or say why not."""
        config = json.loads(args["model_config"])
        edgeml_stub.look_types_up()
        edgeml_stub.check_interpreter()
        self._session = edgeml_session.open_session(args, config)
        self._options = edgeml_session.run_options(config)
        self._name = config["name"]
        self._batched = int(config.get("max_batch_size", 0)) > 0
        self._outputs = [row["name"] for row in config["output"]]
        self._warm_up(config)
        self._answered = self._ran = self._own_ns = self._run_ns = 0
        gc.freeze()  # what is here stays: a collection need not walk through it again and again
        artefact = config.get("default_model_filename") or "model.onnx"
        threads = self._session.get_session_options().intra_op_num_threads
        pb_utils.Logger.log_info(
            f"{self._name} version {args['model_version']}: {artefact} on CPU, {threads} "
            f"thread(s), ONNX Runtime {onnxruntime.__version__}, NumPy {np.__version__}"
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request in its order; those of the same shape run together."""
        started, run_before = _clock(), self._run_ns
        responses = self._answer_all(requests)
        self._answered += len(requests)
        self._own_ns += _clock() - started - (self._run_ns - run_before)
        return responses

    def _answer_all(self, requests: list[Any]) -> list[Any]:
        responses: list[Any] = [None] * len(requests)
        groups: dict[Any, list[tuple[int, dict[str, Any]]]] = {}
        for index, request in enumerate(requests):
            try:
                feed = _read(request, batched=self._batched)
            except ValueError as exc:
                responses[index] = edgeml_stub.refusal(exc)
                continue
            key: Any = index
            if self._batched and len(requests) > 1:
                key = tuple((name, array.dtype, array.shape[1:]) for name, array in feed.items())
            groups.setdefault(key, []).append((index, feed))
        for group in groups.values():
            for (index, _), response in zip(group, self._answer(group), strict=True):
                responses[index] = response
        return responses

    def finalize(self) -> None:
        """Say what the answers cost, in ONNX Runtime and beside it."""
        if self._answered:
            pb_utils.Logger.log_info(
                f"{self._name}: {self._answered} request(s) in {self._ran} run(s), "
                f"{self._run_ns / 1e3:.0f} us in ONNX Runtime and {self._own_ns / 1e3:.0f} us "
                "beside it"
            )

    def _answer(self, group: list[tuple[int, dict[str, Any]]]) -> list[Any]:
        feeds = [feed for _, feed in group]
        if len(feeds) == 1:
            return [self._run_alone(feeds[0])]
        sizes = [len(next(iter(feed.values()))) for feed in feeds]
        joined = {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}
        try:
            outputs = self._run(joined)
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
            return self._respond(self._run(feed))
        except Exception as exc:
            return edgeml_stub.refusal(exc)

    def _run(self, feed: dict[str, Any]) -> list[Any]:
        started = _clock()
        try:
            outputs: list[Any] = self._session.run(self._outputs, feed, self._options)
        finally:
            self._ran += 1
            self._run_ns += _clock() - started
        return outputs

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
            if min(shape, default=1) < 0 or row["data_type"] == "TYPE_STRING":
                return
            dtype = pb_utils.triton_string_to_numpy(row["data_type"])
            feed[row["name"]] = np.zeros([1, *shape] if self._batched else shape, dtype=dtype)
        try:
            self._session.run(self._outputs, feed)
        except Exception as exc:
            pb_utils.Logger.log_warn(f"{config['name']}: the warm-up on zeros failed: {exc}")


def _read(request: Any, *, batched: bool) -> dict[str, Any]:
    """Return a request's tensors, in Triton's shared memory: they live until it is answered.

    Raises:
        ValueError: One of them holds what no answer can come of.
    """
    feed = {}
    for tensor in request.inputs():
        name, array = tensor.name(), tensor.as_numpy()
        kind = array.dtype.kind
        if kind == "O":
            array = _texts(name, array)
        elif kind == "f" and array.size and np.isnan(array.min()):
            raise ValueError(f"tensor '{name}' holds NaN; finite numbers were expected")
        # NVIDIA's backend sends no answer at all to such a request.
        if batched and not len(array):
            raise ValueError(f"tensor '{name}' has a batch of 0; at least 1 was expected")
        # Of a text without a token comes NaN, with status OK.
        if batched and not array.size:
            raise ValueError(f"tensor '{name}' is empty; at least one element was expected")
        feed[name] = array
    return feed


def _texts(name: str, array: Any) -> Any:
    """Return strings as ONNX Runtime takes them.

    Raises:
        ValueError: One is no UTF-8, or holds the zero byte at which NVIDIA's backend cuts it.
    """
    texts = np.empty(array.shape, dtype=np.object_)
    try:
        texts.flat = [value.decode() for value in array.flat]
    except UnicodeDecodeError as exc:
        raise ValueError(f"tensor '{name}' holds bytes that are no UTF-8 ({exc.reason})") from exc
    if any("\0" in text for text in texts.flat):
        raise ValueError(f"tensor '{name}' holds a zero byte within a string; none was expected")
    return texts
