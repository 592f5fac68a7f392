"""What every predictor promises, whatever runs behind it.

A subclass gives the fixture ``predictor``: an open image predictor for 8x8 pictures, whose answers
depend on the picture. Where the engine is not exact to the bit it widens ``tolerance``.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from edgeml.core.predictor import Prediction, Predictor
from edgeml.errors import ClosedError, InputError, SignatureError
from tests.pictures import rgb_file, scene

SIDE = 8
INPUT = "image"
_NUM_THREADS = 8


@dataclass(frozen=True, kw_only=True)
class BadFeed:
    """Tensors that no image model takes."""

    id: str
    feed: dict[str, Any]
    says: str


def _images(batch: int = 1) -> np.ndarray[Any, Any]:
    return np.zeros((batch, SIDE, SIDE, 3), dtype=np.uint8)


BAD_FEEDS = (
    BadFeed(id="missing", feed={}, says="missing"),
    BadFeed(id="unknown", feed={INPUT: _images(), "other": _images()}, says="other"),
    BadFeed(id="misnamed", feed={"Image": _images()}, says="Image"),
    BadFeed(id="dtype", feed={INPUT: _images().astype(np.float32)}, says="float32"),
    BadFeed(id="signed", feed={INPUT: _images().astype(np.int8)}, says="int8"),
    BadFeed(id="no-batch", feed={INPUT: _images()[0]}, says="(8, 8, 3)"),
    BadFeed(id="height", feed={INPUT: _images()[:, :7]}, says="(1, 7, 8, 3)"),
    BadFeed(id="channels", feed={INPUT: _images()[..., :1]}, says="(1, 8, 8, 1)"),
    BadFeed(
        id="channels-first", feed={INPUT: _images().transpose(0, 3, 1, 2)}, says="(1, 3, 8, 8)"
    ),
    BadFeed(id="empty-batch", feed={INPUT: _images(0)}, says="empty batch"),
    BadFeed(id="scalar", feed={INPUT: np.uint8(3)}, says="uint8"),
    BadFeed(id="zero-dimensional", feed={INPUT: np.zeros((), dtype=np.uint8)}, says="uint8 ()"),
    BadFeed(id="list", feed={INPUT: _images().tolist()}, says="a list"),
    BadFeed(id="none", feed={INPUT: None}, says="a NoneType"),
)
BAD_ITEMS = (b"", b"not an image", "missing.png", 5, None, np.zeros((2, 2), dtype=np.float32))


class PredictorContract:
    """Subclass this, name the subclass ``Test...`` and define the fixture ``predictor``."""

    tolerance: ClassVar[float] = 0.0

    @pytest.fixture
    def items(self, rng: np.random.Generator) -> list[Any]:
        """More pictures than fit one chunk, so that their order can be lost."""
        return list(rng.integers(0, 256, size=(70, 9, 11, 3), dtype=np.uint8))

    def assert_same(self, got: Sequence[Prediction], expected: Sequence[Prediction]) -> None:
        """Compare answers one by one."""
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert one.served_by == other.served_by
            assert list(one.scores) == list(other.scores)
            for label, value in one.scores.items():
                assert value == pytest.approx(other.scores[label], abs=self.tolerance, rel=0)
            if self.tolerance == 0:
                assert one.label == other.label

    def test_it_is_a_predictor(self, predictor: Predictor) -> None:
        assert isinstance(predictor, Predictor)
        (spec,) = predictor.signature.inputs
        assert (spec.name, spec.dtype, spec.shape[1:]) == (INPUT, "uint8", (SIDE, SIDE, 3))

    def test_a_prediction_holds_together(self, predictor: Predictor) -> None:
        prediction = predictor.predict(scene())
        assert prediction.label in prediction.scores
        assert prediction.score == prediction.scores[prediction.label]
        assert prediction.score == max(prediction.scores.values())
        assert sum(prediction.scores.values()) == pytest.approx(1.0, abs=1e-3)
        assert prediction.served_by == predictor.served_by != ""

    def test_answers_depend_on_the_item(self, predictor: Predictor, items: list[Any]) -> None:
        # Every test of order below rests on this.
        answers = predictor.predict_batch(items)
        assert len({tuple(answer.scores.values()) for answer in answers}) > 1

    def test_every_form_of_a_picture_gets_one_answer(
        self, predictor: Predictor, tmp_path: Any
    ) -> None:
        from PIL import Image

        file = tmp_path / "scene.png"
        file.write_bytes(rgb_file())
        forms = [scene(), rgb_file(), bytearray(rgb_file()), file, str(file)]
        answers = predictor.predict_batch([*forms, Image.fromarray(scene())])
        self.assert_same(answers, [answers[0]] * 6)

    def test_a_batch_equals_its_rows_alone(self, predictor: Predictor, items: list[Any]) -> None:
        batch = predictor.predict_batch(items)
        self.assert_same(batch, [predictor.predict(item) for item in items])

    def test_order_is_kept(self, predictor: Predictor, items: list[Any]) -> None:
        forward = predictor.predict_batch(items)
        backward = predictor.predict_batch(items[::-1])
        self.assert_same(backward[::-1], forward)

    def test_no_items_get_no_answers(self, predictor: Predictor) -> None:
        assert predictor.predict_batch([]) == []

    def test_outputs_are_what_the_signature_says(
        self, predictor: Predictor, rng: np.random.Generator
    ) -> None:
        for batch in (1, 2, 5):
            images = rng.integers(0, 256, size=(batch, SIDE, SIDE, 3), dtype=np.uint8)
            outputs = predictor.run({INPUT: images})
            assert list(outputs) == [spec.name for spec in predictor.signature.outputs]
            for spec in predictor.signature.outputs:
                spec.check(outputs[spec.name])
                assert len(outputs[spec.name]) == batch

    def test_tensors_skip_the_preprocessing_and_nothing_else(
        self, predictor: Predictor, rng: np.random.Generator
    ) -> None:
        images = rng.integers(0, 256, size=(3, SIDE, SIDE, 3), dtype=np.uint8)
        by_tensor = predictor.predict_tensors({INPUT: images})
        self.assert_same(by_tensor, predictor.predict_batch(list(images)))

    def test_memory_layout_does_not_matter(
        self, predictor: Predictor, rng: np.random.Generator
    ) -> None:
        wide = rng.integers(0, 256, size=(3, SIDE, 2 * SIDE, 3), dtype=np.uint8)
        view = wide[:, :, ::2]
        assert not view.flags.c_contiguous
        plain = predictor.predict_tensors({INPUT: view.copy()})
        self.assert_same(predictor.predict_tensors({INPUT: view}), plain)
        view.flags.writeable = False
        self.assert_same(predictor.predict_tensors({INPUT: view}), plain)

    def test_the_feed_is_left_alone(self, predictor: Predictor, rng: np.random.Generator) -> None:
        images = rng.integers(0, 256, size=(2, SIDE, SIDE, 3), dtype=np.uint8)
        before = images.copy()
        predictor.predict_tensors({INPUT: images})
        np.testing.assert_array_equal(images, before)

    @pytest.mark.parametrize("case", BAD_FEEDS, ids=lambda case: case.id)
    def test_a_bad_feed_is_a_signature_error(self, predictor: Predictor, case: BadFeed) -> None:
        good = predictor.predict(scene())
        for call in (predictor.run, predictor.predict_tensors):
            with pytest.raises(SignatureError) as caught:
                call(case.feed)
            assert case.says in str(caught.value)
            assert caught.value.tensor
        self.assert_same([predictor.predict(scene())], [good])

    @pytest.mark.parametrize("item", BAD_ITEMS, ids=repr)
    def test_a_bad_item_is_an_input_error(self, predictor: Predictor, item: Any) -> None:
        with pytest.raises(InputError):
            predictor.predict(item)
        with pytest.raises(InputError) as caught:
            predictor.predict_batch([scene()] * 40 + [item])
        assert any("item 40 " in note for note in caught.value.__notes__)

    def test_a_bad_item_costs_its_neighbours_nothing(
        self, predictor: Predictor, items: list[Any]
    ) -> None:
        mixed: list[Any] = list(items[:40])
        for place, item in zip((0, 7, 8, 31, 32, 39), BAD_ITEMS, strict=True):
            mixed[place] = item
        answers = predictor.predict_batch(mixed, on_error="return")
        assert len(answers) == 40
        for place, answer in enumerate(answers):
            if place in (0, 7, 8, 31, 32, 39):
                assert isinstance(answer, InputError)
            else:
                assert isinstance(answer, Prediction)
                self.assert_same([answer], [predictor.predict(items[place])])

    def test_a_batch_of_bad_items_is_all_errors(self, predictor: Predictor) -> None:
        answers = predictor.predict_batch([b"", None], on_error="return")
        assert [type(answer) for answer in answers] == [InputError, InputError]

    def test_an_unknown_policy_is_refused(self, predictor: Predictor) -> None:
        with pytest.raises(InputError, match="on_error"):
            predictor.predict_batch([scene()], on_error="ignore")  # type: ignore[call-overload]

    def test_threads_do_not_mix_answers(self, predictor: Predictor, items: list[Any]) -> None:
        expected = predictor.predict_batch(items)
        start = threading.Barrier(_NUM_THREADS)

        def work(offset: int) -> list[tuple[int, Prediction]]:
            start.wait(timeout=30)
            places = [(offset + step) % len(items) for step in range(0, len(items), 3)]
            return [(place, predictor.predict(items[place])) for place in places]

        with ThreadPoolExecutor(_NUM_THREADS) as pool:
            for pairs in pool.map(work, range(_NUM_THREADS)):
                for place, answer in pairs:
                    self.assert_same([answer], [expected[place]])

    def test_closed_is_closed(self, predictor: Predictor) -> None:
        feed = {INPUT: _images()}
        predictor.close()
        predictor.close()
        for call in (
            lambda: predictor.predict(scene()),
            lambda: predictor.predict(b""),
            lambda: predictor.predict_batch([scene()]),
            lambda: predictor.predict_batch([]),
            lambda: predictor.predict_batch([scene()], on_error="return"),
            lambda: predictor.predict_tensors(feed),
            lambda: predictor.run(feed),
        ):
            with pytest.raises(ClosedError):
                call()

    def test_a_context_closes(self, predictor: Predictor) -> None:
        with predictor as entered:
            assert entered is predictor
            entered.predict(scene())
        with pytest.raises(ClosedError):
            predictor.predict(scene())

    def test_a_context_closes_after_an_error_and_lets_it_through(
        self, predictor: Predictor
    ) -> None:
        with pytest.raises(InputError), predictor:
            predictor.predict(b"")
        with pytest.raises(ClosedError):
            predictor.predict(scene())
