"""``python -m benchmarks.peers``: our text path beside its peers.

Exit code 0: every peer has figures; 1: some have not; 2: nothing could be measured.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers import conditions, report
from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.environments import cache_folder
from benchmarks.peers.running import run
from benchmarks.peers.settings import Files, Protocol, Settings
from edgeml.errors import EdgemlError


def main(arguments: Sequence[str]) -> int:
    """Run with command-line arguments and return the exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        settings = _settings(parsed)
        results = run(
            settings, command=conditions.command(arguments), date=parsed.date, say=_to_stderr
        )
    except (EdgemlError, ValueError) as exc:
        _to_stderr(f"error: {exc}")
        return 2
    report.write(results, folder=parsed.out, name=parsed.name)
    sys.stdout.write("\n".join(report.tables(results)) + "\n")
    return 0 if all(row["valid"] for row in results["latency"]) else 1


def _settings(parsed: argparse.Namespace) -> Settings:
    data = os.environ.get("EDGEML_DATA_DIR")
    folder = Path(data) if data else None
    if folder is None and not (parsed.texts and parsed.calibration):
        raise ValueError(
            "EDGEML_DATA_DIR is not set; set it, or name files by --texts and --calibration"
        )
    texts = parsed.texts or folder / "sst2" / "dev.tsv"
    offline = parsed.offline
    if offline is None:
        banking = [folder / "banking77" / "test.csv"] if folder else []
        offline = [texts, *(path for path in banking if path.is_file())]
    return Settings(
        files=Files(
            checkpoint=parsed.checkpoint,
            bundle=parsed.bundle,
            texts=texts,
            calibration=parsed.calibration or folder / "sst2" / "train.tsv",
            offline=tuple(offline),
            artefacts=parsed.artefacts,
            cache=parsed.cache,
        ),
        peers=tuple(dict.fromkeys(parsed.peers.split(","))),
        protocol=Protocol(
            rounds=parsed.rounds,
            block=parsed.block,
            repeats=parsed.repeats,
            split_blocks=parsed.split_blocks,
            seed=parsed.seed,
        ),
    )


def _parser() -> argparse.ArgumentParser:
    plan = Protocol()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", allow_abbrev=False)
    add = parser.add_argument
    sentiment = Path("artifacts/sentiment")
    add("--checkpoint", type=Path, default=sentiment / "checkpoint", help="a Hugging Face folder")
    add("--bundle", type=Path, default=sentiment / "bundle", help="our bundle of it")
    add("--texts", type=Path, help="text<TAB>label lines; default $EDGEML_DATA_DIR/sst2/dev.tsv")
    add(
        "--calibration",
        type=Path,
        help="the same, for peers that calibrate; default sst2/train.tsv",
    )
    add(
        "--offline",
        type=Path,
        nargs="*",
        help="files of the whole list (.tsv, .csv); default the"
        " texts and banking77/test.csv; without a file, that table is left out",
    )
    add("--peers", default=",".join(PEERS), help="names with commas; default all: %(default)s")
    add("--rounds", type=int, default=plan.rounds)
    add("--block", type=int, default=plan.block, help="sentences of a block")
    add("--repeats", type=int, default=plan.repeats, help="passes over the whole list")
    add("--split-blocks", type=int, default=plan.split_blocks, help="blocks of the third table")
    add("--seed", type=int, default=plan.seed)
    add("--artefacts", type=Path, default=Path("artifacts/peers"), help="prepared models, logs")
    add("--cache", type=Path, default=cache_folder(), help="the peers' environments")
    add("--out", type=Path, default=Path("docs/results"), help="folder of the report")
    add("--name", default="peers-text", help="its name, without extension")
    add("--date", default=datetime.datetime.now(datetime.UTC).date().isoformat())
    return parser


def _to_stderr(message: str) -> None:
    sys.stderr.write(message + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
