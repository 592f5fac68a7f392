"""``edgeml.publish`` and ``edgeml.rollback``."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgeml.core.bundle import Bundle, Check
from edgeml.core.progress import Progress, ProgressEvent, silent
from edgeml.errors import InputError
from edgeml.runtime.engine import SessionSettings
from edgeml.runtime.host import check_threads
from edgeml.runtime.opening import open_runtime
from edgeml.workflows.verifying import golden_check

if TYPE_CHECKING:
    from edgeml.serving.publishing.changing import Means
    from edgeml.serving.repository.options import ServingOptions
    from edgeml.serving.repository.publish import Published

Fallback = Literal["required", "allowed", "forbidden"]


def publish(
    bundle: str | Path | Bundle,
    *,
    repository: str | Path,
    name: str | None = None,
    fallback: Fallback = "allowed",
    config_only: bool = False,
    num_threads: int = 1,
    options: ServingOptions | None = None,
    server: str | None = None,
    keep: int | None = None,
    progress: Progress = silent,
) -> Published:
    """Put a bundle into a Triton model repository as the model's next version.

    The version is checked by the golden values before anything names it: in this process, and
    where a server is given as a candidate on it, and once more under its own name. Whatever fails,
    the old version keeps serving. What an earlier publish left that was killed is mended first.

    Args:
        bundle: The bundle's folder.
        repository: The repository; it is made if it is not there.
        name: The model's name; None takes the bundle's.
        fallback: ``required`` serves FP16 on a GPU or not at all, ``allowed`` serves on a GPU and
            falls back to the chosen CPU variant, ``forbidden`` always uses the CPU.
        config_only: Write the configuration and leave the artefacts out.
        num_threads: Threads on a CPU; the short form of options that say nothing else.
        options: How a server runs the model: threads, instances, batches, queue, accelerator.
        server: ``http://host:port`` or ``grpc://host:port`` of a server with explicit model control
            on this repository, such as ``edgeml triton serve``. None writes files alone: a server
            that runs serves the old version until it loads the model.
        keep: Versions to keep; None keeps all. The served one and the one that it replaced stay.
        progress: Told of each step.

    Returns:
        Model, version and path; for text also the names of the parts, ``NAME_text`` among them,
        which takes strings; ``server`` is None where files are all that was changed.

    Raises:
        BundleError: This is no readable bundle, or (as IntegrityError) a file is damaged.
        InputError: A name is not one that Triton can serve, is in use, or both threads and options
            are given.
        PublishError: The version is not good, or the server does not take it; all is as it was.
        HostError: Another publish of the model is under way, or the repository cannot be written.
        ServerUnreachableError: The server does not answer; nothing was written.
        MissingExtraError: The extra [triton] is not installed.
    """
    from edgeml.serving.publishing.changing import publish_version, recover
    from edgeml.serving.publishing.journal import locked
    from edgeml.serving.repository.options import ServingOptions
    from edgeml.serving.repository.publish import checked_plans, publish_bundle

    check_threads(num_threads)
    if options is not None and num_threads != 1:
        raise InputError("num_threads and options are both given; one was expected; use options")
    if config_only and (server is not None or keep is not None):
        raise InputError(
            "configurations alone are not served; a publish without server and keep was expected; "
            "leave config_only out, or those"
        )
    opened = bundle if isinstance(bundle, Bundle) else Bundle.read(bundle)
    options = options or ServingOptions(num_threads=num_threads)
    plans = checked_plans(opened, repository, name=name, policy=fallback, options=options)
    if config_only:
        root = Path(repository).absolute()
        with locked(root, plans[0].name):
            recovered = recover(root, plans[0].name, link=None, tell=lambda _: None)
            done = publish_bundle(
                opened, root, name=name, policy=fallback, config_only=True, options=options
            )
        return replace(done, recovered=recovered)
    means = _means("publish", server=server, keep=keep, progress=progress)
    return publish_version(opened, repository, plans, means)


def rollback(
    model: str,
    *,
    repository: str | Path,
    to: int | None = None,
    server: str | None = None,
    progress: Progress = silent,
) -> Published:
    """Serve an older version of a model again, with its configurations, labels and contract.

    The version's files are compared with the hashes that were noted when it was published, and its
    golden values are asked for as by :func:`publish`.

    Args:
        model: The model's name, not that of a part.
        repository: The repository.
        to: The version; None takes the one that the served version replaced.
        server: As for :func:`publish`.
        progress: Told of each step.

    Raises:
        InputError: There is no such model, no such version, or none that is older.
        IntegrityError: A file of that version is damaged on disk.
        PublishError: The version is not good, or the server does not take it; all is as it was.
        HostError: Another publish of the model is under way, or the repository cannot be written.
        ServerUnreachableError: The server does not answer; nothing was written.
        MissingExtraError: The extra [triton] is not installed.
    """
    from edgeml.serving.publishing.changing import roll_back

    means = _means("rollback", server=server, keep=None, progress=progress)
    return roll_back(model, repository, to=to, means=means)


def _means(stage: str, *, server: str | None, keep: int | None, progress: Progress) -> Means:
    from edgeml.serving.publishing.changing import Means

    done = 0

    def tell(step: str) -> None:
        nonlocal done
        done += 1
        progress(ProgressEvent(stage=stage, done=done, total=0, note=step))

    return Means(check=_check_files, server=server, keep=keep, tell=tell)


def _check_files(bundle: Bundle, folder: Path) -> Check:
    """Replay the golden tensors on the variant that a version's folder serves on a CPU.

    Of a version that a GPU alone serves, on the one that it serves there.
    """
    served = _served_variant(bundle, folder)
    variant = bundle.variant(served)
    engine = open_runtime(
        folder / f"{served}.onnx",
        engine=variant.engine,
        settings=SessionSettings(num_threads=1),
        signature=bundle.manifest.signature,
        served_by=f"{variant.engine}/cpu/{served}",
    )
    with contextlib.closing(engine):
        check = golden_check(bundle, variant, engine)
    return replace(check, name=f"{check.name} in this process")


def _served_variant(bundle: Bundle, folder: Path) -> str:
    from edgeml.serving.repository.contract import served_on_cpu

    named = served_on_cpu(bundle.manifest).name
    there = sorted(path.stem for path in folder.glob("*.onnx"))
    return named if named in there or not there else there[0]
