"""The processes in which Triton runs Python models, by the model that each is for."""

from __future__ import annotations

from pathlib import Path

from edgeml.serving.host.processes import ProcessMark, processes_naming, words_of

_PROGRAM = "triton_python_backend_stub"


def stubs_of(token: str) -> dict[str, list[ProcessMark]]:
    """Return the stubs of one server, by model; a model has one for each of its instances.

    A stub's first argument is the file of its model: ``MODEL/VERSION/FILE``.

    Args:
        token: Prefix of the server's shared memory, which the stubs' command lines hold.
    """
    found: dict[str, list[ProcessMark]] = {}
    for mark in processes_naming(token):
        words = words_of(mark)
        if len(words) > 1 and Path(words[0]).name == _PROGRAM:
            found.setdefault(Path(words[1]).parts[-3], []).append(mark)
    return found
