"""Which names a class may have, wherever they come from: folders, tables, Parquet files."""

from __future__ import annotations

import unicodedata

# Beside printable characters: joiners, as in Persian and Hindi, and spaces of other widths.
_ALSO_PLAIN = frozenset({"Cf", "Zs"})


def is_plain(name: str) -> bool:
    r"""Return whether a name can be a label: one line without control characters, valid Unicode.

    >>> is_plain("\u0645\u06cc\u200c\u062e"), is_plain("a\nb")
    (True, False)
    """
    return all(char.isprintable() or unicodedata.category(char) in _ALSO_PLAIN for char in name)
