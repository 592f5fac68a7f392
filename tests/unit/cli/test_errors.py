"""Whatever goes wrong: one ``error:`` line, the right exit code, nothing on stdout."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgeml import errors
from edgeml.cli import guarded, main
from edgeml.cli.main import VERBS
from tests.unit.cli.conftest import Run


@dataclass(frozen=True, kw_only=True)
class RequestCase:
    """A command line that nobody can run."""

    id: str
    arguments: tuple[str, ...]
    says: str


CASES = (
    RequestCase(id="nothing", arguments=(), says="VERB"),
    RequestCase(id="unknown-verb", arguments=("fly",), says="invalid choice: 'fly'"),
    RequestCase(id="unknown-flag", arguments=("verify", "b", "--fast"), says="--fast"),
    RequestCase(id="no-bundle", arguments=("verify",), says="required: bundle"),
    RequestCase(id="no-input", arguments=("predict", "b"), says="required: INPUT"),
    RequestCase(id="no-out", arguments=("export", "c"), says="required: --out"),
    RequestCase(
        id="no-number",
        arguments=("export", "c", "--out", "b", "--max-drop", "some"),
        says="invalid float value: 'some'",
    ),
    RequestCase(
        id="abbreviated",
        arguments=("export", "c", "--out", "b", "--max", "1"),
        says="unrecognized arguments: --max",
    ),
    RequestCase(
        id="drop-above-one",
        arguments=("export", "c", "--out", "b", "--max-drop", "5"),
        says="--max-drop: max_accuracy_drop is a fraction below 1, got 5",
    ),
    RequestCase(
        id="drop-nan", arguments=("export", "c", "--out", "b", "--max-drop", "nan"), says="fraction"
    ),
    RequestCase(
        id="export-threads",
        arguments=("export", "c", "--out", "b", "--threads", "0"),
        says="num_threads is 0",
    ),
    RequestCase(
        id="export-seed", arguments=("export", "c", "--out", "b", "--seed", "-1"), says="seed is -1"
    ),
    RequestCase(
        id="no-checkpoint",
        arguments=("export", "no-such", "--out", "b"),
        says="'edgeml finetune' makes one",
    ),
    RequestCase(
        id="choice", arguments=("publish", "b", "--repository", "r", "--fallback", "maybe"),
        says="invalid choice: 'maybe'",
    ),
    RequestCase(
        id="no-data",
        arguments=("finetune", "--data", "no-such", "--out", "c"),
        says="neither a data set (fashion-mnist, neu-det) nor a folder",
    ),
    RequestCase(
        id="task",
        arguments=("finetune", "--task", "poetry", "--data", "d", "--out", "c"),
        says="--task: the task is 'poetry'",
    ),
    RequestCase(
        id="model",
        arguments=("finetune", "--model", "resnet-9", "--data", "d", "--out", "c"),
        says="--model: there is no model 'resnet-9'",
    ),
    RequestCase(
        id="epochs",
        arguments=("finetune", "--epochs", "0", "--data", "d", "--out", "c"),
        says="epochs is 0",
    ),
    RequestCase(
        id="rate",
        arguments=("finetune", "--learning-rate", "nan", "--data", "d", "--out", "c"),
        says="learning_rate is nan",
    ),
    RequestCase(
        id="train-seed",
        arguments=("finetune", "--seed", "-5", "--data", "d", "--out", "c"),
        says="seed is -5",
    ),
    RequestCase(id="no-such-bundle", arguments=("inspect", "b"), says="b: this is not a bundle"),
    RequestCase(
        id="no-bundle-to-publish",
        arguments=("publish", "b", "--repository", "r"),
        says="b: this is not a bundle",
    ),
    RequestCase(id="triton-nothing", arguments=("triton",), says="VERB"),
    RequestCase(id="triton-unknown", arguments=("triton", "fly"), says="invalid choice: 'fly'"),
    RequestCase(
        id="triton-address",
        arguments=("triton", "status", "--url", "localhost"),
        says="--url: an address such as http://127.0.0.1:8000",
    ),
)  # fmt: skip


@pytest.mark.parametrize("flag", [(), ("--json",)], ids=["people", "json"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_request_that_is_wrong_is_code_2(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: RequestCase, flag: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*case.arguments, *flag)
    assert done.code == 2
    assert done.out == ""
    assert case.says in done.error
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_every_verb_has_help(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    for verb in VERBS:
        with pytest.raises(SystemExit) as caught:
            main([*verb.name.split(), "--help"])
        assert caught.value.code == 0
        out = capfd.readouterr().out
        assert verb.help.split()[0] in out
        assert "--json" in out


def test_the_version_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    import edgeml

    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capfd.readouterr().out == f"edgeml {edgeml.__version__}\n"


@dataclass(frozen=True, kw_only=True)
class CodeCase:
    """An error and the exit code that DESIGN gives its kind."""

    error: errors.EdgemlError
    code: int


ERRORS = (
    CodeCase(error=errors.InputError("x"), code=2),
    CodeCase(error=errors.SignatureError(tensor="t", expected="a", got="b"), code=2),
    CodeCase(error=errors.DataError(source="d", reason="r"), code=2),
    CodeCase(error=errors.BundleError(path="b", reason="r"), code=2),
    CodeCase(error=errors.MissingExtraError(module="torch", extra="train"), code=2),
    CodeCase(error=errors.IntegrityError(path="b", reason="r"), code=1),
    CodeCase(error=errors.GateError("x", gate="g", measured=1.0, limit=2.0), code=1),
    CodeCase(error=errors.ExportError("x"), code=1),
    CodeCase(
        error=errors.ParityError(variant="fp32", max_abs_diff=1.0, tolerance=0.1, sample=0), code=1
    ),
    CodeCase(error=errors.ProviderUnavailableError(requested="x", available=()), code=1),
    CodeCase(error=errors.ModelOutputError(tensor="t"), code=1),
    CodeCase(error=errors.InferenceError(reason="r"), code=1),
    CodeCase(error=errors.HostError(what="port 8001 is taken", needed="free it"), code=1),
    CodeCase(error=errors.ServerUnreachableError("x", url="u"), code=1),
    CodeCase(error=errors.ServerTimeoutError(url="u", timeout_s=1.0), code=1),
)


@pytest.mark.parametrize("case", ERRORS, ids=lambda case: type(case.error).__name__)
def test_each_kind_of_error_has_its_code(capfd: pytest.CaptureFixture[str], case: CodeCase) -> None:
    case.error.add_note("item 3 of the batch")

    def action() -> int:
        raise case.error

    assert guarded(action) == case.code
    assert capfd.readouterr().err == f"error: {case.error} (item 3 of the batch)\n"


@dataclass(frozen=True, kw_only=True)
class RaisedCase:
    """Something that a verb may die of, and what is said of it."""

    error: BaseException
    code: int
    says: str


@pytest.mark.parametrize(
    "case",
    [
        RaisedCase(
            error=OSError(28, "No space left on device", "/x"),
            code=1,
            says="error: this machine refused ([Errno 28] No space left on device: '/x'); free",
        ),
        RaisedCase(
            error=RuntimeError("a bug\nin two lines"),
            code=1,
            says="error: internal: RuntimeError: a bug in two lines; report it",
        ),
        RaisedCase(error=KeyboardInterrupt(), code=1, says="error: interrupted"),
        RaisedCase(error=MemoryError(), code=1, says="error: internal: MemoryError"),
    ],
    ids=lambda case: type(case.error).__name__,
)
def test_even_the_unexpected_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, case: RaisedCase
) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise case.error

    monkeypatch.setattr("edgeml.workflows.verifying.verify", die)
    done = run("verify", "b", "--json")
    assert (done.code, done.out) == (case.code, "")
    assert done.error.startswith(case.says)
    detailed = run("verify", "b", "--debug")
    assert detailed.code == case.code
    assert "Traceback" in detailed.err
    assert detailed.err.splitlines()[-1].startswith(case.says)


def test_without_a_server_triton_verbs_are_code_1(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEML_TRITON_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path))
    for arguments in (
        ("triton", "backends"),
        ("triton", "serve", "--repository", str(tmp_path)),
    ):
        done = run(*arguments, "--json")
        assert (done.code, done.out) == (1, "")
        assert "edgeml triton install" in done.error
    done = run("triton", "status", "--url", "http://127.0.0.1:1", "--json")
    assert (done.code, done.out) == (1, "")
    assert "http://127.0.0.1:1" in done.error


def test_a_reader_that_leaves_is_no_error(small: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "edgeml", "inspect", str(small)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        error = process.stderr.read()
    assert error == b""
    assert process.returncode == 1
