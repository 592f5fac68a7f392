"""``edgeml triton tune`` against the real server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeml.core.bundle import Bundle
from edgeml.errors import InputError, ServerError
from edgeml.serving.installation.finding import Installation
from edgeml.serving.repository.config import CPU_CONFIG, parse_config
from edgeml.serving.repository.options import ServingOptions
from edgeml.serving.repository.publish import publish_bundle
from edgeml.serving.server.control import load_model, unload_model
from edgeml.serving.server.serve import TritonServer
from edgeml.workflows import triton_tuning
from edgeml.workflows.triton_tuning import tune_triton


def test_the_winner_is_written_with_its_table(
    triton: Installation, tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del triton
    folder = publish_bundle(tiny, tmp_path).path
    real = triton_tuning.make_settings
    monkeypatch.setattr(triton_tuning, "make_settings", lambda *a, **k: real(*a, **k)[::5])
    result = tune_triton(
        tmp_path, model="tiny", p99_ms=10_000, num_threads=2, callers=4, seconds=0.2
    )
    assert result["within"]
    assert len(result["rows"]) == 2
    assert all(row["per_s"] > 0 and row["errors"] == 0 for row in result["rows"])
    best = max(result["rows"], key=lambda row: row["per_s"])
    values = parse_config((folder / CPU_CONFIG).read_text(encoding="utf-8"))
    assert result["chosen"] == best
    assert values["instance_group"][0]["count"] == best["instances"]
    assert values["max_batch_size"] == best["max_batch_size"]
    assert json.loads((folder / "tuning.json").read_bytes())["chosen"] == best


def test_what_cannot_be_tuned_is_said(tiny: Bundle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no model 'other'"):
        tune_triton(tmp_path, model="other", p99_ms=1)
    publish_bundle(tiny, tmp_path, options=ServingOptions(warmup=False))
    with pytest.raises(InputError, match="has no golden sample to send"):
        tune_triton(tmp_path, model="tiny", p99_ms=1)


def test_a_part_of_a_configuration_is_refused_by_the_server(server: TritonServer) -> None:
    with pytest.raises(ServerError, match="the server answered"):
        load_model(server.http, "tiny", config={"name": "tiny"})
    with pytest.raises(ServerError, match="failed to load"):
        load_model(server.http, "none-such")
    unload_model(server.http, "everywhere")
    load_model(server.http, "everywhere")
