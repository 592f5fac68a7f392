"""What the suites share: the models, a real Triton server, our HTTP app, and two tiers.

``--tier quick`` (the default) takes at most five minutes on two cores; ``--tier full`` adds input
sizes, encoders and installations. Where ``artifacts/clothing/bundle`` or
``artifacts/sentiment/bundle`` is there it is measured; otherwise a small seeded model is made, and
each figure says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
from PIL import Image

import edgeml
from benchmarks.recording import SEEDED, Model
from edgeml.core.timing import TimingPlan
from edgeml.errors import EdgemlError
from edgeml.workflows.profiling.deployments import parse_targets
from edgeml.workflows.profiling.servers import Running, running_servers

# These run in environments of their own, with libraries that this one lacks.
collect_ignore_glob = ["zoo/recipes/*", "peers/engines/*"]

ROOT = Path(__file__).parents[1]
_CLASSES = 10
_PER_CLASS = 12
# Whose weights come from a package.
_PRETRAINED = ("efficientnet-lite0",)
# Seconds that one export's search may take: only the suites' own timings count, not the search's.
# A busy machine gets more turns, each twice as long, which go on where the last was stopped.
_BUDGET_S = {"quick": 20.0, "full": 60.0}
_TURNS = 4


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the tiers."""
    parser.addoption("--tier", choices=tuple(_BUDGET_S), default="quick", help="quick or full")


def pytest_configure(config: pytest.Config) -> None:
    """Name the mark of the full tier."""
    config.addinivalue_line("markers", "full_tier: runs with --tier full only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, in the quick tier, what only the full one runs."""
    if config.getoption("--tier") == "full":
        return
    left = [item for item in items if item.get_closest_marker("full_tier")]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """A checkpoint and its bundle at one input size."""

    checkpoint: Path
    bundle: edgeml.Bundle


class Deploy(Protocol):
    """Makes a model at an input size."""

    def __call__(self, size: int, backbone: str = "efficientnet-lite0") -> Deployed:
        """Return it; made at the first call."""
        ...


@pytest.fixture(scope="session")
def tier(request: pytest.FixtureRequest) -> str:
    """Which tier runs."""
    return str(request.config.getoption("--tier"))


@pytest.fixture(scope="session", autouse=True)
def _searches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what exports find in a folder of this run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEML_SEARCH_CACHE", str(tmp_path_factory.mktemp("searches")))
        yield


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of generated pictures: speed does not depend on what they show."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for label in range(_CLASSES):
        folder = root / f"class{label}"
        folder.mkdir()
        base = rng.integers(0, 256, size=(8, 8, 3))
        for number in range(_PER_CLASS):
            noisy = np.clip(base + rng.normal(0, 20, size=base.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).resize((64, 64)).save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def deploy(pictures: Path, tier: str, tmp_path_factory: pytest.TempPathFactory) -> Deploy:
    """Fine-tune briefly and export a backbone at an input size, once a session for each."""
    made: dict[tuple[int, str], Deployed] = {}

    def at(size: int, backbone: str = "efficientnet-lite0") -> Deployed:
        if (size, backbone) not in made:
            place = tmp_path_factory.mktemp(f"{backbone}-{size}")
            # From random weights a network needs longer to tell the patterns apart.
            pretrained = backbone in _PRETRAINED
            trained = edgeml.finetune(
                data=pictures,
                model=backbone,
                weights="pretrained" if pretrained else "random",
                image_size=size,
                settings=edgeml.TrainingSettings(epochs=1 if pretrained else 6, batch_size=16),
                out=place / "checkpoint",
            )
            bundle = export_with(
                lambda budget_s: (
                    edgeml.export(
                        trained.checkpoint,
                        out=place / "clothing.bundle",
                        settings=edgeml.ExportSettings(
                            timing=TimingPlan(rounds=10, calls=1), budget_s=budget_s
                        ),
                    ).bundle
                ),
                budget_s=_BUDGET_S[tier],
                variants=("fp32", "fp16", "int8"),
            )
            made[size, backbone] = Deployed(checkpoint=trained.checkpoint, bundle=bundle)
        return made[size, backbone]

    return at


@pytest.fixture(scope="session")
def model(deploy: Deploy) -> Model:
    """The clothing recipe's bundle where it was made, else a seeded one."""
    found = _artefact("clothing")
    return found or Model(bundle=deploy(64).bundle, origin=SEEDED)


@pytest.fixture(scope="session")
def items(model: Model) -> list[bytes]:
    """The bundle's golden pictures, as files."""
    return [model.bundle.open_file(name) for name in model.bundle.golden().inputs]


@pytest.fixture(scope="session")
def servers(model: Model) -> Iterator[dict[str, Running]]:
    """Our app and a real Triton on the model, one thread each."""
    words = ["http", "triton-grpc", "triton-http", "triton-http-json", "triton-shm"]
    with running_servers(model.bundle, parse_targets(words), num_threads=1) as running:
        yield running


@pytest.fixture(scope="session")
def triton(servers: dict[str, Running], model: Model) -> Iterator[edgeml.Predictor]:
    """The model behind a real Triton server, over gRPC."""
    server = servers["triton-grpc"]
    with edgeml.connect(server.urls["grpc"], model=server.model, bundle=model.bundle) as predictor:
        yield predictor


def export_with(
    export: Callable[[float], edgeml.Bundle], *, budget_s: float, variants: tuple[str, ...]
) -> edgeml.Bundle:
    """Export until the variants that a suite needs are there; what was tried is not tried again."""
    for turn in range(_TURNS):
        bundle = export(budget_s * 2**turn)
        if all(bundle.manifest.variant(name) is not None for name in variants):
            break
    return bundle


def _artefact(name: str) -> Model | None:
    place = ROOT / "artifacts" / name / "bundle"
    with contextlib.suppress(EdgemlError):
        return Model(bundle=edgeml.Bundle.read(place), origin=f"artifacts/{name}/bundle")
    return None
