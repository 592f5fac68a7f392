"""``edgeml.connect`` and a Triton server to connect to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeml.core.bundle import Bundle
from edgeml.errors import InputError, IntegrityError
from edgeml.tasks.predictor import Task, TaskPredictor
from edgeml.tasks.text import TOKENIZER

if TYPE_CHECKING:
    from edgeml.serving.client.async_predictor import AsyncPredictor
    from edgeml.serving.client.engine import TritonEngine
    from edgeml.serving.guard.checks import GuardLimits
    from edgeml.serving.server.serve import TritonServer


def connect(
    url: str,
    *,
    model: str,
    bundle: str | Path | Bundle | None = None,
    timeout_s: float = 10.0,
    token: str | None = None,
    root_certificates: str | Path | None = None,
    client_certificate: tuple[str | Path, str | Path] | None = None,
    shared_memory: bool = False,
) -> TaskPredictor:
    """Connect to a model on a Triton server: the same predictor as :func:`edgeml.load` gives.

    Pre- and post-processing come from the contract that the server carries, so that server and
    client cannot disagree. A text model has two names: ``NAME`` takes token ids, and the tokenizer
    comes from ``bundle``; ``NAME_text`` takes strings and needs neither bundle nor tokenizer here.
    An image model published with ``encoded`` has ``NAME_encoded`` besides, which takes files.

    Args:
        url: ``grpc://host:port``, or ``http://host:port`` with the binary extension; ``grpcs`` and
            ``https`` for TLS.
        model: The model's name on the server.
        bundle: The bundle that was published: its golden examples are then replayed through the
            server before the predictor is given out.
        timeout_s: Time allowed for each call; :func:`edgeml.deadline` shortens it.
        token: Sent with each request as a bearer token; only over TLS, or on this machine.
        root_certificates: PEM file of whoever signed the server's certificate; None trusts whom the
            system trusts.
        client_certificate: PEM files of our own certificate and of its key, for a server that asks
            who is there (mutual TLS).
        shared_memory: Whether inputs go through this machine's shared memory; the server must be at
            its loopback address.

    Raises:
        InputError: The URL is none of these, the token would be sent in the clear, a text model
            needs a bundle for its tokenizer, the bundle has another tokenizer than the server's, or
            shared memory is asked for with another machine.
        HostError: The shared memory is full.
        ServerUnreachableError: No server answers there.
        ServerTimeoutError: It did not answer in time.
        ModelNotReadyError: The server does not serve this model.
        IntegrityError: The server's answers to the golden examples are not the bundle's.
        MissingExtraError: The extra [triton] is not installed.
    """
    from edgeml.serving.client.engine import TritonEngine
    from edgeml.serving.repository.contract import identity_in

    opened = bundle if bundle is None or isinstance(bundle, Bundle) else Bundle.read(bundle)
    engine = TritonEngine(
        url,
        model=model,
        timeout_s=timeout_s,
        token=token,
        root_certificates=root_certificates,
        client_certificate=client_certificate,
        shared_memory=shared_memory,
    )
    task = _checked_task(engine, opened, model)
    return TaskPredictor(task, engine, identity=identity_in(engine.contract, bundle=opened))


async def connect_async(
    url: str,
    *,
    model: str,
    bundle: str | Path | Bundle | None = None,
    timeout_s: float = 10.0,
    token: str | None = None,
    root_certificates: str | Path | None = None,
    client_certificate: tuple[str | Path, str | Path] | None = None,
) -> AsyncPredictor:
    """Connect to a model on a Triton server from an event loop.

    The predictor has the methods of the one that :func:`edgeml.connect` gives, as coroutines; items
    are prepared in threads, so that the loop is not held.

    Args:
        url: ``grpc://host:port``, or ``grpcs`` for TLS.
        model: The model's name on the server.
        bundle: As for :func:`edgeml.connect`, like what follows.
        timeout_s: Time allowed for each call; :func:`edgeml.deadline` shortens it.
        token: Sent with each request as a bearer token; only over TLS, or on this machine.
        root_certificates: PEM file of whoever signed the server's certificate; None trusts whom the
            system trusts.
        client_certificate: PEM files of our own certificate and of its key, for a server that asks
            who is there (mutual TLS).

    Raises:
        InputError: The URL is not one of gRPC, or what :func:`edgeml.connect` refuses.
        ServerUnreachableError: No server answers there.
        ServerTimeoutError: It did not answer in time.
        ModelNotReadyError: The server does not serve this model.
        IntegrityError: The server's answers to the golden examples are not the bundle's.
        MissingExtraError: The extra [triton] is not installed.
    """
    import asyncio

    from edgeml.serving.client.async_engine import AsyncTritonEngine, check_async_scheme
    from edgeml.serving.client.async_predictor import AsyncPredictor
    from edgeml.serving.client.engine import TritonEngine

    check_async_scheme(url)

    def opening() -> tuple[Task, TritonEngine]:
        opened = bundle if bundle is None or isinstance(bundle, Bundle) else Bundle.read(bundle)
        engine = TritonEngine(
            url,
            model=model,
            timeout_s=timeout_s,
            token=token,
            root_certificates=root_certificates,
            client_certificate=client_certificate,
        )
        return _checked_task(engine, opened, model), engine

    task, engine = await asyncio.to_thread(opening)
    return AsyncPredictor(task, AsyncTritonEngine(engine))


def _checked_task(engine: TritonEngine, bundle: Bundle | None, model: str) -> Task:
    """Return what prepares for a server's model, once the server has answered as the bundle does.

    An engine that cannot be used is closed.
    """
    from edgeml.serving.client.golden import check_golden

    try:
        task = _task_behind(engine, bundle, model)
        if bundle is not None:
            check = check_golden(engine, bundle)
            if not check.ok:
                reason = f"{check.name}: {check.detail}; publish the bundle again"
                raise IntegrityError(path=str(bundle.path), reason=reason)
    except BaseException:
        engine.close()
        raise
    return task


def _task_behind(engine: TritonEngine, bundle: Bundle | None, model: str) -> Task:
    """Return what prepares for a server's model; token ids need the tokenizer of its bundle."""
    from edgeml.serving.client.image_task import ServedImageTask
    from edgeml.serving.client.text_task import ServedTextTask
    from edgeml.serving.repository.contract import labels_of, task_of

    contract = engine.contract
    if engine.takes_files:
        return ServedImageTask(labels_of(contract))
    if contract["task"] != "text-classification":
        return task_of(contract)
    wanted = contract["preprocessing"].get("tokenizer_sha256", "")
    if bundle is not None:
        found = str(bundle.manifest.preprocessing.get("tokenizer_sha256", ""))
        if found != wanted:
            raise InputError(
                f"the tokenizer of '{bundle.path}' has the sha256 '{found[:12]}'; the server's "
                f"model '{model}' has '{wanted[:12]}'; use the bundle that was published"
            )
    if engine.takes_text:
        return ServedTextTask(labels_of(contract))
    if bundle is None:
        raise InputError(
            f"the model '{model}' takes token ids, and its tokenizer is in its bundle; give "
            f"bundle=..., or use model='{model}_text', which takes strings"
        )
    return task_of(contract, tokenizer=lambda: bundle.open_file(TOKENIZER))


def serve_triton(
    repository: str | Path,
    *,
    models: list[str] | None = None,
    http_port: int = 0,
    grpc_port: int = 0,
    metrics_port: int = 0,
    timeout_s: float = 60.0,
    drain_s: float = 10.0,
    supervised: bool = True,
    guard: GuardLimits | None = None,
    require_gpu: bool = False,
) -> TritonServer:
    """Start a real Triton server on a repository, on loopback; a context manager that stops it.

    Args:
        repository: The model repository.
        models: Models to load; None loads every one that is built, and names the others.
        http_port: 0 picks a free port, as for the next two.
        grpc_port: Port for gRPC.
        metrics_port: Port for metrics.
        timeout_s: Time allowed until every model has been tried.
        drain_s: Time that running requests are given once it is stopped.
        supervised: Whether a crashed server is started again, and a dead model loaded again. Each
            model without traffic then gets a golden request a second.
        guard: What a proxy before the HTTP port refuses; None has no such proxy.
        require_gpu: Whether to refuse a start in which a model falls back to the CPU.

    Raises:
        HostError: No Triton is installed, a port is in use, shared memory is full, or a GPU was
            required and a model is not on it.
        InputError: The repository or a model is not there, or a number is out of range.
        ServerError: The server ended, or did not become ready in time.
        MissingExtraError: The extra [triton] is not installed.
    """
    from edgeml.serving.server.serve import start_triton

    return start_triton(
        repository,
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        models=models,
        timeout_s=timeout_s,
        drain_s=drain_s,
        supervised=supervised,
        guard=guard,
        require_gpu=require_gpu,
    )
