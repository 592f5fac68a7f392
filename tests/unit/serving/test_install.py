"""Installing: interrupted, repeated, impossible; without downloading anything."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path

import pytest

from edgeml.errors import HostError
from edgeml.serving.installation import finding as installation
from edgeml.serving.installation import installing as install_module
from edgeml.serving.installation import libraries
from edgeml.serving.installation.finding import environment_path, find_installation, home
from edgeml.serving.installation.installing import install


def fake_wheels(site: Path, minor: int) -> None:
    """Put real, harmless programs where the wheels put Triton's."""
    server = site / "pytriton/tritonserver"
    program = shutil.which("true")
    for relative in (
        "bin/tritonserver",
        f"python_backend_stubs/3.{minor}/triton_python_backend_stub",
        "backends/python/libtriton_python.so",
    ):
        path = server / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(program, path)


@pytest.fixture
def pip_calls(monkeypatch):
    calls = []

    def pip(site, minor):
        calls.append(site)
        fake_wheels(site, minor)

    monkeypatch.setattr(install_module, "_pip_install", pip)
    monkeypatch.setattr(install_module, "has_interpreter_library", lambda minor: minor == 11)
    return calls


def test_a_second_install_is_immediate(tmp_path, pip_calls):
    steps = []
    first = install(tmp_path, report=steps.append)
    assert any("installing Triton" in step for step in steps)
    assert (first.origin, first.python, first.serves_gpu) == ("own", 11, False)
    steps.clear()
    assert install(tmp_path, report=steps.append) == find_installation(tmp_path) == first
    assert (steps, len(pip_calls)) == ([], 1)


def test_it_assembles_a_backend_directory_that_needs_no_environment(tmp_path, pip_calls):
    done = install(tmp_path)
    stub = done.backends / "python/triton_python_backend_stub"
    assert stub.is_symlink()
    assert stub.stat().st_mode & stat.S_IXUSR
    assert (done.backends / "onnxruntime/model.py").is_file()
    assert (done.backends / "onnxruntime/edgeml_stub.py").is_file()
    assert str(pip_calls[0]) in (done.backends / "python/edgeml.json").read_text()


def test_the_backend_is_brought_up_to_date_without_a_new_environment(tmp_path, pip_calls):
    model = install(tmp_path).backends / "onnxruntime/model.py"
    text = model.read_text()
    model.write_text("raise SystemExit")
    install(tmp_path)
    assert (model.read_text(), len(pip_calls)) == (text, 1)


def test_an_environment_of_other_requirements_is_named_and_replaced(
    tmp_path, pip_calls, monkeypatch
):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(installation, "requirements_digest", lambda: "before")
    monkeypatch.setattr(install_module, "requirements_digest", lambda: "before")
    old = environment_path(tmp_path, 11)
    monkeypatch.undo()
    old.mkdir(parents=True)
    (old / "complete.json").write_text("{}")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostError, match=r"py311-before' was .* other needs; .* triton install"):
        find_installation(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(install_module, "_pip_install", fake_wheels)
    monkeypatch.setattr(install_module, "has_interpreter_library", lambda minor: minor == 11)
    steps = []
    install(tmp_path, report=steps.append)
    assert any(f"{old} is of another edgeml" in step for step in steps)
    assert find_installation(tmp_path).origin == "own"


def test_an_interrupted_install_is_not_found_and_is_redone(tmp_path, pip_calls, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    left = environment_path(tmp_path, 11) / "site/half"
    left.mkdir(parents=True)
    with pytest.raises(HostError, match="run: edgeml triton install"):
        find_installation(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(install_module, "_pip_install", fake_wheels)
    monkeypatch.setattr(install_module, "has_interpreter_library", lambda minor: minor == 11)
    install(tmp_path)
    assert not left.exists()


def test_a_failed_step_leaves_nothing_that_is_found(tmp_path, pip_calls, monkeypatch):
    monkeypatch.setattr(install_module, "missing_libraries", lambda files: ["libfoo.so.1"])
    with pytest.raises(HostError, match=r"cannot find libfoo\.so\.1; install the system packages"):
        install(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostError, match="no Triton server"):
        find_installation(tmp_path)


def test_pip_without_the_wheels_is_named(tmp_path, monkeypatch):
    empty = tmp_path / "wheels"
    empty.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(empty))
    monkeypatch.setattr(install_module, "has_interpreter_library", lambda minor: True)
    with pytest.raises(HostError, match=r"pip could not install Triton .*nvidia-pytriton"):
        install(tmp_path / "home")


def test_a_python_without_pip_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(install_module, "has_interpreter_library", lambda minor: True)
    monkeypatch.setattr(install_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(HostError, match="-m ensurepip"):
        install(tmp_path)


def test_another_system_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(install_module.platform, "system", lambda: "Darwin")
    with pytest.raises(HostError, match=r"this is Darwin on .*Linux"):
        install(tmp_path)


def test_a_missing_interpreter_library_names_its_package(tmp_path, monkeypatch):
    monkeypatch.setattr(install_module, "has_interpreter_library", lambda minor: False)
    monkeypatch.setattr(libraries.os, "geteuid", lambda: 1000)
    with pytest.raises(HostError, match=r"install the system package libpython3\.1[12]"):
        install(tmp_path)


def test_the_running_python_is_preferred(tmp_path, monkeypatch):
    monkeypatch.setattr(install_module, "_pip_install", fake_wheels)
    monkeypatch.setattr(install_module, "has_interpreter_library", lambda minor: True)
    expected = sys.version_info.minor if sys.version_info.minor in (11, 12) else 11
    assert install(tmp_path).python == expected


def test_missing_libraries_are_read_from_the_loader(tmp_path, monkeypatch):
    assert libraries.missing_libraries([Path(shutil.which("true")).resolve()]) == []
    loader = tmp_path / "ldd"
    loader.write_text("#!/bin/sh\necho '  libpython3.11.so.1.0 => not found'\necho ' b.so => /b'\n")
    loader.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert libraries.missing_libraries([tmp_path]) == ["libpython3.11.so.1.0"]


def test_a_server_on_the_path_is_second_choice(tmp_path, monkeypatch, pip_calls):
    program = tmp_path / "opt/bin/tritonserver"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    library = tmp_path / "opt/backends/onnxruntime/libtriton_onnxruntime.so"
    library.parent.mkdir(parents=True)
    library.touch()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    found = find_installation(tmp_path / "home")
    assert (found.origin, found.tritonserver, found.serves_gpu) == ("path", program, True)
    assert found.backends == tmp_path / "opt/backends"
    install(tmp_path / "home")
    assert find_installation(tmp_path / "home").origin == "own"


def test_the_place_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEML_TRITON_HOME", str(tmp_path / "named"))
    assert home() == tmp_path / "named"
    monkeypatch.delenv("EDGEML_TRITON_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert home() == tmp_path / "cache/edgeml/triton"
    assert home(tmp_path) == tmp_path
