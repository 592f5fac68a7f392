"""One way in: a log by the name of a data set, or by a file and its schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from edgeml.data.interactions.kuairand import NAME as KUAIRAND
from edgeml.data.interactions.kuairand import load_kuairand
from edgeml.data.interactions.log import InteractionLog, read_log
from edgeml.data.interactions.movielens import NAME as MOVIELENS
from edgeml.data.interactions.movielens import load_movielens
from edgeml.data.interactions.schema import Schema, read_schema
from edgeml.errors import DataError

NAMED: Mapping[str, Callable[[], InteractionLog]] = {
    MOVIELENS: load_movielens,
    KUAIRAND: load_kuairand,
}


def open_log(data: str | Path, schema: str | Path | Schema | None = None) -> InteractionLog:
    """Open a log.

    Args:
        data: ``movielens-100k``, ``kuairand-pure``, or a Parquet, CSV or TSV file.
        schema: What the file's columns mean: ``schema.yaml``; not for named sets.

    Raises:
        DataError: There is no such set or file, the schema is missing or does not fit, or the rows
            are unfit.
    """
    if isinstance(data, str) and data in NAMED:
        if schema is not None:
            reason = "this named set has a schema of its own; leave --schema out"
            raise DataError(source=data, reason=reason)
        return NAMED[data]()
    path = Path(data)
    if not path.exists():
        known = ", ".join(NAMED)
        reason = f"neither a data set ({known}) nor a file has this name; check it"
        raise DataError(source=str(data), reason=reason)
    if schema is None:
        reason = (
            "a log of your own needs a schema that says which columns are user, item and time; "
            "give --schema schema.yaml; docs/guides/recommendation.md has an example"
        )
        raise DataError(source=str(path), reason=reason)
    known_schema = schema if isinstance(schema, Schema) else read_schema(schema)
    return read_log([path], known_schema, name=path.stem)
