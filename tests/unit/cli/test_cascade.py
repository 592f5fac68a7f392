"""``edgeml cascade``, for people and for programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.small import LABELS
from tests.unit.cli.conftest import Run


@pytest.fixture
def pictures(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Ten pictures of each class, of one colour each."""
    folder = tmp_path / "pictures"
    for label in LABELS:
        (folder / label).mkdir(parents=True)
        for number in range(10):
            colour = tuple(int(value) for value in rng.integers(0, 256, 3))
            Image.new("RGB", (12, 12), colour).save(folder / label / f"{number}.png")
    return folder


def test_programs_get_the_curve_and_people_the_table(
    run: Run, small: Path, pictures: Path, tmp_path: Path
) -> None:
    ask = ("cascade", small, small, "--data", pictures, "--max-share", "0.25")
    value = run(*ask, "--json").json
    assert value["chosen"]["share"] == pytest.approx(0.25)
    assert value["points"][0]["share"] == pytest.approx(1.0)
    assert value["reported"]["point"]["paired"]["num_samples"] == 20
    assert value["first"] == "onnxruntime/cpu/int8/3"
    again = run(*ask, "--report", tmp_path / "report")
    assert again.code == 0
    for text in ("Alone and together", "reporting", "compute: 1/", "report.html"):
        assert text in again.out
    assert (tmp_path / "report/report.json").is_file()


def test_a_goal_that_is_not_kept_is_exit_code_1(run: Run, small: Path, pictures: Path) -> None:
    done = run("cascade", small, small, "--data", pictures, "--max-drop", "0.001", "--json")
    assert done.code == 1
    assert "20 samples cannot prove a drop of at most 0.10 points" in done.error
    assert done.json["chosen"] is None


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--max-drop", "0.1", "--max-share", "0.1"), "not allowed with"),
        (("--max-share", "1.5"), "max_share is 1.5"),
        (("--limit", "0"), "the limit 0"),
        (("--costs", "1", "-1"), "two finite numbers"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(
    run: Run, small: Path, pictures: Path, flags: tuple[str, ...], says: str
) -> None:
    done = run("cascade", small, small, "--data", pictures, *flags)
    assert done.code == 2
    assert says in done.error


def test_data_of_other_classes_is_named(run: Run, small: Path, pictures: Path) -> None:
    (pictures / "yak").rename(pictures / "zebra")
    done = run("cascade", small, small, "--data", pictures)
    assert done.code == 2
    assert "its class 'zebra' is none of the bundle's: cat, dog, owl, yak" in done.error
