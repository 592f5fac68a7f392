"""Texts from a stream of lines: plain ones, or JSON objects. Read as it comes, never as a whole.

A line that cannot be read is an entry with its error, so that answers keep their places. Nothing is
replaced or guessed.
"""

from __future__ import annotations

import codecs
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from edgeml.data.text_columns import TEXT_COLUMNS
from edgeml.errors import InputError

# What a text of the most characters may need; a line with more is refused and not kept.
MAX_LINE_BYTES = 64 << 20

_NUMBER = (int, float)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One input.

    Attributes:
        item: What a task shall prepare, or why there is nothing to prepare.
        shown: How the input is told to the user; None where it is no text.
        keys: What the answer repeats of it, such as its ``id``.
    """

    item: Any
    shown: str | None
    keys: Mapping[str, Any] = field(default_factory=dict)


def plain_entries(file: BinaryIO) -> Iterator[Entry]:
    """Read a text a line; an empty line is an empty text.

    Args:
        file: UTF-8, with or without a byte order mark; it is read line by line.

    Yields:
        An entry a line.
    """
    for number, line in read_lines(file):
        yield _plain(number, line)


def text_entries(file: BinaryIO, *, column: str | None = None) -> Iterator[Entry]:
    """Read a text a line, or a JSON object a line where the first line that is not blank is one.

    Args:
        file: UTF-8, with or without a byte order mark; it is read line by line.
        column: The key of the text; None for ``text``. Naming one says that the lines are objects.

    Yields:
        An entry a line; between objects, blank lines are nothing.
    """
    lines = read_lines(file)
    blank = 0
    for number, line in lines:
        if line is not None and not line.strip():
            blank += 1
            continue
        if column is not None or (line or b"").lstrip().startswith(b"{"):
            for place, one in itertools.chain([(number, line)], lines):
                if one is None or one.strip():
                    yield _object_entry(place, one, column or TEXT_COLUMNS[0])
            return
        yield from (Entry(item="", shown="") for _ in range(blank))
        yield _plain(number, line)
        yield from itertools.starmap(_plain, lines)
        return
    if column is None:
        yield from (Entry(item="", shown="") for _ in range(blank))


def read_lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Read lines without their ends, none longer than a text may be.

    Args:
        file: The stream.

    Yields:
        The line's number and its bytes, or None where it is too long to be kept.
    """
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if line.endswith(b"\n"):
            yield number, line[:-2] if line.endswith(b"\r\n") else line[:-1]
        elif len(line) <= MAX_LINE_BYTES:
            yield number, line
        else:
            for rest in iter(lambda: file.readline(MAX_LINE_BYTES), b""):
                if rest.endswith(b"\n"):
                    break
            yield number, None


def decode_line(number: int, line: bytes | None) -> str:
    """Return a line's text.

    Raises:
        InputError: It is no UTF-8, or was too long to be kept.
    """
    if line is None:
        raise InputError(
            f"line {number} has more than {MAX_LINE_BYTES} bytes; a text a line was expected; "
            "cut it into parts",
            limit="max_line_bytes",
        )
    try:
        return line.decode()
    except UnicodeDecodeError as exc:
        raise InputError(
            f"byte 0x{line[exc.start]:02x} in line {number} is not UTF-8; text in UTF-8 was "
            "expected; convert it, such as with 'iconv -f latin1 -t utf-8'"
        ) from exc


def parse_object(number: int, line: bytes | None, *, as_written: bool = False) -> dict[str, Any]:
    """Return the JSON object in a line.

    Args:
        number: The line's number.
        line: The line; None for one that was too long.
        as_written: Whether numbers come as the text that stands for them.

    Raises:
        InputError: It is no UTF-8, no JSON or no object.
    """
    text = decode_line(number, line)
    number_of = {"parse_int": str, "parse_float": str} if as_written else {}
    try:
        value = json.loads(text, parse_constant=lambda _: None, **number_of)  # type: ignore[arg-type]
    except (ValueError, RecursionError) as exc:
        raise InputError(
            f"line {number} is not JSON ({exc}); one object a line was expected; mend it"
        ) from exc
    if not isinstance(value, dict):
        raise InputError(
            f'line {number} is not a JSON object; such as {{"text": "…"}} was expected; mend it'
        )
    return value


def text_in(number: int, value: Mapping[str, Any], key: str) -> str:
    """Return the text of an object whose numbers are as written; truth values as JSON has them.

    Raises:
        InputError: There is no such key, or it holds no text.
    """
    if key not in value:
        names = ", ".join(repr(name) for name in itertools.islice(value, 8)) or "none"
        raise InputError(
            f"line {number} has no key '{key}'; its keys are {names}; name the text's with "
            "--text-column"
        )
    text = value[key]
    if isinstance(text, bool):
        return "true" if text else "false"
    if not isinstance(text, str):
        kind = "null" if text is None else "a list" if isinstance(text, list) else "an object"
        raise InputError(
            f"line {number} has {kind} under '{key}'; a text was expected; fill it in or remove it"
        )
    return text


def _plain(number: int, line: bytes | None) -> Entry:
    try:
        text = decode_line(number, line)
    except InputError as exc:
        return Entry(item=exc, shown=None)
    return Entry(item=text, shown=text)


def _object_entry(number: int, line: bytes | None, key: str) -> Entry:
    keys: dict[str, Any] = {}
    try:
        value = parse_object(number, line)
        if "id" in value and key != "id":
            keys["id"] = _plain_id(number, value["id"])
        if isinstance(value.get(key), _NUMBER):
            value = parse_object(number, line, as_written=True)
        text = text_in(number, value, key)
    except InputError as exc:
        return Entry(item=exc, shown=None, keys=keys)
    return Entry(item=text, shown=text, keys=keys)


def _plain_id(number: int, value: Any) -> Any:
    """Return an id that can be written again."""
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError) as exc:
        raise InputError(
            f"the id in line {number} cannot be written as JSON ({exc}); text or a number was "
            "expected; change it"
        ) from exc
    return value
