"""A recipe that is run again takes what is finished, and nothing that was asked for differently."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import edgeml
from edgeml.core.progress import silent
from export.clothing import PRESETS
from export.image_recipe import _asked
from export.trainings import train


@pytest.fixture
def finetuned(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stand in for the training, which other tests run; return what it was asked for."""
    calls: list[dict[str, Any]] = []

    def finetune(**asked: Any) -> SimpleNamespace:
        calls.append(asked)
        asked["out"].mkdir(exist_ok=True)
        return SimpleNamespace(accuracy=0.9, seconds=60.0)

    monkeypatch.setattr(edgeml, "finetune", finetune)
    return calls


def test_what_is_finished_is_taken(tmp_path: Path, finetuned: list[dict[str, Any]]) -> None:
    asked, place = _asked(PRESETS["full"]), tmp_path / "checkpoint"
    first = train(asked, place, progress=silent)
    again = train(asked, place, resume=True, progress=silent)
    assert first == again
    assert again.seconds == 60.0
    assert len(finetuned) == 1
    # Without being asked to, nothing is taken.
    train(asked, place, progress=silent)
    assert len(finetuned) == 2


def test_another_preset_is_refused(tmp_path: Path, finetuned: list[dict[str, Any]]) -> None:
    place = tmp_path / "checkpoint"
    train(_asked(PRESETS["full"]), place, progress=silent)
    with pytest.raises(edgeml.EdgemlError, match=r"other settings; .* --artifacts"):
        train(_asked(PRESETS["full"], epochs=7), place, resume=True, progress=silent)
    assert len(finetuned) == 1


@pytest.mark.parametrize("killed", [True, False])
def test_a_killed_one_goes_on(
    tmp_path: Path, finetuned: list[dict[str, Any]], killed: bool
) -> None:
    if killed:
        (tmp_path / "checkpoint.partial").mkdir()
    train(_asked(PRESETS["full"]), tmp_path / "checkpoint", resume=True, progress=silent)
    assert finetuned[0]["resume"] is killed
