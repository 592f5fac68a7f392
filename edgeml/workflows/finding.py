"""``edgeml.find_data`` and ``edgeml.load_texts``: what data this machine has, and its texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from edgeml.errors import DataError


@dataclass(frozen=True, kw_only=True)
class FoundData:
    """Which of several data sets is here.

    Attributes:
        name: The first that could be opened.
        source: Where it came from.
        refused: Name to reason of those before it.
    """

    name: str
    source: Mapping[str, Any]
    refused: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Labelled texts.

    Attributes:
        items: The texts.
        targets: int64 ``(samples,)``; for multi-label data bool ``(samples, classes)``.
        labels: Class names in index order.
    """

    items: tuple[str, ...]
    targets: npt.NDArray[Any]
    labels: tuple[str, ...]


def find_data(*names: str) -> FoundData:
    """Return the first of several named text data sets that this machine can open.

    Args:
        names: In the order of preference, such as ``sst2``, ``product-reviews``.

    Raises:
        DataError: None can be opened; the message names each one's reason.
    """
    from edgeml.data.opening import open_text_data

    refused: dict[str, str] = {}
    for name in names:
        try:
            return FoundData(name=name, source=open_text_data(name).source, refused=refused)
        except DataError as exc:
            refused[name] = str(exc)
    raise DataError(source=", ".join(names), reason=" | ".join(refused.values()))


def load_texts(data: str | Path) -> Texts:
    """Return all texts of a data set: a named one, a table, or a folder of tables.

    Raises:
        DataError: It is missing or unfit.
    """
    from edgeml.data.opening import open_text_data

    opened = open_text_data(data)
    return Texts(items=tuple(opened.items), targets=opened.targets, labels=opened.labels)
