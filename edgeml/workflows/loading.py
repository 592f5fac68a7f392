"""Open a bundle on this machine: manifest, hash, host, engine, task."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from edgeml._optional import require
from edgeml.core.batching import takes_one
from edgeml.core.bundle import Bundle
from edgeml.core.identity import ModelIdentity
from edgeml.core.manifest import Variant
from edgeml.core.predictor import Engine
from edgeml.errors import (
    BundleError,
    EdgemlError,
    HostMismatchWarning,
    InputError,
    MissingExtraError,
)
from edgeml.runtime.engine import SessionSettings
from edgeml.runtime.host import check_threads, detect_host
from edgeml.runtime.host_profile import Setup, find_profile
from edgeml.runtime.one_by_one import OneByOne
from edgeml.runtime.opening import ENGINES, installed_engines, open_runtime
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.image import ImageTask
from edgeml.tasks.opening import open_task
from edgeml.tasks.predictor import Task, TaskPredictor
from edgeml.tasks.text import TOKENIZER
from edgeml.workflows.training_options import RECOMMENDATION_TASK

if TYPE_CHECKING:
    from edgeml.recommending.recommender import Recommender

Verify = Literal["hash", "golden"]

# Instruction sets on which 8-bit products are summed without saturating, hence give the same
# numbers.
_EXACT = frozenset({"amx_int8", "avx512_vnni", "avx_vnni"})
_ACCEPTED = ("chosen", "passed", "reference")


def load(
    bundle: str | Path | Bundle,
    *,
    variant: str | None = None,
    num_threads: int | None = None,
    verify: Verify = "hash",
) -> TaskPredictor:
    """Load a bundle for prediction in this process.

    Args:
        bundle: The bundle's folder.
        variant: Name of a variant; None takes the one that the export chose, and for batches
            another where the manifest names one. Where no variant is safe in a batch, batches run
            sample by sample. If that one was tuned for an instruction set that this machine lacks,
            fp32 is taken instead and a :class:`~edgeml.errors.HostMismatchWarning` says so, as does
            ``served_by``; likewise the best of another engine where its engine is not installed.
            Where ``edgeml tune`` left a profile of this bundle on this machine, and neither
            ``variant`` nor ``num_threads`` is given, the profile decides.
        num_threads: Threads of one call; None takes what affinity and cgroup quota allow.
        verify: ``hash`` compares the hash of each file that is opened; ``golden`` also replays the
            golden examples.

    Returns:
        A predictor; use it as a context manager or close it. For a recommendation bundle a
        :class:`~edgeml.recommending.recommender.Recommender`, as of :func:`load_recommender`.

    Raises:
        BundleError: This is no readable bundle, or (as IntegrityError) a file is damaged.
        InputError: An argument is wrong.
        MissingExtraError: The engine of the variant asked for by name is not installed.

    Example:
        >>> import edgeml
        >>> edgeml.load("no-such.bundle")
        Traceback (most recent call last):
        edgeml.errors.BundleError: no-such.bundle: this is not a bundle: ...
    """
    if verify not in ("hash", "golden"):
        raise InputError(f"verify is {verify!r}; 'hash' or 'golden' was expected")
    threads = check_threads(num_threads)
    opened = bundle if isinstance(bundle, Bundle) else Bundle.read(bundle)
    if opened.manifest.task == RECOMMENDATION_TASK:
        # Another protocol: recommend() in the place of predict().
        return cast(
            TaskPredictor,
            load_recommender(opened, variant=variant, num_threads=num_threads, verify=verify),
        )
    tuned = _tuned(opened) if variant is None and num_threads is None else None
    setup = tuned or default_setup(opened, variant, num_threads=threads)
    threads, row = setup.threads, as_set_up(opened, setup)
    task = task_of(opened)
    engine = open_engine(
        opened, row, num_threads=threads, spinning=setup.spinning, arena=setup.arena
    )
    together = _for_batches(opened, row)
    batch_engine: Engine | None = None
    if together is None:
        batch_engine = OneByOne(engine)
    elif together.name != row.name:
        try:
            batch_engine = open_engine(opened, together, num_threads=threads)
        except EdgemlError:
            engine.close()
            raise
    predictor = TaskPredictor(
        task,
        engine,
        batch_engine=batch_engine,
        # Decoding a picture takes about as long as answering it; a text is prepared in no time.
        prepare_threads=threads if isinstance(task, ImageTask) else 1,
        open_thread_engine=_thread_engine(
            opened, together or row, batch_engine or engine, arena=setup.arena
        ),
        identity=ModelIdentity.of_bundle(opened),
    )
    if verify == "golden":
        from edgeml.workflows.verifying import require_golden

        try:
            require_golden(opened, row, engine, task)
            if batch_engine is not None and together is not None:
                require_golden(opened, together, batch_engine, task)
        except EdgemlError:
            predictor.close()
            raise
    return predictor


def _thread_engine(
    bundle: Bundle, row: Variant, shared: Engine, *, arena: bool
) -> Callable[[], Engine] | None:
    """Return what opens an engine of one thread for batches, where several threads may call it.

    Where it cannot be opened any more, as in a bundle that was replaced since, it gives the
    ``shared`` one, which answers the same and is slower, and warns. None for OpenVINO, whose
    callers take turns.
    """
    if row.engine != "onnxruntime":
        return None

    def opened() -> Engine:
        try:
            engine = open_engine(bundle, row, num_threads=1, arena=arena)
        except EdgemlError as exc:
            text = f"long streams are computed more slowly, as by batches: {exc}; load it again"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
            return shared
        return OneByOne(engine) if isinstance(shared, OneByOne) else engine

    return opened


def load_recommender(
    bundle: str | Path | Bundle,
    *,
    variant: str | None = None,
    num_threads: int | None = None,
    verify: Verify = "hash",
) -> Recommender:
    """Load a recommendation bundle in this process, without torch.

    :func:`load` returns the same for such a bundle; this one says so to a type checker.

    Args:
        bundle: The bundle's folder.
        variant: Name of a variant of the ranker; None takes the one that the export chose.
        num_threads: Threads of the ranker; None is one, which is best for one request.
        verify: ``hash`` compares the hash of each file; ``golden`` also replays the golden
            requests.

    Raises:
        BundleError: This is no recommendation bundle, or (as IntegrityError) a file is damaged or
            of another version.
        InputError: An argument is wrong.
        MissingExtraError: The extra [recommend] is not installed.
    """
    if verify not in ("hash", "golden"):
        raise InputError(f"verify is {verify!r}; 'hash' or 'golden' was expected")
    require("faiss", extra="recommend")
    from edgeml.workflows.recommendation_loading import open_recommender

    opened = bundle if isinstance(bundle, Bundle) else Bundle.read(bundle)
    threads = 1 if num_threads is None else check_threads(num_threads)
    recommender = open_recommender(opened, variant=variant, num_threads=threads)
    if verify == "golden":
        from edgeml.workflows.recommendation_verifying import require_golden

        try:
            require_golden(opened, recommender, opened.variant(variant).name)
        except EdgemlError:
            recommender.close()
            raise
    return recommender


def open_engine(
    bundle: Bundle,
    variant: Variant,
    *,
    num_threads: int,
    spinning: bool = False,
    arena: bool = True,
) -> Engine:
    """Open one variant of a bundle, with its own engine, after comparing its hash.

    A model that takes one sample at a time is given feeds of several sample by sample.

    Raises:
        BundleError: The engine cannot run the file, or is none that this edgeml knows.
        MissingExtraError: The engine is not installed.
    """
    manifest = bundle.manifest
    try:
        engine = open_runtime(
            bundle.checked_path(variant.file),
            engine=variant.engine,
            settings=SessionSettings(num_threads=num_threads, spinning=spinning, arena=arena),
            signature=manifest.signature,
            served_by=f"{variant.engine}/cpu/{variant.name}/{manifest.version}",
            options=variant.engine_options,
        )
    except InputError as exc:
        raise BundleError(path=str(bundle.path), reason=str(exc)) from exc
    return OneByOne(engine) if takes_one(manifest.signature) else engine


def task_of(bundle: Bundle) -> Task:
    """Return the task that a bundle's contract describes.

    Raises:
        BundleError: This version of edgeml does not run the bundle's task.
    """
    manifest = bundle.manifest
    labels = ClassLabels(names=manifest.labels, multi_label=manifest.multi_label)
    try:
        return open_task(
            manifest.task,
            manifest.preprocessing,
            labels,
            tokenizer=lambda: bundle.open_file(TOKENIZER),
            signature=manifest.signature,
        )
    except InputError as exc:
        raise BundleError(path=str(bundle.path), reason=str(exc)) from exc


def _for_batches(bundle: Bundle, row: Variant) -> Variant | None:
    """Return what answers batches beside a variant whose answers depend on their neighbours.

    None where nothing in the bundle may: each sample of a batch then runs alone.
    """
    if row.batch_safe:
        return row
    manifest = bundle.manifest
    together = bundle.variant(manifest.chosen_for_batches)
    if together.engine not in installed_engines():
        text = f"{_missing_engine(together)}; batches run another; {_engine_advice(together)}"
        warnings.warn(text, HostMismatchWarning, stacklevel=3)
    named = (manifest.variant(name) for name in (manifest.chosen_for_batches, "fp32"))
    accepted = (other for other in manifest.variants if other.verdict in _ACCEPTED)
    for other in (*named, *accepted):
        if (
            other is not None
            and other.batch_safe
            and other.engine in installed_engines()
            and _answers_alike_here(other)
        ):
            return other
    return None


def _answers_alike_here(row: Variant) -> bool:
    """Return whether a variant gives the numbers here that it gave where it was chosen."""
    mine = detect_host().instruction_set
    return row.tuned_for is None or row.tuned_for == mine or {row.tuned_for, mine} <= _EXACT


def default_setup(bundle: Bundle, name: str | None, *, num_threads: int) -> Setup:
    """Return what runs here without a profile, and warn where it is not what was chosen.

    Raises:
        InputError: There is no such variant.
        MissingExtraError: The engine of the variant asked for by name is not installed, or that of
            every variant which could stand in for the chosen one.
    """
    row = _for_this_host(bundle, _with_engine(bundle, name), named=name is not None)
    return Setup(variant=row.name, engine=row.engine, threads=num_threads)


def as_set_up(bundle: Bundle, setup: Setup) -> Variant:
    """Return a setup's variant with the engine that the setup gives it."""
    row = bundle.variant(setup.variant)
    if row.engine == setup.engine:
        return row
    return replace(row, engine=setup.engine, engine_options={})


def _tuned(bundle: Bundle) -> Setup | None:
    """Return what was tuned for this bundle on this machine, and warn of what was for another."""
    found = find_profile(bundle)
    if found is not None and found.problem:
        text = f"the profile '{found.place}' {found.problem}; it is not used; run 'edgeml tune'"
        warnings.warn(f"{text} again", HostMismatchWarning, stacklevel=3)
    return found.setup if found is not None else None


def _with_engine(bundle: Bundle, name: str | None) -> Variant:
    """Return the variant asked for, or the best one whose engine is installed."""
    row = bundle.variant(name)
    engines = installed_engines()
    # One of a later edgeml is named when it is opened.
    if row.engine in engines or (name is not None and row.engine not in ENGINES):
        return row
    manifest = bundle.manifest
    best = [manifest.chosen_by_engine[key] for key in engines if key in manifest.chosen_by_engine]
    others = [manifest.variant(other) for other in (*best, "fp32")]
    other = next((found for found in others if found and found.engine in engines), None)
    if name is not None or other is None:
        raise MissingExtraError(module=row.engine, extra=row.engine)
    text = f"{_missing_engine(row)}; '{other.name}' is used instead; {_engine_advice(row)}"
    warnings.warn(text, HostMismatchWarning, stacklevel=4)
    return other


def _missing_engine(row: Variant) -> str:
    return f"variant '{row.name}' runs on {row.engine}, which is not installed"


def _engine_advice(row: Variant) -> str:
    return f"run: pip install 'edgeml[{row.engine}]'" if row.engine in ENGINES else "update edgeml"


def _for_this_host(bundle: Bundle, row: Variant, *, named: bool) -> Variant:
    if _answers_alike_here(row):
        return row
    mine = detect_host().instruction_set
    text = f"variant '{row.name}' was tuned for {row.tuned_for} and this machine has {mine}"
    portable = bundle.manifest.variant("fp32")
    if not named and portable is not None:
        text += "; fp32 is used instead; export on this machine to choose again"
        row = portable
    else:
        text += "; its answers may differ here: run 'edgeml verify' before trusting it"
    warnings.warn(text, HostMismatchWarning, stacklevel=4)
    return row
