"""Starting a server: what is refused before anything starts, and what its log is read for."""

from __future__ import annotations

import pytest

from edgeml.errors import HostError, InputError
from edgeml.serving.host.plain import is_plain, make_link, remove_link
from edgeml.serving.installation.finding import home
from edgeml.serving.server.serve import start_triton
from edgeml.serving.server.server_log import fatal_line, last_log_line, says_port_taken


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused_first(tmp_path, timeout_s):
    with pytest.raises(InputError, match="positive, finite"):
        start_triton(tmp_path / "nothing", timeout_s=timeout_s)


@pytest.mark.parametrize("kind", ["http_port", "grpc_port", "metrics_port"])
@pytest.mark.parametrize("port", [-1, 65536, 70000])
def test_a_port_that_is_none_is_refused_first(tmp_path, kind, port):
    with pytest.raises(InputError, match="1 to 65535"):
        start_triton(tmp_path / "nothing", **{kind: port})


@pytest.mark.parametrize("name", ["my triton", "a;b", "a\tb"])
def test_an_installation_that_a_shell_would_split_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setenv("EDGEML_TRITON_HOME", str(tmp_path / name))
    with pytest.raises(HostError, match=r"through a shell.*EDGEML_TRITON_HOME"):
        home()


def test_a_link_stands_at_a_plain_path(tmp_path):
    (tmp_path / "a b").mkdir()
    link = make_link(tmp_path / "a b", prefix="edgeml_test_")
    assert is_plain(link)
    assert link.resolve() == tmp_path / "a b"
    remove_link(link)
    remove_link(link)
    assert not link.parent.exists()
    assert (tmp_path / "a b").is_dir()


def test_the_last_error_is_told_and_no_warning(tmp_path):
    log = tmp_path / "log"
    log.write_text("E1123 10:00 x.cc:1] broken\nW1123 10:00 x.cc:2] an error?\nI1123 10:01 bye\n")
    assert last_log_line(log) == "E1123 10:00 x.cc:1] broken"
    log.write_text("W1123 10:00 x.cc:2] an error?\nI1123 10:01 bye\n")
    assert last_log_line(log) == "I1123 10:01 bye"
    assert not says_port_taken(log)
    assert fatal_line(log) == ""


def test_a_stub_that_died_is_quoted(tmp_path):
    log = tmp_path / "log"
    log.write_text("I1 x\nterminate called after throwing\n  what():  no such file\n")
    assert fatal_line(log) == "terminate called after throwing what():  no such file"
