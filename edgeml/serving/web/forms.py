"""What a request's body becomes: one item, or a list of them, for the task at hand.

Each task takes its own kind of body as it is (a picture's file, plain text, an ``.npz`` archive),
and JSON with one key; ``{"items": [...]}`` holds several of those objects.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from edgeml.core.archives import read_archive
from edgeml.errors import EdgemlError, InputError
from edgeml.serving.web.refusals import BAD_REQUEST, WRONG_KIND, RefusedError

JSON_KIND = "application/json"
ITEMS = "items"
# A small archive can unpack to a thousand times its size.
_UNPACKED_BYTES = 256 << 20


@dataclass(frozen=True, kw_only=True)
class Form:
    """How the items of one task arrive.

    Attributes:
        key: The key of an item's JSON object.
        about: What its value is, for messages.
        kinds: Content types of a body that is one item; a trailing ``/`` stands for all below it.
        from_json: Returns the item that a JSON value stands for.
        from_body: Returns the item that a body is.
    """

    key: str
    about: str
    kinds: tuple[str, ...]
    from_json: Callable[[Any], Any]
    from_body: Callable[[bytes], Any]

    def takes(self, kind: str) -> bool:
        """Return whether a body of this content type is one item."""
        return any(kind == own or (own[-1] == "/" and kind.startswith(own)) for own in self.kinds)

    @property
    def expected(self) -> str:
        """What a request may be, for messages."""
        kinds = " or ".join(f"{kind}*" if kind[-1] == "/" else kind for kind in self.kinds)
        return f'a body of {kinds}, or JSON {{"{self.key}": {self.about}}}'


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a request asks for.

    Attributes:
        items: Items, with an error in the place of each that could not be read.
        batch: Whether the answer is a list.
    """

    items: list[Any]
    batch: bool = False


def read_request(form: Form, body: bytes, kind: str, *, max_items: int) -> Asked:
    """Turn a request's body into items.

    Args:
        form: The task's.
        body: The whole body.
        kind: Its content type, with parameters or without; empty where none was sent.
        max_items: Items of a batch.

    Raises:
        RefusedError: It is of another kind, empty, not JSON, or has other keys.
        InputError: Its one item cannot be read.
    """
    kind = kind.partition(";")[0].strip().lower()
    if not body:
        raise RefusedError(f"the body is empty; {form.expected} was expected", status=BAD_REQUEST)
    if form.takes(kind):
        return Asked(items=[form.from_body(body)])
    if kind != JSON_KIND:
        named = f"the content type is '{kind}'" if kind else "no content type was sent"
        raise RefusedError(f"{named}; {form.expected} was expected", status=WRONG_KIND)
    value = _parsed(body)
    if not isinstance(value, dict):
        raise RefusedError(
            f"the JSON is a {type(value).__name__}; an object was expected: {form.expected}",
            status=BAD_REQUEST,
        )
    if ITEMS not in value:
        return Asked(items=[_item(form, value)])
    rows = value[ITEMS]
    if set(value) != {ITEMS} or not isinstance(rows, list) or not 1 <= len(rows) <= max_items:
        raise RefusedError(
            f'a batch is {{"{ITEMS}": [...]}} alone, with 1 to {max_items} objects such as '
            f'{{"{form.key}": {form.about}}}; send that, or several requests',
            status=BAD_REQUEST,
        )
    return Asked(items=[_item_or_error(form, row) for row in rows], batch=True)


def _item(form: Form, value: Any) -> Any:
    if not isinstance(value, dict) or set(value) != {form.key}:
        found = ", ".join(map(repr, value)) or "no key" if isinstance(value, dict) else repr(value)
        raise RefusedError(
            f'an item has {found[:80]}; {{"{form.key}": {form.about}}} was expected',
            status=BAD_REQUEST,
        )
    return form.from_json(value[form.key])


def _item_or_error(form: Form, value: Any) -> Any:
    try:
        return _item(form, value)
    except EdgemlError as exc:
        return exc


def _parsed(body: bytes) -> Any:
    def no_number(text: str) -> NoReturn:
        raise ValueError(f"{text} is no JSON number")

    try:
        return json.loads(body, parse_constant=no_number)
    except (ValueError, RecursionError) as exc:
        reason = "it is nested too deeply" if isinstance(exc, RecursionError) else str(exc)
        text = f"the body is not JSON ({reason[:120]}); a JSON object was expected"
        raise RefusedError(text, status=BAD_REQUEST) from exc


def _decoded(value: Any) -> bytes:
    try:
        if isinstance(value, str):
            return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise InputError("'image' is not base64; a picture's file as a base64 string was expected")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"'text' is a {type(value).__name__}; a string was expected")
    return value


def _utf8(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise InputError("the text is not UTF-8; send UTF-8") from exc


def _archive(body: bytes) -> Mapping[str, Any]:
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError):
        size = 0  # no archive: the reader says what is wrong with it
    if size > _UNPACKED_BYTES:
        raise InputError(
            f"the archive unpacks to {size} bytes; at most {_UNPACKED_BYTES} were expected; "
            "send fewer or smaller arrays"
        )
    return read_archive(body)


def _arrays(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InputError(
            f"'inputs' is a {type(value).__name__}; an object from input name to numbers in lists "
            "was expected"
        )
    return value


FORMS: Mapping[str, Form] = {
    "image-classification": Form(
        key="image",
        about='"base64 of a picture\'s file"',
        kinds=("image/", "application/octet-stream"),
        from_json=_decoded,
        from_body=bytes,
    ),
    "text-classification": Form(
        key="text",
        about='"a string"',
        kinds=("text/plain",),
        from_json=_text,
        from_body=_utf8,
    ),
    "tensor": Form(
        key="inputs",
        about='{"NAME": numbers in lists, without the batch axis}',
        kinds=("application/x-npz", "application/octet-stream"),
        from_json=_arrays,
        from_body=_archive,
    ),
}
