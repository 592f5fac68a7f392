"""Open a recommendation bundle on this machine: parts, index, ranker. Imports no torch."""

from __future__ import annotations

from edgeml.core.bundle import Bundle
from edgeml.core.manifest import Variant
from edgeml.errors import BundleError, EdgemlError, InputError
from edgeml.recommending.pipeline import Pipeline
from edgeml.recommending.ranking.ranker import Ranker
from edgeml.recommending.recommender import Recommender
from edgeml.runtime.engine import SessionSettings
from edgeml.runtime.opening import open_runtime
from edgeml.workflows.loading import default_setup
from edgeml.workflows.recommendation_files import FILES, FOLDER, Parts, open_retriever, read_parts

TASK = "recommendation"


def open_recommender(
    bundle: Bundle, *, variant: str | None = None, num_threads: int = 1
) -> Recommender:
    """Open a recommender; see :func:`edgeml.load_recommender`.

    Raises:
        BundleError: The bundle is of another task, or its parts cannot be read.
        IntegrityError: A file has changed, or a part is of another version.
        InputError: There is no such variant.
    """
    if bundle.manifest.task != TASK:
        reason = f"its task is '{bundle.manifest.task}'; '{TASK}' was expected; use edgeml.load"
        raise BundleError(path=str(bundle.path), reason=reason)
    parts, version = read_parts(bundle.checked_path, path=str(bundle.path))
    for name in FILES:
        bundle.checked_path(name)
    retriever = open_retriever(parts, bundle.path / FOLDER / "index", version=version)
    row = bundle.variant(default_setup(bundle, variant, num_threads=num_threads).variant)
    ranker = open_ranker(bundle, row, parts, num_threads=num_threads)
    pipeline: Pipeline = parts.pipeline(retriever, ranker)
    return Recommender(pipeline, parts.catalogue(), served_by=ranker.served_by, close=ranker.close)


def open_ranker(bundle: Bundle, row: Variant, parts: Parts, *, num_threads: int) -> Ranker:
    """Open one variant of the ranker.

    Raises:
        BundleError: The engine cannot run the file, or the ranker was made for other features.
    """
    fields = parts.features.fields
    if fields.signature != bundle.manifest.signature:
        reason = "its ranker and its encoders do not belong together; export it again"
        raise BundleError(path=str(bundle.path), reason=reason)
    try:
        engine = open_runtime(
            bundle.checked_path(row.file),
            engine=row.engine,
            settings=SessionSettings(num_threads=num_threads),
            served_by=f"{row.engine}/cpu/{row.name}/{bundle.manifest.version}",
            options=row.engine_options,
        )
    except InputError as exc:
        raise BundleError(path=str(bundle.path), reason=str(exc)) from exc
    try:
        return Ranker(engine, fields)
    except EdgemlError:
        engine.close()
        raise
