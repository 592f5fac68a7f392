"""Pictures to train on: what is said of their copies, what is refused, and fewer of each class."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeml.core.progress import ProgressEvent, silent
from edgeml.data.dataset import ImageDataset, Split, make_split
from edgeml.errors import DataError
from edgeml.tasks.image import ImagePreprocessing
from edgeml.workflows.image_data import TrainingImages, open_training_images
from tests.unit.data.scenes import Picture, dataset_of, look_alikes, recompressed, scene

CONTRACT = ImagePreprocessing(height=32, width=32)


def _prepared(
    pictures: TrainingImages, *, contract: ImagePreprocessing = CONTRACT, **options: Any
) -> tuple[TrainingImages, str]:
    """The pictures, and the last note about them."""
    notes = [""]

    def note(event: ProgressEvent) -> None:
        notes.append(event.note or notes[-1])

    values: dict[str, Any] = {
        "seed": 0, "allow_leaks": False, "skip_unreadable": False, "shares": (1 / 12, None),
        **options,
    }  # fmt: skip
    return pictures.prepared(contract, progress=note, **values), notes[-1]


def _open(images: list[Picture], **options: Any) -> TrainingImages:
    return TrainingImages(dataset=dataset_of(images, **options), place={})


def test_a_fixed_camera_is_warned_of_and_not_refused() -> None:
    done, note = _prepared(_open(look_alikes(20)))
    assert note.endswith(
        "near copies were not kept together: 4 of 4 held-out pictures look like ones in another "
        "part, held-out accuracy says little about new pictures"
    )
    assert done.split.sizes() == {"train": 16, "validation": 2, "test": 2}
    assert done.findings["near_copies_kept_together"] is False
    assert done.findings["held_out_copies"] in note


def test_near_copies_between_given_parts_are_refused_whatever_stands_in_the_way_of_others() -> None:
    """Class a is of one camera, so the validation part that is drawn shares its pictures."""
    images = [
        *look_alikes(6, seed=900),
        *(scene(seed) for seed in range(43)),
        *(recompressed(scene(seed)) for seed in range(8)),
    ]
    targets = np.array([0] * 6 + [1] * 40 + [0] * 3 + [1] * 8)
    test = np.arange(46, 57)
    with pytest.raises(DataError, match=r"judge by, 8 are near copies of pictures in another part"):
        _prepared(_open(images, targets=targets, fixed_test=test))
    _, note = _prepared(_open(images[:49], targets=targets[:49], fixed_test=test[:3]))
    assert "near copies were not kept together" in note


def test_copies_that_were_kept_together_need_no_words() -> None:
    images = [scene(seed) for seed in range(24)]
    done, note = _prepared(_open([*images, *images]))
    assert note == "48 pictures, 2 classes of 24 to 24; 24 exact copies"
    assert done.findings["near_copies_kept_together"] is True
    assert "held_out_copies" not in done.findings


def test_near_copies_that_nobody_looked_for_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeml.data.image_survey._MOST_COMPARED", 19)
    done, note = _prepared(_open(look_alikes(20)))
    assert "near copies were not looked for" in note
    assert "says little about new pictures" in note
    assert done.findings["near_copies_kept_together"] is False
    _, note = _prepared(_open(look_alikes(20), published=True))
    assert "near copies" not in note


def test_allowed_leaks_are_told() -> None:
    targets = np.repeat([0, 1], 9)
    images = [scene(0)] * 9 + [scene(seed) for seed in range(50, 59)]
    with pytest.raises(DataError, match="--allow-leaks"):
        _prepared(_open(images, targets=targets))
    _, note = _prepared(_open(images, targets=targets), allow_leaks=True)
    assert "no split keeps copies together" in note
    assert (
        "2 of 4 held-out pictures are copies of ones in another part, held-out accuracy may" in note
    )


def test_pictures_that_were_passed_over_are_not_compared(tmp_path: Path) -> None:
    for label, base in (("a", 0), ("b", 40)):
        (tmp_path / label).mkdir()
        for number in range(6):
            Image.fromarray(scene(base + number)).save(tmp_path / label / f"{number}.png")
    for number in range(5):
        (tmp_path / "a" / f"bad{number}.png").write_bytes(bytes([number]))
    done, note = _prepared(open_training_images(tmp_path, None), skip_unreadable=True)
    assert done.findings["near_copies"] == done.findings["nearly_black"] == 0
    assert "5 unreadable and left out" in note
    assert sum(done.split.sizes().values()) == 12


def test_pictures_are_not_copied_because_some_are_passed_over() -> None:
    images: list[Any] = [scene(seed, 20) for seed in range(60)]
    pictures = _open(images)
    images[7] = b"no picture"
    contract = ImagePreprocessing(height=256, width=256)
    tracemalloc.start()
    done, _ = _prepared(pictures, contract=contract, skip_unreadable=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * done.images.nbytes


def test_files_of_sixteen_bits_that_use_twelve_are_counted(tmp_path: Path) -> None:
    for label, base, files in (("a", 0, 8), ("b", 40, 6)):
        (tmp_path / label).mkdir()
        for number in range(files):
            values = scene(base + number)[..., 0].astype(np.uint16) * (16 if number > 2 else 257)
            Image.fromarray(values).save(tmp_path / label / f"{number}.png")
    done, note = _prepared(open_training_images(tmp_path, None))
    assert done.findings["nearly_black"] == 8
    assert "8 nearly black" in note


def _parquet(place: Path, pictures: list[bytes]) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    cells = [{"bytes": picture, "path": None} for picture in pictures]
    labels = [index % 2 for index in range(len(pictures))]
    parquet.write_table(arrow.table({"image": cells, "label": labels}), place)


def _png(image: Picture) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def test_copies_across_the_parts_of_a_parquet_folder_are_refused(tmp_path: Path) -> None:
    pictures = [_png(scene(seed)) for seed in range(20)]
    _parquet(tmp_path / "train.parquet", pictures)
    _parquet(tmp_path / "test.parquet", pictures[:8])
    with pytest.raises(DataError, match="8 are copies of pictures in another part"):
        _prepared(open_training_images(tmp_path, None))
    done, note = _prepared(open_training_images(tmp_path, None), allow_leaks=True)
    assert done.split.sizes()["test"] == 8
    assert "8 of 10 held-out pictures are copies of ones in another part" in note
    assert "held-out accuracy says little about new pictures" in note


def _pool(counts: tuple[int, ...] = (100, 40), *, share: float = 0.15) -> TrainingImages:
    targets = np.repeat(np.arange(len(counts)), counts)
    dataset = ImageDataset(
        name="pool",
        labels=tuple("abcdefghij"[: len(counts)]),
        items=np.zeros((len(targets), 2, 2), dtype=np.uint8),
        targets=targets,
        fingerprint="f",
    )
    split = make_split(dataset, seed=0, validation_share=share)
    return TrainingImages(dataset=dataset, place={}, split=split)


def _counts(pictures: TrainingImages, part: str) -> list[int]:
    targets = pictures.dataset.targets[getattr(pictures.split, part)]
    return np.bincount(targets, minlength=len(pictures.dataset.labels)).tolist()


@pytest.mark.parametrize(("per_class", "held"), [(2, 1), (10, 2), (20, 4), (28, 6)])
def test_so_many_of_each_class_a_fifth_to_choose_by(per_class: int, held: int) -> None:
    whole = _pool()
    few = whole.fewer(per_class, seed=0)
    assert _counts(few, "validation") == [held, held]
    assert _counts(few, "train") == [per_class - held] * 2
    assert set(few.split.train) <= set(whole.split.train)
    assert set(few.split.validation) <= set(whole.split.validation)
    assert not set(few.split.train) & set(few.split.validation)
    np.testing.assert_array_equal(few.split.test, whole.split.test)
    assert few.findings == {"per_class": per_class, "classes_with_fewer": {}}


def test_a_seed_decides_which_are_taken() -> None:
    whole = _pool()
    first, again, other = (whole.fewer(10, seed=seed).split for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.train, again.train)
    np.testing.assert_array_equal(first.validation, again.validation)
    assert not np.array_equal(first.train, other.train)
    assert not np.array_equal(first.validation, other.validation)


def test_a_short_validation_part_is_made_up_for_by_the_training_part() -> None:
    few = _pool((100, 100), share=0.05).fewer(50, seed=0)
    assert _counts(few, "validation") == [5, 5]
    assert _counts(few, "train") == [45, 45]


def test_a_class_with_fewer_is_taken_whole_and_named() -> None:
    whole, events = _pool(), list[ProgressEvent]()
    few = whole.fewer(50, seed=0, progress=events.append)
    assert (_counts(few, "train"), _counts(few, "validation")) == ([40, 28], [10, 6])
    assert few.findings["classes_with_fewer"] == {"b": 34}
    assert [event.note for event in events] == [
        "there are only 34 of 'b'; 50 were asked for, and all are taken"
    ]
    _pool((30,) * 6).fewer(50, seed=0, progress=events.append)
    assert "34 of" not in events[-1].note
    assert events[-1].note.count(" of '") == 3
    assert "and of 3 more classes" in events[-1].note


def test_all_are_taken_where_no_number_is_given() -> None:
    whole = _pool()
    assert whole.fewer(None, seed=0, progress=silent) is whole


def test_a_class_without_validation_pictures_stays_without() -> None:
    """A part of the user's own may lack a class."""
    whole = _pool((20, 20))
    split = Split(train=np.arange(5, 40), validation=np.arange(3), test=np.arange(3, 5))
    few = TrainingImages(dataset=whole.dataset, place={}, split=split).fewer(10, seed=0)
    assert (_counts(few, "train"), _counts(few, "validation")) == ([8, 10], [2, 0])
