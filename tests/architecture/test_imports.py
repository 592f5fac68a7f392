"""What an import may load. By subprocess: this process has loaded everything already."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from dataclasses import dataclass

import pytest

import edgeml.bench
import edgeml.core
import edgeml.tasks

_HEAVY = ("torch", "transformers", "onnx", "tritonclient", "sklearn", "onnxruntime")


def _modules(package: str, path: list[str]) -> list[str]:
    names = [f"{package}.{module.name}" for module in pkgutil.iter_modules(path)]
    assert names, package
    return [package, *names]


@dataclass(frozen=True, kw_only=True)
class ImportCase:
    """Modules to import, and packages that must not come with them."""

    id: str
    imports: tuple[str, ...]
    forbidden: tuple[str, ...]


CASES = (
    ImportCase(id="edgeml", imports=("edgeml",), forbidden=("numpy", "PIL", "rich", *_HEAVY)),
    ImportCase(id="errors", imports=("edgeml.errors",), forbidden=("numpy", "PIL", *_HEAVY)),
    ImportCase(
        id="core",
        imports=tuple(_modules("edgeml.core", list(edgeml.core.__path__))),
        forbidden=("PIL", "edgeml.tasks", *_HEAVY),
    ),
    ImportCase(
        id="tasks",
        imports=tuple(_modules("edgeml.tasks", list(edgeml.tasks.__path__))),
        forbidden=_HEAVY,
    ),
    # The generator's process holds what it measures, and nothing that it does not need.
    ImportCase(
        id="bench",
        imports=tuple(_modules("edgeml.bench", list(edgeml.bench.__path__))),
        forbidden=("PIL", "grpc", "edgeml.workflows", *_HEAVY),
    ),
    # A client that sends tensors needs no pillow.
    ImportCase(
        id="image-without-pillow",
        imports=("edgeml.tasks.image", "edgeml.tasks.predictor"),
        forbidden=("PIL", *_HEAVY),
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_an_import_loads_no_more_than_it_may(case: ImportCase) -> None:
    code = f"import sys, json, {', '.join(case.imports)}; print(json.dumps(list(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert run.returncode == 0, run.stderr
    loaded = set(json.loads(run.stdout))
    assert set(case.imports) <= loaded
    assert not loaded.intersection(case.forbidden)
    assert run.stderr == ""
