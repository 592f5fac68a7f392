"""What every test may use: a seeded generator, and the flag that rewrites golden files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

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


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20_240_229)
