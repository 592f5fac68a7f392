"""Parse, run one verb, print its result, and turn any error into one line and an exit code.

0: done. 1: a check, a gate that was asked for, or the environment failed. 2: the request or its
input is wrong. With ``--json`` a single JSON object is the only thing on stdout.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn

import edgeml
from edgeml.cli import (
    cascade,
    export,
    finetune,
    inspect,
    predict,
    profile,
    publish,
    recommend,
    robustness,
    serve,
    triton,
    triton_lint,
    triton_tune,
    tune,
    verify,
)
from edgeml.cli.output import Verb, progress_printer
from edgeml.errors import (
    BundleError,
    DataError,
    EdgemlError,
    InputError,
    IntegrityError,
    MissingExtraError,
)

VERBS: tuple[Verb, ...] = (
    finetune.VERB,
    export.VERB,
    inspect.VERB,
    verify.VERB,
    tune.VERB,
    predict.VERB,
    recommend.VERB,
    publish.VERB,
    publish.ROLLBACK,
    serve.VERB,
    profile.VERB,
    robustness.VERB,
    cascade.VERB,
    *triton.VERBS,
    triton_lint.VERB,
    triton_tune.VERB,
)

_REQUEST_ERRORS = (InputError, DataError, BundleError, MissingExtraError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; None takes the process's.

    Returns:
        The exit code.
    """
    debug = "--debug" in (sys.argv[1:] if argv is None else argv)
    return guarded(lambda: _run(argv), debug=debug)


def guarded(action: Callable[[], int], *, debug: bool = False) -> int:
    """Run something and turn whatever it raises into one ``error:`` line and an exit code.

    Args:
        action: Returns an exit code.
        debug: Whether to show tracebacks.
    """
    try:
        return action()
    except KeyboardInterrupt:
        return _fail("interrupted; run the command again", code=1, debug=debug)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our stdout has left: there is nobody to tell
        return 1
    except EdgemlError as exc:
        return _fail_with(exc, debug=debug)
    except OSError as exc:
        text = f"this machine refused ({_one_line(exc)}); free what it names and run again"
        return _fail(text, code=1, debug=debug)
    except Exception as exc:
        text = f"internal: {type(exc).__name__}: {_one_line(exc)}; report it with --debug's output"
        return _fail(text, code=1, debug=debug)


def _run(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    verb: Verb = arguments.verb
    with warnings.catch_warnings(), progress_printer(silent=arguments.json) as progress:
        warnings.showwarning = _show_warning
        # What matters in a picture becomes an error of ours; the rest is noise.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        outcome = verb.run(arguments, progress)
    if arguments.json:
        sys.stdout.write(json.dumps(outcome.result, allow_nan=False) + "\n")
    else:
        outcome.show()
    sys.stdout.flush()
    if outcome.wait is not None:
        outcome.wait()
    if outcome.error is not None:
        return _fail(outcome.error, code=outcome.code, debug=False)
    return outcome.code


def _parser() -> argparse.ArgumentParser:
    shared = LineParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="one JSON object on stdout")
    shared.add_argument("--debug", action="store_true", help="show tracebacks")
    parser = LineParser(
        prog="edgeml", description="From a checkpoint to a verified deployment.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"edgeml {edgeml.__version__}")
    groups = {"": parser.add_subparsers(metavar="VERB", required=True, parser_class=LineParser)}
    for verb in VERBS:
        group, _, name = verb.name.rpartition(" ")
        if group not in groups:
            above = groups[""].add_parser(group, help="run and inspect a Triton server")
            groups[group] = above.add_subparsers(
                metavar="VERB", required=True, parser_class=LineParser
            )
        sub = groups[group].add_parser(
            name, help=verb.help, description=verb.help, parents=[shared], allow_abbrev=False
        )
        verb.configure(sub)
        sub.set_defaults(verb=verb)
    return parser


class LineParser(argparse.ArgumentParser):
    """A parser whose errors are one line, like every other error."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print with its usage."""
        raise InputError(f"{message}; run '{self.prog} --help' for what is expected")


def _fail_with(error: EdgemlError, *, debug: bool = False) -> int:
    """Print an error's one line and return its exit code."""
    request = isinstance(error, _REQUEST_ERRORS) and not isinstance(error, IntegrityError)
    return _fail(_one_line(error), code=2 if request else 1, debug=debug)


def _fail(text: str, *, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    sys.stderr.write(f"error: {' '.join(text.split())}\n")
    return code


def _one_line(error: BaseException) -> str:
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", []))
    return " ".join(str(error).split()) + notes


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    sys.stderr.write(f"warning: {' '.join(str(message).split())}\n")
