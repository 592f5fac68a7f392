"""Who gets the candidate: a share of the keys, the same ones always and everywhere.

A key's place between 0 and 1 is a hash of salt and key. The candidate has those below the share: a
larger share takes nobody back, another process decides alike, and another salt draws anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np

from edgeml.errors import InputError

Key = str | bytes | int
_SPAN = 2.0**64


def place_of(key: bytes, *, salt: str) -> float:
    """Return a key's place, from 0 to below 1.

    Example:
        >>> place_of(b"user-17", salt="a") == place_of(b"user-17", salt="a")
        True
    """
    # A salt of any length: hashed to what the hash takes as its own key.
    seasoned = hashlib.blake2b(salt.encode(), digest_size=32).digest()
    found = hashlib.blake2b(key, digest_size=8, key=seasoned).digest()
    # The lowest bits are dropped, so that no place is rounded up to 1.
    return (int.from_bytes(found, "big") >> 11 << 11) / _SPAN


def key_bytes(key: Any) -> bytes:
    """Return a caller's key as bytes.

    Raises:
        InputError: It is neither text, bytes nor a whole number.
    """
    if isinstance(key, str):
        return key.encode("utf-8", "surrogatepass")
    if isinstance(key, bytes):
        return key
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        return str(int(key)).encode()
    raise InputError(
        f"the key is a {type(key).__name__}; text, bytes or a whole number was expected, such as "
        "the id of a user"
    )


def content_of(item: Any) -> bytes:
    """Return what stands for an item where no key is given: a hash of its contents.

    A path stands for itself, not for what is in its file.

    Args:
        item: Text, bytes, a path, an array, a picture of Pillow's, or named arrays.

    Raises:
        InputError: It is none of these.
    """
    digest = hashlib.blake2b(digest_size=16)
    _feed(digest, item)
    return digest.digest()


def _feed(digest: hashlib.blake2b, item: Any) -> None:
    if isinstance(item, str):
        digest.update(b"s" + item.encode("utf-8", "surrogatepass"))
    elif isinstance(item, PurePath):
        digest.update(b"s" + str(item).encode("utf-8", "surrogateescape"))
    elif isinstance(item, (bytes, bytearray, memoryview)):
        digest.update(item)
    elif isinstance(item, np.ndarray):
        digest.update(f"{item.dtype.str}{item.shape}".encode())
        if item.dtype == object:
            digest.update(repr(item.tolist()).encode())
        else:
            digest.update(np.ascontiguousarray(item).tobytes())
    elif isinstance(item, Mapping):
        for name in sorted(item):
            digest.update(str(name).encode() + b"=")
            _feed(digest, item[name])
    elif hasattr(item, "tobytes") and hasattr(item, "mode"):  # Pillow, which need not be here
        digest.update(f"{item.mode}{item.size}".encode())
        digest.update(item.tobytes())
    else:
        raise InputError(
            f"no key can be made of a {type(item).__name__}; text, bytes, a path, a picture or an "
            "array was expected; give key=..., or call inside keyed(...)"
        )
