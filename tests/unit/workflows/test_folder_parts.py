"""Folders with parts of their own, and files that cannot be opened, as a training finds them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeml.core.progress import ProgressEvent
from edgeml.errors import DataError
from edgeml.tasks.image import ImagePreprocessing
from edgeml.workflows.image_data import TrainingImages, open_training_images

EIGHT = ImagePreprocessing(height=8, width=8)


def _picture(place: Path, rng: np.random.Generator) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(place)


def _prepared(
    data: Path, *, skip: bool = False, allow_leaks: bool = False
) -> tuple[TrainingImages, str]:
    """Return the pictures, and what was said of them."""
    events: list[ProgressEvent] = []
    pictures = open_training_images(data, None).prepared(
        EIGHT,
        seed=0,
        allow_leaks=allow_leaks,
        skip_unreadable=skip,
        shares=(0.1, None),
        progress=events.append,
    )
    return pictures, events[-1].note


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for part, count in {"train": 8, "val": 3, "test": 4}.items():
        for label in ("cat", "dog"):
            for number in range(count):
                _picture(tmp_path / "pets" / part / label / f"{number}.png", rng)
    return tmp_path / "pets"


def test_the_note_says_that_the_parts_are_the_folders_own(parts: Path) -> None:
    _picture(parts / "loose.png", np.random.default_rng(1))
    pictures, note = _prepared(parts)
    assert pictures.dataset.labels == ("cat", "dog")
    assert pictures.split.sizes() == {"train": 16, "validation": 6, "test": 8}
    assert "; the data's own parts are used: train, validation, test" in note
    assert "1 pictures beside class folders ignored" in note
    assert pictures.findings["own_parts"] == ["train", "validation", "test"]


def test_copies_are_looked_for_over_the_folders_own_parts(parts: Path) -> None:
    (parts / "test/cat/copy.png").write_bytes((parts / "train/cat/0.png").read_bytes())
    with pytest.raises(DataError, match="1 are copies"):
        _prepared(parts)
    pictures, _ = _prepared(parts, allow_leaks=True)
    assert pictures.split.sizes() == {"train": 16, "validation": 6, "test": 9}


def test_groups_are_looked_for_over_the_folders_own_parts(parts: Path) -> None:
    files = sorted(path.relative_to(parts).as_posix() for path in parts.rglob("*.png"))
    rows = [f"{name},{'same' if name.endswith('cat/0.png') else name}" for name in files]
    (parts / "groups.csv").write_text("file,group\n" + "\n".join(rows))
    with pytest.raises(DataError, match="2 are of the same group"):
        _prepared(parts)


def test_a_broken_link_is_refused_or_left_out_like_any_bad_picture(parts: Path) -> None:
    for part in ("train", "test"):
        (parts / part / "dog/gone.png").symlink_to(parts / "nowhere.png")
    with pytest.raises(DataError) as caught:
        _prepared(parts)
    assert "2 of 32 pictures cannot be used: " in str(caught.value)
    assert "train/dog/gone.png: this path does not exist" in str(caught.value)
    assert "--skip-unreadable" in str(caught.value)
    assert "\n" not in str(caught.value)
    pictures, note = _prepared(parts, skip=True)
    assert pictures.split.sizes() == {"train": 16, "validation": 6, "test": 8}
    assert "2 unreadable and left out" in note
