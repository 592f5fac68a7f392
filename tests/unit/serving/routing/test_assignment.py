"""Who gets the candidate: shares that hold, everywhere the same, and only ever grow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgeml.errors import InputError
from edgeml.serving.routing.assignment import content_of, key_bytes, place_of

KEYS = [f"user-{number}".encode() for number in range(20_000)]


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
def test_a_share_of_the_keys_is_taken(share: float) -> None:
    taken = np.mean([place_of(key, salt="one") < share for key in KEYS])
    assert taken == pytest.approx(share, abs=4 * (share * (1 - share) / len(KEYS)) ** 0.5)


def test_places_are_the_same_in_every_process() -> None:
    # A place that changed would hand a user from one model to the other with an update.
    assert place_of(b"user-17", salt="one") == pytest.approx(0.6067476, abs=1e-6)


def test_another_salt_draws_anew() -> None:
    both = [
        (place_of(key, salt="one") < 0.5, place_of(key, salt="two") < 0.5) for key in KEYS[:4000]
    ]
    assert np.mean([one == two for one, two in both]) == pytest.approx(0.5, abs=0.04)


@given(key=st.binary(), salt=st.text(), low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_larger_share_takes_nobody_back(key: bytes, salt: str, low: float, high: float) -> None:
    place = place_of(key, salt=salt)
    assert 0 <= place < 1
    low, high = sorted((low, high))
    assert not place < low or place < high


@pytest.mark.parametrize(("key", "expected"), [("a", b"a"), (b"a", b"a"), (7, b"7")])
def test_text_bytes_and_numbers_are_keys(key: object, expected: bytes) -> None:
    assert key_bytes(key) == expected


@pytest.mark.parametrize("key", [None, 1.5, True, ["a"]])
def test_anything_else_is_no_key(key: object) -> None:
    with pytest.raises(InputError, match="such as the id of a user"):
        key_bytes(key)


PICTURE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        ("text", "text", "texts"),
        (b"bytes", bytearray(b"bytes"), b"byte"),
        (Path("a/b.png"), "a/b.png", Path("a/c.png")),
        (PICTURE, PICTURE.copy(), PICTURE.reshape(4, 2, 6)),
        (PICTURE, np.asfortranarray(PICTURE), PICTURE.astype(np.uint16)),
        (Image.fromarray(PICTURE), Image.fromarray(PICTURE), Image.fromarray(PICTURE + 1)),
        ({"a": PICTURE, "b": "x"}, {"b": "x", "a": PICTURE}, {"a": PICTURE, "b": "y"}),
        (np.array(["a"], dtype=object), np.array(["a"], dtype=object), np.array(["b"], object)),
    ],
)
def test_contents_stand_for_an_item(one: object, same: object, other: object) -> None:
    assert content_of(one) == content_of(same)
    assert content_of(one) != content_of(other)


def test_what_has_no_contents_needs_a_key() -> None:
    with pytest.raises(InputError, match="give key="):
        content_of(object())
