"""What a server says of its models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeml.errors import InputError
from edgeml.serving.repository.candidates import is_candidate_name
from edgeml.serving.repository.config import describe
from edgeml.serving.repository.selecting import SkippedModel
from edgeml.serving.server.http import get_json


@dataclass(frozen=True, kw_only=True)
class ModelStatus:
    """One line of a server's status.

    Attributes:
        name: The model.
        version: Version in the repository; empty where none is served.
        state: ``ready``, ``unavailable``, ``loading`` or ``skipped``.
        device: ``cpu`` or ``gpu``; empty where it is not served, and for an ensemble.
        kind: What the server resolved the placement to, ``KIND_CPU`` or ``KIND_GPU``; as before.
        artefact: File that it serves; empty where it is not served.
        reason: Why it is not served; empty where it is.
    """

    name: str
    version: str
    state: str
    device: str = ""
    kind: str = ""
    artefact: str = ""
    reason: str = ""


def status_of(http_url: str, *, skipped: Sequence[SkippedModel] = ()) -> list[ModelStatus]:
    """Return the state of every model that a server knows, by name.

    Args:
        http_url: URL of its HTTP endpoint.
        skipped: Models that were kept from it, with reasons.

    Raises:
        ServerError: The server is not there or answers with an error.
    """
    rows = [
        ModelStatus(name=model.name, version="", state="skipped", reason=model.reason)
        for model in skipped
    ]
    known = {row.name for row in rows}
    for row in get_json(f"{http_url}/v2/repository/index", method="POST"):
        if "state" in row:
            rows.append(_status(http_url, row))
        elif row["name"] not in known:
            reason = "not loaded"
            if is_candidate_name(row["name"]):
                reason += "; it looks like a candidate that an interrupted publish left"
            rows.append(ModelStatus(name=row["name"], version="", state="skipped", reason=reason))
    return sorted(rows, key=lambda row: (row.name, row.version))


def _status(http_url: str, row: dict[str, Any]) -> ModelStatus:
    state = str(row["state"]).lower()
    version = str(row.get("version", ""))
    if state != "ready":
        reason = _plain(str(row.get("reason", "")))
        return ModelStatus(name=row["name"], version=version, state=state, reason=reason)
    try:
        served = describe(get_json(f"{http_url}/v2/models/{row['name']}/config"))
    except InputError as exc:
        return ModelStatus(name=row["name"], version=version, state=state, reason=str(exc))
    return ModelStatus(
        name=row["name"],
        version=version,
        state=state,
        device=served.device,
        kind=served.kind if served.device else "",
        artefact=served.artefact,
    )


def _plain(reason: str) -> str:
    """Return Triton's reason without the names of its exceptions and the lines of the backend."""
    text = " ".join(reason.split()).partition(" At: ")[0]
    return text.removeprefix("Internal: ").removeprefix("TritonModelException: ")
