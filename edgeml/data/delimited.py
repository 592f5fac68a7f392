"""The rows of comma-, semicolon- and tab-separated text, told apart by what is in it.

Text after RFC 4180: a quoted field may hold the delimiter, line ends and doubled quotes. Tab-
separated files come in two dialects, and a wrong guess changes the texts, so the rule is narrow:

- Quotes are literal as long as every line has as many tabs as the header, unless each field that
  starts with a quote is a whole quoted field: quotes at both ends, all between them doubled.
- Where the lines do not agree, quotes are read as in RFC 4180 if all rows agree then.
- Otherwise quotes are literal, and the ragged lines are refused by the caller.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import re
import threading
from collections.abc import Callable, Iterable, Iterator

from edgeml.errors import DataError

Row = tuple[int, list[str]]
Rows = list[Row]
# Opens the text anew: lines with their ends, as of a file that was opened with newline="".
Lines = Callable[[], Iterable[str]]

_DELIMITERS = (",", ";", "\t")
_SAMPLE_ROWS = 100
_ROWS_AT_ONCE = 256
_QUOTED = re.compile(r'"(?:[^"]|"")*+"')
_LIMIT_LOCK = threading.Lock()


def comma_rows(source: str, text: str) -> Rows:
    """Read a ``.csv`` file: commas, semicolons or tabs, as :func:`comma_delimiter` says.

    Args:
        source: The file, for messages.
        text: Its contents.

    Returns:
        Rows that are not blank, each with the number of the line on which it starts.

    Raises:
        DataError: A quoted field does not end, or goes on after its closing quote.
    """
    delimiter = comma_delimiter(_lines_of(text), most=len(text))
    if delimiter == "\t":
        return tab_rows(text)
    rows = strict_rows(source, _lines_of(text)(), delimiter, most=len(text))
    return [row for row in rows if is_filled(row[1])]


def tab_rows(text: str) -> Rows:
    """Read a ``.tsv`` file; the head of this module says when its quotes are literal.

    Args:
        text: Its contents.

    Returns:
        Rows that are not blank, each with the number of the line on which it starts.
    """
    lines, most = _lines_of(text), len(text)
    if tab_quotes_are_literal(lines, most=most):
        rows = literal_rows(lines())
    else:
        rows = strict_rows("", lines(), "\t", most=most)
    return [row for row in rows if is_filled(row[1])]


def comma_delimiter(lines: Lines, *, most: int) -> str:
    """Return what separates the fields of a ``.csv`` file.

    A delimiter must occur in the first row; of those that do, the one is taken by which most of the
    first hundred rows have as many fields as the first, and commas go first where that is equal.

    Args:
        lines: Opens the text.
        most: Characters that a field may have.
    """
    return max(_DELIMITERS, key=lambda one: _agreement(lines(), one, most))


def tab_quotes_are_literal(lines: Lines, *, most: int) -> bool:
    """Return which dialect tab-separated text is in; the head of this module has the rule.

    Args:
        lines: Opens the text; it is read once or twice.
        most: Characters that a field may have.
    """
    widths: set[int] = set()
    quoted, whole = False, True
    for _, row in literal_rows(lines()):
        if is_filled(row):
            widths.add(len(row))
            opened = [field for field in row if field.startswith('"')]
            quoted = quoted or bool(opened)
            whole = whole and all(_QUOTED.fullmatch(field) for field in opened)
    if not quoted or (len(widths) <= 1 and not whole):
        return True
    try:
        rows = strict_rows("", lines(), "\t", most=most)
        return len({len(row) for _, row in rows if is_filled(row)}) > 1
    except DataError:
        return True


def literal_rows(lines: Iterable[str]) -> Iterator[Row]:
    """Split lines at their tabs; blank lines are rows of one field.

    Args:
        lines: With their ends.
    """
    for number, line in enumerate(lines, start=1):
        yield number, line.rstrip("\r\n").split("\t")


def strict_rows(source: str, lines: Iterable[str], delimiter: str, *, most: int) -> Iterator[Row]:
    """Read rows after RFC 4180; blank lines are empty rows.

    Args:
        source: The file, for messages.
        lines: With their ends.
        delimiter: What separates fields.
        most: Characters that a field may have.

    Raises:
        DataError: A quoted field does not end, is too long, or goes on after its closing quote.
    """
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    start = 1
    while True:
        rows: Rows = []
        try:
            with _unlimited(most):
                for row in itertools.islice(reader, _ROWS_AT_ONCE):
                    rows.append((start, row))
                    start = reader.line_num + 1
        except csv.Error as exc:
            reason = (
                f"the row that starts in line {start} has a quoted field that cannot be read "
                f"({exc}); a field in quotes, with each quote inside it doubled, was expected; "
                "mend that line"
            )
            raise DataError(source=source, reason=reason) from exc
        if not rows:
            return
        yield from rows


def is_filled(row: list[str]) -> bool:
    """Return whether a row is more than a blank line."""
    return len(row) > 1 or any(field.strip() for field in row)


def _lines_of(text: str) -> Lines:
    return lambda: io.StringIO(text, newline="")


def _agreement(lines: Iterable[str], delimiter: str, most: int) -> float:
    """Return the share of rows that have as many fields as the first, if that is several."""
    counts: list[int] = []
    try:
        with _unlimited(most):
            for row in csv.reader(lines, delimiter=delimiter, strict=True):
                if is_filled(row):
                    counts.append(len(row))
                if len(counts) == _SAMPLE_ROWS:
                    break
    except csv.Error:
        counts.append(0)  # what follows cannot be read this way
    if not counts or counts[0] < 2:
        return 0.0
    return counts.count(counts[0]) / len(counts)


@contextlib.contextmanager
def _unlimited(size: int) -> Iterator[None]:
    """Let one field have so many characters; the limit is the interpreter's and is put back."""
    with _LIMIT_LOCK:
        before = csv.field_size_limit(max(csv.field_size_limit(), size + 1))
        try:
            yield
        finally:
            csv.field_size_limit(before)
