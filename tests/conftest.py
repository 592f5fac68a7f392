"""What every test may use: a seeded generator, and the flag that rewrites golden files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.trained import Trained

# The machine is shared: a slow example is no finding, and no database is left behind.
settings.register_profile(
    "edgeml",
    deadline=None,
    max_examples=60,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("edgeml")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regenerate-golden",
        action="store_true",
        help="rewrite the golden files from what the code does now; review the difference",
    )


@pytest.fixture(scope="session")
def regenerate_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--regenerate-golden"))


@pytest.fixture(scope="session", autouse=True)
def searches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep what exports find in a folder of this run: no test finds an earlier run's results."""
    place = tmp_path_factory.mktemp("searches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEML_SEARCH_CACHE", str(place))
        yield place


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20_240_229)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A fine-tuned checkpoint and its bundle; read-only. Takes half a minute, once."""
    from tests.trained import train_and_export

    return train_and_export(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of tiny graphs; read-only."""
    from tests.small import make_small_bundle

    return make_small_bundle(tmp_path_factory.mktemp("small") / "small.bundle").path


@pytest.fixture
def small_copy(small: Path, tmp_path: Path) -> Path:
    """A copy of it, to spoil."""
    return Path(shutil.copytree(small, tmp_path / "small.bundle"))
