"""A hub on this machine, as its client sees one: branches, their files, and silence."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from huggingface_hub import constants, file_download


class LocalHub(ThreadingHTTPServer):
    """Holds one model or data set: files by branch; ``sent`` names those that were fetched."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.branches: dict[str, dict[str, bytes]] = {}
        self.sent: list[str] = []
        self.down = False

    def commit(self, branch: str) -> str:
        """Return what a branch stands for: another commit for other files."""
        about = repr((branch, sorted(self.branches[branch].items()))).encode()
        return hashlib.sha1(about, usedforsecurity=False).hexdigest()


class _Answer(BaseHTTPRequestHandler):
    server: LocalHub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        asked = unquote(self.path.split("?")[0])
        branches = self.server.branches
        if self.server.down:
            return self._send(b"", 503)
        by_commit = {self.server.commit(branch): branch for branch in branches}
        if asked.startswith("/api/"):
            revision = asked.partition("/revision/")[2] or "main"
            branch = by_commit.get(revision, revision)
            if branch not in branches:
                return self._send(b"", 404, {"X-Error-Code": "RevisionNotFound"})
            about = {"id": "owner/pets", "sha": self.server.commit(branch), "tags": []}
            rows = [{"rfilename": name} for name in branches[branch]]
            return self._send(json.dumps({**about, "siblings": rows}).encode())
        revision, _, name = asked.partition("/resolve/")[2].partition("/")
        branch = by_commit.get(revision, revision)
        files = branches.get(branch, {})
        if name not in files:
            return self._send(b"", 404, {"X-Error-Code": "EntryNotFound"})
        commit = self.server.commit(branch)
        tag = hashlib.sha256(files[name]).hexdigest()
        if self.command == "GET":
            self.server.sent.append(name)
        return self._send(files[name], 200, {"ETag": f'"{tag}"', "X-Repo-Commit": commit})

    def _send(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def ask_at(monkeypatch: pytest.MonkeyPatch, url: str, cache: Path) -> None:
    """Make the hub's client ask another place, and keep what it gets elsewhere."""
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[LocalHub]:
    """Serve a hub that the client asks, with an empty cache."""
    with LocalHub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        ask_at(monkeypatch, f"http://127.0.0.1:{server.server_port}", cache)
        yield server
        server.shutdown()
        thread.join(5)


@contextmanager
def silent(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[None]:
    """Have the client ask somebody who takes calls, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ask_at(monkeypatch, f"http://127.0.0.1:{listener.getsockname()[1]}", cache)
        yield
