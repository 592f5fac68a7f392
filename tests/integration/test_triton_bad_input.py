"""Bad input over HTTP, as JSON and with raw tensors, and over gRPC: refused with the reason.

A stub with NumPy 2 is in ``test_triton_faults``, a /dev/shm that is full at the start in
``test_triton_supervision``.
"""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest

from benchmarks.robustness.drafts import Draft, draft_of, to_binary, to_grpc, to_json
from benchmarks.robustness.neighbours import known_answers
from benchmarks.robustness.sending import Outcome, grpc_sender, send_http
from benchmarks.robustness.subjects import make_subjects
from edgeml.serving.repository.publish import publish_bundle
from edgeml.serving.server.running import TritonServer
from edgeml.serving.server.serve import start_triton
from tests.unit.serving.tiny_bundle import make_tiny_bundle

pytestmark = pytest.mark.triton

PROTOCOLS = ("json", "binary", "grpc")
REFUSED = {"json": "400", "binary": "400", "grpc": "INVALID_ARGUMENT"}
UNKNOWN = {"json": "404", "binary": "404", "grpc": "NOT_FOUND"}


@dataclass(frozen=True, kw_only=True)
class Served:
    """A server, its models, and a request to each that is answered."""

    server: TritonServer
    subjects: list
    drafts: dict[str, Draft]

    def send(self, draft: Draft, protocol: str, *, timeout_s: float = 10.0) -> Outcome:
        if protocol == "grpc":
            with grpc_sender(self.server.grpc) as sender:
                return sender.send(to_grpc(draft), timeout_s=timeout_s)
        made = to_json(draft) if protocol == "json" else to_binary(draft)
        return send_http(self.server.http, made, timeout_s=timeout_s)


@pytest.fixture(scope="module")
def served(triton, tmp_path_factory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("bad")
    subjects = make_subjects(root / "bundles", repository=root / "models")
    drafts = {row.model: draft_of(row.model, dict(row.feeds[0])) for row in subjects}
    with start_triton(root / "models", installation=triton) as server:
        yield Served(server=server, subjects=subjects, drafts=drafts)
        assert known_answers(server.grpc, subjects)


def first(**changes: object) -> Callable[[Draft], None]:
    """Change fields of the first input."""

    def change(draft: Draft) -> None:
        for name, value in changes.items():
            setattr(draft.inputs[0], name, value)

    return change


def repeated(times: int) -> Callable[[Draft], None]:
    def change(draft: Draft) -> None:
        for row in draft.inputs:
            row.data, row.raw = row.data * times, row.raw * times
            row.shape = [times * row.shape[0], *row.shape[1:]]

    return change


def emptied(*shape: int) -> Callable[[Draft], None]:
    def change(draft: Draft) -> None:
        for row in draft.inputs:
            row.data, row.raw, row.shape = [], b"", list(shape)

    return change


def values(position: int, array: np.ndarray) -> Callable[[Draft], None]:
    def change(draft: Draft) -> None:
        row = draft.inputs[position]
        row.data, row.raw = array.ravel().tolist(), array.tobytes()

    return change


def cut(draft: Draft) -> None:
    """Leave out the end of the values, and say so: only the shape is a lie."""
    row = draft.inputs[0]
    row.data, row.raw = row.data[:-1], row.raw[:-1]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kind of bad request and what is said of it."""

    name: str
    model: str
    change: Callable[[Draft], None]
    words: str
    protocols: tuple[str, ...] = PROTOCOLS


CASES = (
    Case(name="input name", model="tiny", change=first(name="picture"), words="picture"),
    Case(
        name="dtype",
        model="tiny",
        change=first(datatype="INT8"),
        words="expects 'UINT8'",
    ),
    Case(name="no dtype", model="tiny", change=first(datatype="uint8"), words=""),
    Case(name="shape", model="tiny", change=first(shape=[1, 8, 4, 6]), words="unexpected shape"),
    Case(name="rank", model="tiny", change=first(shape=[1, 192]), words="unexpected shape"),
    Case(
        name="input missing",
        model="lookup",
        change=lambda draft: draft.inputs.pop(),
        words="missing required input",
    ),
    Case(
        name="input twice",
        model="tiny",
        change=lambda draft: draft.inputs.append(copy.deepcopy(draft.inputs[0])),
        words="already exists",
    ),
    Case(name="batch", model="tiny", change=repeated(33), words="batch-size must be <= 32"),
    Case(name="batch of texts", model="sentiment_text", change=repeated(33), words="<= 32"),
    Case(name="no sample", model="tiny", change=emptied(0, 8, 8, 3), words="byte size mismatch"),
    Case(name="no token", model="sentiment", change=emptied(1, 0), words="is empty"),
    Case(name="no text", model="sentiment_text", change=emptied(0, 1), words="got 0"),
    Case(
        name="NaN",
        model="lookup",
        change=values(1, np.array([[1, np.nan, 2]], dtype=np.float32)),
        words="holds NaN",
        protocols=("binary", "grpc"),
    ),
    Case(
        name="id above the vocabulary",
        model="lookup",
        change=values(0, np.array([[4]])),
        words="out of data bounds",
    ),
    Case(
        name="id below the vocabulary",
        model="sentiment",
        change=lambda draft: values(0, np.full(draft.inputs[0].shape, -(10**6)))(draft),
        words="out of data bounds",
    ),
    Case(name="values cut", model="tiny", change=cut, words="", protocols=PROTOCOLS),
    Case(
        name="text that is no UTF-8",
        model="sentiment_text",
        change=first(raw=b"\x02\0\0\0\xff\xfe", shape=[1, 1]),
        words="not valid UTF-8",
        protocols=("binary", "grpc"),
    ),
    Case(
        name="length of a text",
        model="sentiment_text",
        change=first(raw=b"\xff\0\0\0abc", shape=[1, 1]),
        words="incomplete string data",
        protocols=("binary", "grpc"),
    ),
    Case(
        name="no picture",
        model="tiny_encoded",
        change=first(raw=b"\x03\0\0\0abc", data=["abc"], shape=[1, 1]),
        words="not an image",
    ),
)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_refused_with_the_reason(served, case, protocol):
    if protocol not in case.protocols:
        pytest.skip("cannot be said in this encoding")
    draft = copy.deepcopy(served.drafts[case.model])
    case.change(draft)
    outcome = served.send(draft, protocol)
    # Triton calls JSON that contradicts itself an internal error.
    assert outcome.status in {REFUSED[protocol], "500" if protocol == "json" else ""}, outcome
    assert case.words in outcome.text
    good = served.send(served.drafts["tiny"], protocol)
    assert good.status in ("200", "OK")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ["../tiny", "tiny/../lookup", "..", "ghost", "tiny_ghost"])
def test_a_model_that_is_not_there(served, name, protocol):
    outcome = served.send(replace(served.drafts["tiny"], model=name), protocol)
    # With slashes in it, HTTP has another path and no model.
    assert outcome.status == UNKNOWN[protocol] or (protocol != "grpc" and outcome.status == "400")
    assert served.server.is_running()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("version", ["2", "0", "-1", "one", "../1"])
def test_a_version_that_is_not_loaded(served, version, protocol):
    outcome = served.send(replace(served.drafts["tiny"], version=version), protocol)
    assert outcome.status in {UNKNOWN[protocol], REFUSED[protocol]}
    assert "version" in outcome.text or outcome.status == "404"


@pytest.mark.parametrize("kept", [0, 20, 150])
def test_a_body_over_http_that_ends_too_early(served, kept):
    whole = to_binary(served.drafts["tiny"])
    outcome = send_http(served.server.http, replace(whole, body=whole.body[:kept]))
    assert outcome.status in ("closed", "400")
    assert served.send(served.drafts["tiny"], "binary").status == "200"


@pytest.mark.parametrize("share", [0.2, 0.5, 0.95])
def test_a_message_over_grpc_that_ends_too_early(served, share):
    whole = to_grpc(served.drafts["tiny"])
    with grpc_sender(served.server.grpc) as sender:
        outcome = sender.send(whole[: int(share * len(whole))])
    assert outcome.status in ("INTERNAL", "INVALID_ARGUMENT")
    assert served.send(served.drafts["tiny"], "grpc").status == "OK"


def test_broken_and_half_copied_models_are_named_and_the_others_served(triton, tiny, tmp_path):
    """What a copy leaves that was stopped, or a disk that failed, takes no other model along."""
    root = tmp_path / "models"
    for name in ("good", "cut", "gone", "pbtxt", "nothing", "no_version"):
        publish_bundle(tiny, root, name=name)
    file = root / "cut/1/int8.onnx"
    file.write_bytes(file.read_bytes()[:-40])
    (root / "gone/1/int8.onnx").unlink()
    for path in (root / "pbtxt").rglob("*.pbtxt"):
        path.write_text(path.read_text()[:-100])
    (root / "nothing/config.pbtxt").write_bytes(b"")
    (root / "nothing/configs/cpu.pbtxt").write_bytes(b"")
    shutil.rmtree(root / "no_version/1")
    (root / "empty").mkdir()
    with start_triton(root, installation=triton) as server:
        rows = {row.name: row for row in server.models()}
        draft = draft_of("good", {"image": np.zeros((1, 8, 8, 3), dtype=np.uint8)})
        assert send_http(server.http, to_binary(draft)).status == "200"
        for name in rows.keys() - {"good"}:
            outcome = send_http(server.http, to_binary(replace(draft, model=name)))
            assert outcome.status in ("400", "404"), name
    assert rows["good"].state == "ready"
    assert {"cut", "gone", "pbtxt", "nothing", "no_version"} <= rows.keys()
    for name in rows.keys() - {"good"}:
        assert rows[name].state != "ready"
        assert rows[name].reason, name


FULL = """
import sys
from pathlib import Path
import numpy as np
from edgeml.errors import ServerError
from edgeml.serving.client.engine import TritonEngine
from edgeml.serving.server.serve import start_triton
from edgeml.serving.server.stubs import stubs_of

with start_triton(sys.argv[1], supervised=True) as server:
    stubs = stubs_of(server.token)
    fill = Path("/dev/shm/fill")
    try:
        with fill.open("wb") as file:
            while True:
                file.write(bytes(65536))
                file.flush()
    except OSError:
        pass
    for url in (server.grpc, server.http):
        engine = TritonEngine(url, model="wide")
        large = {"image": np.ones((32, 128, 128, 3), dtype=np.uint8)}
        for _ in range(5):
            try:
                engine.run(large)
            except ServerError as exc:
                print(exc)
        print(len(engine.run({"image": large["image"][:1]})["probabilities"]))
        engine.close()
    fill.unlink()
    engine = TritonEngine(server.grpc, model="wide")
    print(len(engine.run(large)["probabilities"]))
    engine.close()
    print(stubs_of(server.token) == stubs, server.supervision.restarts, server.supervision.cures)
"""


def may_mount() -> bool:
    words = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"]
    try:
        return subprocess.run(words, check=False, capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not may_mount(), reason="a /dev/shm of its own can be mounted by root alone")
def test_shared_memory_that_fills_up_while_serving_is_said(triton, tmp_path):
    """The server has a small /dev/shm of its own, which nobody else sees."""
    del triton
    bundle = make_tiny_bundle(tmp_path / "wide.bundle", size=128, name="wide")
    publish_bundle(bundle, tmp_path / "models")
    mount = 'mount -t tmpfs -o size=8m tmpfs /dev/shm && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, "-c", FULL]
    done = subprocess.run(
        [*command, str(tmp_path / "models")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert [line for line in lines if "/dev/shm is full" not in line] == [
        "1",
        "1",
        "32",
        "True 0 0",
    ]
    assert len(lines) == 14
