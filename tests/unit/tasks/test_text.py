"""The text contract: the ids are the tokenizer's own, for any string, in bounded work."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from edgeml.core.fake import FakeEngine
from edgeml.errors import InputError, SignatureError
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.opening import open_task
from edgeml.tasks.predictor import TaskPredictor
from edgeml.tasks.samples import TextSamples
from edgeml.tasks.text import (
    MAX_CHARACTERS,
    MAX_CHARACTERS_PER_TOKEN,
    EncodedText,
    TextPreprocessing,
    TextTask,
    fix_tokenizer,
    length_batches,
)
from tests.small_text import PLAIN, make_tokenizer, vocabulary

LENGTH = 16
PAD = 0
WORDS = vocabulary()
FILE = fix_tokenizer(make_tokenizer().to_str().encode(), max_length=LENGTH, pad_id=PAD)
CONTRACT = TextPreprocessing(
    max_length=LENGTH,
    inputs=("input_ids", "attention_mask", "token_type_ids"),
    pad_id=PAD,
    tokenizer_sha256=hashlib.sha256(FILE).hexdigest(),
)
LABELS = ClassLabels(names=("bad", "good"))
TASK = TextTask(CONTRACT, LABELS, FILE)


def _raw() -> Tokenizer:
    """The tokenizer as its authors made it: no truncation, no padding."""
    return make_tokenizer()


def _expected(text: str) -> tuple[list[int], bool]:
    """What cutting a whole tokenization gives."""
    ids = _raw().encode(text).ids
    if len(ids) <= LENGTH:
        return ids, False
    return [*ids[: LENGTH - 1], ids[-1]], True


UNICODE = {
    "words": "The Film was GREAT",
    "emoji": "great 😀 film 👩‍👩‍👧",
    "combining": "fi\u0301lm a\u0301\u0302\u0303 e\u0308",
    "right-to-left": "שלום film مرحبا",
    "direction-marks": "\u202egreat\u202c film\u200f",
    "control": "great\x01\x02film\x1f\x7f",
    "nul": "great\x00film\x00",
    "spaces": "\u00a0great\u2003film\u3000\t\r\n",
    "wide": "電影很好看",
    "private": "\ue000\U0010ffff film",
    "replacement": "film \ufffd",
    "byte-order-mark": "\ufeffgreat",
    "one-long-word": "x" * 300,
    "accents-galore": "f" + "\u0301" * 500,
}


@pytest.mark.parametrize("text", UNICODE.values(), ids=UNICODE)
def test_ids_are_the_tokenizers_own(text: str) -> None:
    made = TASK.prepare(text)
    assert (made.ids.tolist(), made.truncated) == _expected(text)
    assert made.ids.dtype == np.int64


@given(st.text(max_size=60))
def test_any_valid_text_has_the_tokenizers_ids(text: str) -> None:
    made = TASK.prepare(text)
    assert (made.ids.tolist(), made.truncated) == _expected(text)


def test_the_file_alone_gives_whoever_loads_it_the_same_ids() -> None:
    text = " ".join(PLAIN)
    theirs = Tokenizer.from_buffer(FILE).encode(text)
    assert theirs.ids == TASK.prepare(text).ids.tolist()
    short, long = Tokenizer.from_buffer(FILE).encode_batch(["film", "a good film"])
    feed = TASK.collate([TASK.prepare("film"), TASK.prepare("a good film")])
    assert [short.ids, long.ids] == feed["input_ids"].tolist()
    assert [short.attention_mask, long.attention_mask] == feed["attention_mask"].tolist()


@pytest.mark.parametrize("words", [0, 1, 13, 14, 15, 40], ids=str)
def test_a_cut_is_told(words: int) -> None:
    text = " ".join(["film"] * words)
    made = TASK.prepare(text)
    assert len(made.ids) == min(words + 2, LENGTH)
    assert made.truncated == (words > LENGTH - 2)
    assert TASK.is_truncated(made) == made.truncated
    assert (made.ids[0], made.ids[-1]) == (WORDS["[CLS]"], WORDS["[SEP]"])
    with TaskPredictor(TASK, FakeEngine(TASK.signature)) as predictor:
        alone, (among, other) = predictor.predict(text), predictor.predict_batch([text, "film"])
    assert (alone.truncated, among.truncated, other.truncated) == (made.truncated,) * 2 + (False,)


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\x00"], ids=repr)
def test_an_empty_text_is_answered(text: str) -> None:
    assert TASK.prepare(text).ids.tolist() == [WORDS["[CLS]"], WORDS["[SEP]"]]
    with TaskPredictor(TASK, FakeEngine(TASK.signature)) as predictor:
        assert predictor.predict(text).label in LABELS.names


def test_padding_is_no_more_than_needed() -> None:
    rows = [TASK.prepare(text) for text in ("film", "the good film", "a cast")]
    feed = TASK.collate(rows)
    TASK.signature.check_inputs(feed)
    assert feed["input_ids"].shape == (3, 5)
    assert feed["attention_mask"].sum(axis=1).tolist() == [3, 5, 4]
    assert (feed["input_ids"][feed["attention_mask"] == 0] == PAD).all()
    assert not feed["token_type_ids"].any()
    assert {array.dtype for array in feed.values()} == {np.dtype(np.int64)}
    for row, ids in zip(rows, feed["input_ids"], strict=True):
        assert ids[: len(row.ids)].tolist() == row.ids.tolist()


def test_inputs_are_those_of_the_contract() -> None:
    contract = replace(CONTRACT, inputs=("input_ids", "attention_mask"))
    task = TextTask(contract, LABELS, FILE)
    feed = task.collate([task.prepare("film")])
    assert list(feed) == ["input_ids", "attention_mask"]
    with pytest.raises(SignatureError):
        TASK.signature.check_inputs(feed)


@pytest.mark.parametrize(
    "text",
    ["good \ud83d film", "\udc00", "film" * 5 + "\ud800", "film " * 200_000 + "\udfff"],
    ids=["inside", "alone", "at-the-end", "far-beyond-what-is-read"],
)
def test_a_lone_surrogate_is_refused(text: str) -> None:
    where = next(place for place, char in enumerate(text) if "\ud800" <= char <= "\udfff")
    with pytest.raises(InputError, match=rf"a lone surrogate at character {where};"):
        TASK.prepare(text)


@pytest.mark.parametrize(
    "item", [b"film", bytearray(b"film"), None, 3, ["film"], np.array("film")], ids=type
)
def test_what_is_no_str_is_refused(item: Any) -> None:
    with pytest.raises(InputError, match="a str was expected") as caught:
        TASK.prepare(item)
    assert ("decode it first" in str(caught.value)) == isinstance(item, (bytes, bytearray))


def test_too_many_characters_are_refused() -> None:
    with pytest.raises(InputError, match="at most 16000000 were expected") as caught:
        TASK.prepare("x" * (MAX_CHARACTERS + 1))
    assert (caught.value.limit, caught.value.got) == ("max_characters", str(MAX_CHARACTERS + 1))


class Counting:
    """A tokenizer that notes how many characters it was given."""

    def __init__(self, inner: Tokenizer) -> None:
        self.inner = inner
        self.given: list[int] = []

    def encode(self, text: str) -> Any:
        self.given.append(len(text))
        return self.inner.encode(text)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    made = Counting(TASK._tokenizer)
    monkeypatch.setattr(TASK, "_tokenizer", made)
    return made


ENDLESS = {
    "words": "a lovely film , ",
    "one-word": "x",
    "spaces": " ",
    "wide": "電",
    "control": "\x01",
    "punctuation": ".",
    "accents": "\u0301",
}


@pytest.mark.parametrize("piece", ENDLESS.values(), ids=ENDLESS)
def test_ten_megabytes_are_read_in_bounded_work(piece: str, counting: Counting) -> None:
    made = TASK.prepare((piece * 10_000_000)[:10_000_000])
    assert made.truncated
    assert 2 <= len(made.ids) <= LENGTH
    # The last prefix, and those before it, each twice as long as the one before.
    assert sum(counting.given) <= 3 * MAX_CHARACTERS_PER_TOKEN * LENGTH
    if piece == ENDLESS["words"]:
        assert sum(counting.given) <= 2000  # a thousand characters may be a torn word


@given(
    st.lists(
        st.sampled_from([*PLAIN, "unbelievable", "x" * 150, "!?", "\n\n", "été", "電影", "😀"]),
        min_size=120,
        max_size=400,
    )
)
def test_a_long_text_has_the_ids_of_its_full_tokenization(words: list[str]) -> None:
    text = " ".join(words)
    made = TASK.prepare(text)
    assert (made.ids.tolist(), made.truncated) == _expected(text)


def test_a_long_text_of_few_tokens_is_read_to_its_end() -> None:
    text = "good" + " " * 3000 + "film"
    assert TASK.prepare(text).ids.tolist() == _expected(text)[0]
    assert not TASK.prepare(text).truncated


def test_another_tokenizer_is_refused() -> None:
    other = fix_tokenizer(make_tokenizer(pad_id=1).to_str().encode(), max_length=LENGTH, pad_id=1)
    with pytest.raises(InputError, match="use the bundle that the model came from"):
        TextTask(CONTRACT, LABELS, other)


def _task(contents: bytes) -> TextTask:
    digest = hashlib.sha256(contents).hexdigest()
    return TextTask(replace(CONTRACT, tokenizer_sha256=digest), LABELS, contents)


def test_a_tokenizer_that_cuts_elsewhere_is_refused() -> None:
    raw = make_tokenizer().to_str().encode()
    with pytest.raises(InputError, match="cuts texts as null; the contract says 16 tokens"):
        _task(raw)
    with pytest.raises(InputError, match='"max_length": 8'):
        _task(fix_tokenizer(raw, max_length=8, pad_id=PAD))
    from_the_right = make_tokenizer()
    from_the_right.enable_truncation(LENGTH, direction="left")
    with pytest.raises(InputError, match='"direction": "left"'):
        _task(from_the_right.to_str().encode())


@pytest.mark.parametrize("contents", [b"", b"{}", b"\xff\xfe", b'{"model": 3}'], ids=repr)
def test_what_is_no_tokenizer_is_refused(contents: bytes) -> None:
    with pytest.raises(InputError, match=r"tokenizer\.json cannot be read"):
        _task(contents)
    with pytest.raises(InputError, match=r"tokenizer\.json cannot be read"):
        fix_tokenizer(contents, max_length=LENGTH, pad_id=PAD)


def test_a_padding_token_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="has no token 99999"):
        fix_tokenizer(make_tokenizer().to_str().encode(), max_length=LENGTH, pad_id=99_999)


def test_a_contract_comes_back_from_json() -> None:
    value = json.loads(json.dumps(CONTRACT.to_json()))
    assert TextPreprocessing.from_json(value) == CONTRACT
    task = open_task(
        "text-classification",
        value,
        LABELS,
        tokenizer=lambda: FILE,
        signature=TASK.signature,
    )
    assert isinstance(task, TextTask)
    assert task.signature == TASK.signature


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "image"},
        {"max_length": 3},
        {"max_length": "long"},
        {"pad_id": -1},
        {"inputs": ["input_ids"]},
        {"inputs": ["input_ids", "attention_mask", "pixels"]},
        {"inputs": 5},
        {"tokenizer_sha256": None, "max_length": None},
    ],
    ids=str,
)
def test_a_malformed_contract_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="the preprocessing contract is malformed"):
        TextPreprocessing.from_json({**CONTRACT.to_json(), **change})


def test_a_golden_text_is_its_file() -> None:
    for text in UNICODE.values():
        assert TASK.decode_golden(text.encode()) == text


lengths = st.lists(st.integers(2, 600), max_size=80)


@given(lengths, st.integers(1, 2**14))
def test_rows_of_like_length_share_a_batch(rows: list[int], most: int) -> None:
    groups = length_batches(rows, max_tokens=most)
    assert sorted(index for group in groups for index in group) == list(range(len(rows)))
    for group in groups:
        longest, shortest = max(rows[i] for i in group), min(rows[i] for i in group)
        assert longest * len(group) <= most or len(group) == 1
        assert longest <= shortest * 9 / 8


def test_equal_rows_fill_their_batches() -> None:
    assert [len(group) for group in length_batches([8] * 10, max_tokens=32)] == [4, 4, 2]
    assert length_batches([], max_tokens=32) == []
    assert length_batches([9, 8, 10], max_tokens=99) == [[1, 0], [2]]  # ten is over nine eighths


@given(st.lists(st.integers(2, LENGTH), min_size=1, max_size=40))
def test_samples_are_grouped_and_padded_as_asked(rows: list[int]) -> None:
    texts = [EncodedText(np.full(length, 7, np.int64), truncated=False) for length in rows]
    samples = TextSamples(TASK, texts)
    groups = samples.groups()
    assert sorted(index for group in groups for index in group) == list(range(len(rows)))
    feed = samples.feed(groups[-1])
    assert feed["attention_mask"].sum(axis=1).tolist() == [rows[index] for index in groups[-1]]
    assert samples.padded(LENGTH).feed(groups[0])["input_ids"].shape[1] == LENGTH
    assert sorted(rows)[len(rows) // 2] == rows[samples.typical()]
    assert (len(samples.first(1)), len(samples.padded(20).first(1).feed([0])["input_ids"][0])) == (
        1,
        20,
    )
