"""Publishing and rolling back on the real server: under load, undone, killed, and what is left."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgeml
from benchmarks.resilience.publishing import Callers, Seen, make_subject, run_cycles
from edgeml.errors import PublishError, ServerError
from edgeml.serving.client.engine import TritonEngine
from edgeml.serving.client.golden import check_golden
from edgeml.serving.guard.checks import GuardLimits
from edgeml.serving.host.ports import free_ports
from edgeml.serving.publishing.link import ServerLink
from edgeml.serving.repository.publish import versions_in
from edgeml.serving.server.http import get_json
from edgeml.serving.server.running import TritonServer
from edgeml.serving.server.serve import start_triton
from tests.unit.serving.publishing.killing import kill_each, steps_in
from tests.unit.serving.tiny_bundle import make_tiny_bundle
from tests.unit.serving.tiny_text import make_text_bundle

pytestmark = [pytest.mark.triton, pytest.mark.slow]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> list[edgeml.Bundle]:
    folder = tmp_path_factory.mktemp("bundles")
    return [make_tiny_bundle(folder / f"{seed}.bundle", seed=seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def served(triton, bundles, tmp_path_factory) -> Iterator[TritonServer]:
    """A supervised server on a repository of models that are published in version 1."""
    root = tmp_path_factory.mktemp("published") / "models"
    for name in ("bad", "loaded", "switched", "foreign"):
        edgeml.publish(bundles[0], repository=root, name=name)
    with start_triton(root, installation=triton, supervised=True) as server:
        yield server


def golden_of(url: str, model: str, bundle: edgeml.Bundle) -> bool:
    with contextlib.closing(TritonEngine(url, model=model)) as engine:
        return check_golden(engine, bundle).ok


def test_cycles_under_load_fail_no_request_and_answer_from_checked_versions(triton, tmp_path):
    subject = make_subject("image", tmp_path)
    found = run_cycles(subject, tmp_path / "models", cycles=20)
    assert (found["failures"], found["wrong_answers"], found["refused"]) == ({}, {}, [])
    assert found["versions_seen"] == 11
    assert found["requests"] > 300
    assert found["supervision"]["deaths"] == found["supervision"]["crashes"] == 0
    assert versions_in(tmp_path / "models/tiny") == {1, 10, 11}  # keep=3


def test_strings_never_meet_parts_of_two_versions(triton, tmp_path):
    found = run_cycles(make_subject("text", tmp_path), tmp_path / "models", cycles=2)
    assert (found["failures"], found["wrong_answers"], found["refused"]) == ({}, {}, [])
    assert found["versions_seen"] == 2
    assert steps_in(tmp_path / "models") == []


def test_a_version_that_the_server_refuses_is_undone_and_told(served, bundles, tmp_path):
    # It answered as a candidate and fails under its own name, the last moment at which it can.
    root, subject = served.repository, make_subject("image", tmp_path)
    seen = Seen()
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())

        loads: list[str] = []
        real = ServerLink.load

        def load(self, name):
            loads.append(name)
            if loads.count("bad") == 1 and name == "bad":
                raise ServerError("load failed for model 'bad': no memory", url=self.url)
            real(self, name)

        patch.setattr(ServerLink, "load", load)
        asked = type(subject)(
            bundles=subject.bundles, front="bad", feed=subject.feed, expected=subject.expected
        )
        options = {"contents": {"1": 0}, "seen": seen, "rate_per_s": 100.0, "callers": 2}
        with Callers(served, asked, **options), pytest.raises(PublishError) as caught:
            edgeml.publish(bundles[1], repository=root, name="bad", server=served.http)
    assert "version 2 of 'bad' is not served" in str(caught.value)
    assert "no memory" in str(caught.value)
    assert "version 1 keeps serving" in str(caught.value)
    assert (sum(seen.failures.values()), sum(seen.wrong.values())) == (0, 0)
    assert not (root / "bad/2").exists()
    assert steps_in(root) == []
    assert golden_of(served.grpc, "bad", bundles[0])
    assert not any("__candidate" in row.name for row in served.models() if row.state == "ready")


@pytest.mark.parametrize(
    ("model", "step", "version"),
    [("loaded", "candidate loaded", 1), ("switched", "loaded switched", 2)],
)
def test_a_kill_beside_a_server_is_mended_by_the_next(served, bundles, model, step, version):
    options = {"repository": str(served.repository), "name": model, "server": served.grpc}
    order = {"verb": "publish", "subject": str(bundles[1].path), "step": step, "options": options}
    kill_each([order])
    assert golden_of(served.grpc, model, bundles[version - 1])
    done = edgeml.publish(bundles[1], repository=served.repository, name=model, server=served.grpc)
    assert "had been cut off" in done.recovered
    assert golden_of(served.grpc, model, bundles[1])
    assert steps_in(served.repository) == []
    index = get_json(f"{served.control}/v2/repository/index", method="POST")
    assert not [
        row for row in index if "__candidate" in row["name"] and row.get("state") == "READY"
    ]


def test_a_server_of_another_repository_is_named(served, bundles, tmp_path):
    root = tmp_path / "models"
    edgeml.publish(bundles[0], repository=root)
    with pytest.raises(PublishError, match=r"it serves another repository.*version 1 keeps"):
        edgeml.publish(bundles[1], repository=root, server=served.grpc)
    assert steps_in(root) == []
    assert not (root / "tiny/2").exists()


def test_a_plain_start_serves_whatever_kills_left(triton, bundles, tmp_path):
    root = tmp_path / "models"
    texts = [make_text_bundle(tmp_path / f"text{seed}.bundle", seed=seed) for seed in (0, 1)]
    steps = ("staging", "placing", "switching", "half switched {}", "switched {}", "committed")
    orders, expected = [], {}
    for number, step in enumerate(steps):
        name = f"m{number}"
        edgeml.publish(bundles[0], repository=root, name=name)
        orders.append(_order(bundles[1], root, name, step.format(name)))
        expected[name] = bundles
    for name, step in (("t0", "bridged t0_text"), ("t1", "switched t1_tokenizer")):
        edgeml.publish(texts[0], repository=root, name=name)
        orders.append(_order(texts[1], root, name, step))
        expected[f"{name}_text"] = texts
    kill_each(orders)
    http, grpc, metrics = free_ports((0, 0, 0))
    command = [str(triton.tritonserver), f"--model-repository={root}", "--model-config-name=cpu"]
    command += [f"--backend-directory={triton.backends}", f"--metrics-port={metrics}"]
    command += [f"--http-port={http}", f"--grpc-port={grpc}"]
    command += [f"--{kind}-address=127.0.0.1" for kind in ("http", "grpc", "metrics")]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 90
        while True:
            with contextlib.suppress(ServerError):
                get_json(f"http://127.0.0.1:{http}/v2/health/ready")
                break
            assert server.poll() is None, (tmp_path / "log").read_text()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        for name, (old, new) in expected.items():
            url = f"grpc://127.0.0.1:{grpc}"
            assert golden_of(url, name, old) != golden_of(url, name, new), name
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=60)


def _order(bundle: edgeml.Bundle, root: Path, name: str, step: str) -> dict:
    options = {"repository": str(root), "name": name}
    return {"verb": "publish", "subject": str(bundle.path), "step": step, "options": options}


def test_a_leftover_candidate_is_not_loaded_by_serve(triton, bundles, tmp_path):
    root = tmp_path / "models"
    edgeml.publish(bundles[0], repository=root)
    edgeml.publish(bundles[0], repository=root, name="left")
    shutil.move(root / "left", root / "tiny__candidate")
    config = (root / "tiny__candidate/config.pbtxt").read_text()
    (root / "tiny__candidate/config.pbtxt").write_text(
        config.replace('"left"', '"tiny__candidate"')
    )
    (root / "tiny__candidate/.candidate.json").write_text(json.dumps({"model": "tiny"}))
    with start_triton(root, installation=triton) as server:
        rows = {row.name: row for row in server.models()}
        assert rows["tiny"].state == "ready"
        assert rows["tiny__candidate"].state == "skipped"
        assert (
            "a candidate that an interrupted publish of 'tiny' left"
            in rows["tiny__candidate"].reason
        )
        done = edgeml.publish(bundles[1], repository=root, server=server.http)
        assert done.server == server.http
        assert not (root / "tiny__candidate").exists()


def test_a_guarded_server_lets_nobody_publish(triton, bundles, tmp_path):
    root = tmp_path / "models"
    edgeml.publish(bundles[0], repository=root)
    with (
        start_triton(root, installation=triton, guard=GuardLimits()) as server,
        pytest.raises(ServerError, match=r"--guard-allow-control"),
    ):
        edgeml.publish(bundles[1], repository=root, server=server.grpc)
    assert versions_in(root / "tiny") == {1}
