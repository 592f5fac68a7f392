"""What the one predictor adds to an engine: chunks, positions, errors that stay in their place."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, groupby
from typing import Any

import numpy as np
import pytest

from edgeml.core.fake import FakeEngine
from edgeml.core.predictor import Prediction
from edgeml.core.signature import ModelSignature, Tensors, TensorSpec
from edgeml.errors import ClosedError, InputError, ModelOutputError
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.image import ImagePreprocessing, ImageTask
from edgeml.tasks.predictor import TaskPredictor

TASK = ImageTask(
    preprocessing=ImagePreprocessing(height=2, width=2),
    labels=ClassLabels(names=tuple("abcdefgh")),
)


def _picture(value: int) -> np.ndarray[Any, Any]:
    return np.full((2, 2, 3), value, dtype=np.uint8)


def _nan_above_200(feed: Tensors) -> dict[str, Any]:
    """A model that breaks on bright pictures, and else answers with the picture's first value."""
    values = feed["image"].reshape(len(feed["image"]), -1)[:, 0]
    rows = np.zeros((len(values), 8), dtype=np.float32)
    rows[np.arange(len(values)), values % 8] = 1
    rows[values > 200] = np.nan
    return {"probabilities": rows}


def test_no_more_than_a_chunk_is_in_memory_at_once() -> None:
    sizes = []

    def answer(feed: Tensors) -> dict[str, Any]:
        sizes.append(len(feed["image"]))
        return _nan_above_200(feed)

    predictor = TaskPredictor(TASK, FakeEngine(TASK.signature, answer=answer))
    answers = predictor.predict_batch([_picture(value) for value in range(100)])
    assert [answer.label for answer in answers] == ["abcdefgh"[value % 8] for value in range(100)]
    assert sum(sizes) == 100
    assert max(sizes) <= 32


def test_a_chunk_of_bad_items_never_reaches_the_engine() -> None:
    reached: list[Tensors] = []
    engine = FakeEngine(TASK.signature, answer=lambda feed: reached.append(feed) or {})
    answers = TaskPredictor(TASK, engine).predict_batch([None] * 40, on_error="return")
    assert [type(answer) for answer in answers] == [InputError] * 40
    assert reached == []


def test_the_first_bad_item_is_named_by_its_place_in_the_whole_batch() -> None:
    predictor = TaskPredictor(TASK, FakeEngine(TASK.signature))
    with pytest.raises(InputError) as caught:
        predictor.predict_batch([_picture(1)] * 50 + [None, b""])
    assert caught.value.__notes__ == ["item 50 of the batch"]


def test_nan_for_one_picture_is_an_error_for_that_picture_only() -> None:
    predictor = TaskPredictor(TASK, FakeEngine(TASK.signature, answer=_nan_above_200))
    values = [1, 255, None, 3, 201, 200]
    items = [None if value is None else _picture(value) for value in values]
    answers = predictor.predict_batch(items, on_error="return")
    assert [type(answer) for answer in answers] == [
        Prediction, ModelOutputError, InputError, Prediction, ModelOutputError, Prediction,
    ]  # fmt: skip
    labels = [answer.label for answer in answers if isinstance(answer, Prediction)]
    assert labels == ["b", "d", "a"]


def test_nan_raises_unless_errors_are_to_be_returned() -> None:
    predictor = TaskPredictor(TASK, FakeEngine(TASK.signature, answer=_nan_above_200))
    for call in (
        lambda: predictor.predict(_picture(255)),
        lambda: predictor.predict_batch([_picture(1), _picture(255)]),
        lambda: predictor.predict_tensors({"image": _picture(255)[None]}),
    ):
        with pytest.raises(ModelOutputError):
            call()


def test_raw_outputs_are_raw() -> None:
    predictor = TaskPredictor(TASK, FakeEngine(TASK.signature, answer=_nan_above_200))
    outputs = predictor.run({"image": _picture(255)[None]})
    assert np.isnan(outputs["probabilities"]).all()


def test_closing_while_a_call_is_under_way_lets_it_finish() -> None:
    entered, release = threading.Event(), threading.Event()

    def answer(feed: Tensors) -> dict[str, Any]:
        entered.set()
        assert release.wait(timeout=30)
        return _nan_above_200(feed)

    predictor = TaskPredictor(TASK, FakeEngine(TASK.signature, answer=answer))
    answers: list[Prediction] = []
    thread = threading.Thread(target=lambda: answers.append(predictor.predict(_picture(2))))
    thread.start()
    assert entered.wait(timeout=30)
    predictor.close()
    with pytest.raises(ClosedError):
        predictor.predict(_picture(1))
    release.set()
    thread.join(timeout=30)
    assert [answer.label for answer in answers] == ["c"]


def test_the_engine_is_closed_with_its_predictor() -> None:
    engine = FakeEngine(TASK.signature)
    TaskPredictor(TASK, engine).close()
    with pytest.raises(ClosedError):
        engine.run({"image": _picture(1)[None]})


@pytest.mark.parametrize("items", ["photo.jpg", b"\x89PNG", bytearray(3)], ids=type)
def test_one_item_is_no_batch(items: Any) -> None:
    predictor = TaskPredictor(TASK, FakeEngine(TASK.signature))
    with pytest.raises(InputError, match="a list was expected"):
        predictor.predict_batch(items, on_error="return")


def test_a_generator_is_a_batch() -> None:
    predictor = TaskPredictor(TASK, FakeEngine(TASK.signature))
    assert len(predictor.predict_batch(_picture(value) for value in range(3))) == 3


class Words:
    """A task of texts whose feeds are by length and out of order; ``cut`` marks a cut one."""

    window = 4

    def __init__(self) -> None:
        self.prepared: list[str] = []
        self.feeds: list[list[int]] = []

    def prepare(self, item: Any) -> str:
        if not isinstance(item, str):
            raise InputError(f"{item!r} is no word")
        self.prepared.append(item)
        return item

    def decode_golden(self, contents: bytes) -> str:
        return contents.decode()

    def collate(self, prepared: Sequence[str]) -> Tensors:
        assert len({len(word) for word in prepared}) == 1
        self.feeds.append([len(word) for word in prepared])
        return {"codes": np.array([[ord(char) for char in word] for word in prepared])}

    def batches(self, prepared: Sequence[str]) -> list[list[int]]:
        order = sorted(range(len(prepared)), key=lambda index: -len(prepared[index]))
        return [list(group) for _, group in groupby(order, key=lambda index: len(prepared[index]))]

    def is_truncated(self, prepared: str) -> bool:
        return prepared.startswith("cut")

    def interpret(self, outputs: Mapping[str, Any], *, served_by: str) -> list[Prediction]:
        rows = outputs["echo"]
        if (rows == ord("!")).any():
            raise ModelOutputError(tensor="echo")
        return [Prediction(label="".join(map(chr, row)), served_by=served_by) for row in rows]


WORDS_SIGNATURE = ModelSignature(
    inputs=(TensorSpec(name="codes", dtype="int64", shape=("batch", "length")),),
    outputs=(TensorSpec(name="echo", dtype="int64", shape=("batch", "length")),),
)
STREAM = ["eel", "ox", "cat", "cutter", "a", "bee", "cow", "do", "elk", "i", "gnu", "cut"]


def _echo(name: str) -> FakeEngine:
    return FakeEngine(WORDS_SIGNATURE, answer=lambda feed: {"echo": feed["codes"]}, served_by=name)


@pytest.fixture
def words() -> Words:
    return Words()


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("size", range(len(STREAM) + 1))
def test_a_stream_keeps_its_order_over_windows(words: Words, size: int, threads: int) -> None:
    predictor = TaskPredictor(words, _echo("x"), prepare_threads=threads)
    answers = list(predictor.predict_stream(STREAM[:size]))
    assert [answer.label for answer in answers] == STREAM[:size]
    assert sorted(words.prepared) == sorted(STREAM[:size])
    assert sum(map(len, words.feeds)) == size
    assert all(len(feed) <= 4 for feed in words.feeds)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_stream_keeps_errors_in_their_place(words: Words, threads: int) -> None:
    predictor = TaskPredictor(words, _echo("x"), prepare_threads=threads)
    items = ["eel", None, "no!", "cat", 5, 6, 7, 8, "bee", "a!", "d", None, "last"]
    answers = list(predictor.predict_stream(items, on_error="return"))
    shown = [a.label if isinstance(a, Prediction) else type(a).__name__ for a in answers]
    assert shown == [
        "eel", "InputError", "ModelOutputError", "cat", "InputError", "InputError", "InputError",
        "InputError", "bee", "ModelOutputError", "d", "InputError", "last",
    ]  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2])
def test_a_stream_raises_after_the_answers_before_its_window(words: Words, threads: int) -> None:
    predictor = TaskPredictor(words, _echo("x"), prepare_threads=threads)
    stream = predictor.predict_stream([*STREAM[:9], None, "b"])
    got = [next(stream).label for _ in range(8)]
    assert got == STREAM[:8]
    with pytest.raises(InputError) as caught:
        next(stream)
    assert caught.value.__notes__ == ["item 9 of the batch"]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_generator_is_read_few_windows_ahead(words: Words, threads: int) -> None:
    read: list[int] = []

    def endless() -> Iterator[str]:
        for number in count():
            read.append(number)
            yield f"{number:04}"

    predictor = TaskPredictor(words, _echo("x"), prepare_threads=threads)
    stream = predictor.predict_stream(endless())
    for number in range(30):
        assert next(stream).label == f"{number:04}"
        assert len(read) <= (number // words.window + 1 + threads) * words.window
    stream.close()
    assert len(read) < 40 + threads * words.window


@pytest.mark.parametrize("threads", [1, 2])
def test_what_was_answered_does_not_stay_in_memory(words: Words, threads: int) -> None:
    class Word(str):
        __slots__ = ("__weakref__",)

    kept: list[weakref.ref[str]] = []

    def long() -> Iterator[str]:
        for number in range(60):
            word = Word(f"{number:04}")
            kept.append(weakref.ref(word))
            yield word

    words.prepare = str  # type: ignore[method-assign]
    predictor = TaskPredictor(words, _echo("x"), prepare_threads=threads)
    for number, _ in enumerate(predictor.predict_stream(long())):
        if number == 30:
            gc.collect()
            assert [word() for word in kept[:16]] == [None] * 16


def test_windows_are_prepared_and_computed_at_once(words: Words) -> None:
    together = threading.Barrier(2, timeout=20)

    def answer(feed: Tensors) -> dict[str, Any]:
        together.wait()
        return {"echo": feed["codes"]}

    predictor = TaskPredictor(words, FakeEngine(WORDS_SIGNATURE, answer=answer), prepare_threads=2)
    # Four items would be one window: the two threads share them.
    items = ["ox", "do", "an", "is"]
    assert [answer.label for answer in predictor.predict_batch(items)] == items


def test_a_long_stream_has_an_engine_of_one_thread_for_its_threads(words: Words) -> None:
    opened: list[FakeEngine] = []

    def open_engine() -> FakeEngine:
        opened.append(_echo("of threads"))
        return opened[-1]

    predictor = TaskPredictor(words, _echo("x"), prepare_threads=2, open_thread_engine=open_engine)
    short = predictor.predict_batch(STREAM[: words.window])
    assert {answer.served_by for answer in short} == {"x"}
    assert not opened
    for _ in range(2):
        long = predictor.predict_batch(STREAM[: words.window + 1])
        assert {answer.served_by for answer in long} == {"of threads"}
    assert len(opened) == 1
    predictor.close()
    with pytest.raises(ClosedError):
        opened[0].run({"codes": np.array([[1]])})
    with pytest.raises(ClosedError):
        predictor.predict_batch(STREAM)


def test_a_closed_predictor_opens_no_engine_for_a_stream_under_way(words: Words) -> None:
    opened: list[FakeEngine] = []
    predictor = TaskPredictor(
        words,
        _echo("x"),
        prepare_threads=2,
        open_thread_engine=lambda: opened.append(_echo("y")) or opened[-1],
    )
    stream = predictor.predict_stream(STREAM)
    predictor.close()
    with pytest.raises(ClosedError):
        next(stream)
    assert not opened


def test_closing_while_an_engine_is_opened_closes_that_one_too(words: Words) -> None:
    """As a signal's handler does, in the thread that opens it."""
    opened = _echo("y")

    def open_engine() -> FakeEngine:
        predictor.close()
        return opened

    predictor = TaskPredictor(words, _echo("x"), prepare_threads=2, open_thread_engine=open_engine)
    with pytest.raises(ClosedError):
        predictor.predict_batch(STREAM)
    with pytest.raises(ClosedError):
        opened.run({"codes": np.array([[1]])})


def test_a_stream_checks_its_arguments_before_it_is_read(words: Words) -> None:
    predictor = TaskPredictor(words, _echo("x"))
    with pytest.raises(InputError, match="'raise' or 'return'"):
        predictor.predict_stream([], on_error="ignore")
    stream = predictor.predict_stream(iter(STREAM))
    assert next(stream).label == "eel"
    predictor.close()
    with pytest.raises(ClosedError):
        predictor.predict_stream([])
    with pytest.raises(ClosedError):
        list(stream)


@pytest.mark.parametrize("items", ["eel", b"eel", 5, None])
def test_one_item_is_no_stream(words: Words, items: Any) -> None:
    predictor = TaskPredictor(words, _echo("x"))
    for call in (predictor.predict_stream, predictor.predict_batch):
        with pytest.raises(InputError, match=r"a list was expected; call predict\(\)"):
            call(items)


def test_several_rows_go_to_the_engine_for_batches(words: Words) -> None:
    predictor = TaskPredictor(words, _echo("one"), batch_engine=_echo("many"))
    assert predictor.served_by == "one"
    assert predictor.predict("eel").served_by == "one"
    answers = predictor.predict_batch(["eel", "ox", "cat"])
    # The ox is alone in its feed, and would not be beside another word of two letters.
    assert {answer.served_by for answer in answers} == {"many"}
    assert predictor.predict_batch(["ox"])[0].served_by == "one"
    assert {answer.served_by for answer in predictor.predict_stream(STREAM)} == {"many"}
    for batch, name in ((1, "one"), (2, "many"), (5, "many")):
        feed = {"codes": np.full((batch, 3), 97)}
        assert {answer.served_by for answer in predictor.predict_tensors(feed)} == {name}
        assert predictor.run(feed)["echo"].shape == (batch, 3)


def test_without_another_one_engine_does_all(words: Words) -> None:
    answers = TaskPredictor(words, _echo("one")).predict_batch(STREAM)
    assert {answer.served_by for answer in answers} == {"one"}


def test_what_was_cut_is_told(words: Words) -> None:
    predictor = TaskPredictor(words, _echo("x"))
    assert [row.truncated for row in predictor.predict_stream(STREAM)] == [
        word.startswith("cut") for word in STREAM
    ]
    assert predictor.predict("cut").truncated
    assert not predictor.predict("eel").truncated


def test_both_engines_are_closed(words: Words) -> None:
    engines = _echo("one"), _echo("many")
    TaskPredictor(words, engines[0], batch_engine=engines[1]).close()
    for engine in engines:
        with pytest.raises(ClosedError):
            engine.run({"codes": np.full((1, 3), 97)})
