"""Where a field stands in the text of a configuration: protobuf's parser does not keep it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""(?P<space>\s+) | (?P<comment>\#[^\n]*)
      | (?P<text>"(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*')
      | (?P<word>[\w.+-]+) | (?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)
_OPEN, _CLOSE = "{<", "}>"

Step = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of the text.

    Attributes:
        path: Names from the outside in, each with its number among its like, from 0.
        line: Its line, from 1.
        value: Its value as written, without quotes; None for a message.
    """

    path: tuple[Step, ...]
    line: int
    value: str | None


class Fields:
    """The fields of one text, in their order.

    Args:
        text: Protobuf text that parses; of any other text as much as can be made out.
    """

    def __init__(self, text: str) -> None:
        self._fields = tuple(_scan(text))

    def line(self, *path: str | int) -> int | None:
        """Return the line of a field, or None where the text has no such field.

        Args:
            path: Names from the outside in; a number behind a name says which of its like,
                otherwise the first.
        """
        wanted = _steps(path)
        return next((row.line for row in self._fields if row.path == wanted), None)

    def line_of_key(self, name: str, key: str, *inside: str | int) -> int | None:
        """Return the line of an entry of a map, or None.

        Args:
            name: The map's name.
            key: The entry's key.
            inside: Path of the message that holds the map.
        """
        outer = _steps(inside)
        for row in self._fields:
            if len(row.path) == len(outer) + 2 and row.path[: len(outer)] == outer:
                (found, _), (field, _) = row.path[-2:]
                if found == name and field == "key" and row.value == key:
                    return row.line
        return None


def _steps(path: tuple[str | int, ...]) -> tuple[Step, ...]:
    steps: list[Step] = []
    for part in path:
        if isinstance(part, str):
            steps.append((part, 0))
        else:
            steps[-1] = (steps[-1][0], part)
    return tuple(steps)


def _scan(text: str) -> Iterator[Field]:
    """Yield every field; a list in brackets counts as one field for each of its messages."""
    path: list[Step] = []
    counts: list[dict[str, int]] = [{}]
    name, is_value = "", False
    for token, is_mark, line in _tokens(text):
        if is_mark and token in _OPEN and name:
            step = (name, _count(counts[-1], name))
            path.append(step)
            counts.append({})
            yield Field(path=tuple(path), line=line, value=None)
            name, is_value = "", False
        elif is_mark and token in _CLOSE and path:
            # Inside a list the next message belongs to the same name.
            name, is_value = path.pop()[0], False
            counts.pop()
        elif is_mark:
            is_value = token in ":[" or (is_value and token != "]")
        elif is_value and name:
            step = (name, _count(counts[-1], name))
            yield Field(path=(*path, step), line=line, value=token)
            is_value = False
        else:
            name = token


def _count(counts: dict[str, int], name: str) -> int:
    number = counts.get(name, 0)
    counts[name] = number + 1
    return number


def _tokens(text: str) -> Iterator[tuple[str, bool, int]]:
    """Yield tokens that mean something: the text, whether it is a mark, and the line."""
    line = 1
    for match in _TOKEN.finditer(text):
        token = match.group()
        if match.lastgroup == "text":
            yield token[1:-1], False, line
        elif match.lastgroup in ("word", "mark"):
            yield token, match.lastgroup == "mark", line
        line += token.count("\n")
