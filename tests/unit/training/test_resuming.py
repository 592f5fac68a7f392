"""A training of pictures that is killed goes on to the same weights, bit for bit."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeml.core.progress import ProgressEvent, silent
from edgeml.errors import DataError, InputError
from edgeml.training import compute, loop
from edgeml.training.automatic import augmentation_of
from edgeml.training.image_history import History, LabelledImages, Normalisation
from edgeml.training.image_optimizing import head_of
from edgeml.training.loop import train
from edgeml.training.settings import TrainingSettings
from edgeml.training.unfinished import Saving, look_for_state, state_place
from tests.unit.training.stopwatches import rigged

# Everything that has a state: averages, blended pictures, a head that learns first, bfloat16's
# choice, batch normalisation, dropout, weights of classes.
SETTINGS = TrainingSettings(
    epochs=4,
    batch_size=8,
    averaging=0.9,
    frozen_epochs=1,
    dropout=0.2,
    class_weights="sampling",
    precision="fp32",
    patience=9,
    num_threads=1,
    seed=3,
    augmentation=augmentation_of("strong"),
)
STEPS = 12
LONG = replace(SETTINGS, epochs=compute.MIN_STEPS // 3)  # long enough to be worth a measurement
LAYOUTS = ["channels_last", "contiguous"]


class KilledError(Exception):
    """Stands for the end of the process."""


def _data(seed: int, count: int = 24) -> LabelledImages:
    rng = np.random.default_rng(seed)
    targets = (np.arange(count) % 3).astype(np.int64)
    images = rng.integers(0, 200, (count, 12, 12, 3), dtype=np.uint8)
    images[np.arange(count), :, :, targets] += 50
    return LabelledImages(images=images, targets=targets)


def _network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=4),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(8, 3),
        )  # fmt: skip


def _run(
    saving: Saving | None, *, kill_at: int | None = None, settings: TrainingSettings = SETTINGS
) -> tuple[dict[str, Tensor], History]:
    network = _network()

    def progress(event: ProgressEvent) -> None:
        if event.done == kill_at:
            raise KilledError

    history = train(
        network,
        _data(0),
        _data(1, 12),
        normalisation=Normalisation(mean=(127.0,) * 3, std=(128.0,) * 3),
        settings=settings,
        head=head_of(network, 3),
        saving=saving,
        progress=silent if kill_at is None else progress,
    )
    return network.state_dict(), history


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def _saving(place: Path, **changes: Any) -> Saving:
    return replace(Saving(place=place, identity={"data": "d"}), **changes)


@pytest.mark.parametrize("kill_at", [1, 3, 4, 8, 11])
def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path, kill_at: int) -> None:
    whole, history = _run(None)
    with pytest.raises(KilledError):
        _run(_saving(tmp_path / "s"), kill_at=kill_at)
    resumed, again = _run(_saving(tmp_path / "s", resume=True))
    assert _same(whole, resumed)
    assert (again.resumed, again.best_epoch) == (1, history.best_epoch)
    assert again.curve == history.curve
    losses = [[row["validation_loss"] for row in one.epochs] for one in (history, again)]
    assert losses[0] == losses[1]


def test_a_training_may_be_killed_twice(tmp_path: Path) -> None:
    whole, _ = _run(None)
    for kill_at, resume in ((5, False), (8, True)):
        with pytest.raises(KilledError):
            _run(_saving(tmp_path / "s", resume=resume), kill_at=kill_at)
    resumed, again = _run(_saving(tmp_path / "s", resume=True))
    assert again.resumed == 2
    assert _same(whole, resumed)


def test_another_training_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        _run(_saving(tmp_path / "s"), kill_at=5)
    with pytest.raises(InputError, match="differs in data"):
        _run(_saving(tmp_path / "s", resume=True, identity={"data": "other"}))
    with pytest.raises(InputError, match="no unfinished training"):
        _run(_saving(tmp_path / "none", resume=True))


def test_a_damaged_state_is_told(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        _run(_saving(tmp_path / "s"), kill_at=5)
    file = tmp_path / "s" / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(DataError, match="damaged"):
        _run(_saving(tmp_path / "s", resume=True))


def test_what_will_be_replaced_is_told_each_time(tmp_path: Path) -> None:
    place = state_place(tmp_path / "c")
    place.mkdir()
    (place / "state.json").write_text("{")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")  # Python's own, which shows a line's equal text once
        for _ in range(3):
            assert not look_for_state(tmp_path / "c", resume=False)
    assert ["will be replaced" in str(row.message) for row in said] == [True] * 3


def test_frozen_epochs_move_the_head_alone() -> None:
    before = {name: value.clone() for name, value in _network().state_dict().items()}
    after, _ = _run(None, settings=replace(SETTINGS, epochs=1, averaging=0.0))
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"7.weight", "7.bias"}


def test_the_faster_way_to_compute_is_taken_and_written_down() -> None:
    cost = {"fp32 channels_last": 10.0, "fp32 contiguous": 8.0, "bf16 channels_last": 5.0}
    now = [0.0]

    def step(kind: compute.Compute) -> None:
        now[0] += cost.get(kind.name, 20.0) / 1e3

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compute, "processor_flags", lambda: frozenset({"avx512_bf16"}))
        chosen = compute.choose_compute("auto", step, num_steps=500, clock=lambda: now[0])
        laid_out = compute.choose_compute(
            "auto", step, layout="contiguous", num_steps=500, clock=lambda: now[0]
        )
    assert chosen.compute == compute.Compute(bf16=True, channels_last=True)
    assert chosen.step_ms["bf16 channels_last"] == pytest.approx(5.0)
    assert set(laid_out.step_ms) == {"fp32 contiguous", "bf16 contiguous"}
    assert laid_out.compute == compute.Compute(bf16=False, channels_last=False)
    written = chosen.to_json()
    assert (written["precision"], written["memory_layout"]) == ("bf16", "channels_last")
    short = compute.choose_compute("auto", step, num_steps=3)
    assert "too few" in short.reason
    assert short.compute.channels_last


def test_a_stopwatch_decides_nothing_where_a_precision_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ends(fast: str, **changes: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
        monkeypatch.setattr(loop, "choose_compute", rigged(fast))
        weights, history = _run(None, settings=replace(LONG, **changes))
        return weights, history.compute

    # Two memory layouts may have the same bits: what was chosen tells whether a stopwatch decided.
    (last, found), (measured, other) = (
        ends(f"fp32 {layout}", precision="auto") for layout in LAYOUTS
    )
    assert [row["memory_layout"] for row in (found, other)] == LAYOUTS
    weights, used = ends("fp32 contiguous", precision="fp32")
    assert _same(weights, last)
    assert (used["memory_layout"], used["reason"]) == ("channels_last", "asked for")
    # What was measured and written down is what asks for the same again.
    asks = {name: other[name] for name in ("precision", "memory_layout")}
    again, used = ends("fp32 channels_last", **asks)
    assert _same(again, measured)
    assert (used["memory_layout"], used["reason"]) == ("contiguous", "asked for")


def test_bfloat16_trains_and_evaluates_in_fp32() -> None:
    weights, history = _run(None, settings=replace(SETTINGS, precision="bf16", epochs=1))
    assert history.compute["bf16"] is True
    assert weights["0.weight"].dtype == torch.float32
