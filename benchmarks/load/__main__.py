"""``python -m benchmarks.load``: can the load engine be believed?

The machine must be quiet: every part says what else ran.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.load.agreement import compare_with_loadgen
from benchmarks.load.beside_perf_analyzer import compare_with_perf_analyzer
from benchmarks.load.client_floors import measure_floors
from benchmarks.load.known_servers import measure_queue, measure_stall
from benchmarks.load.spinning import measure_spinning
from edgeml.runtime.host import detect_host

PARTS = ("floors", "loadgen", "perf-analyzer", "stall", "queue", "spinning")


def main() -> None:
    """Measure the parts that were asked for and write them as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help="parts to measure")
    parser.add_argument("--pairs", type=int, default=3, help="of LoadGen and our engine")
    parser.add_argument("--queries", type=int, default=3000, help="of each run beside LoadGen")
    parser.add_argument("--rate", type=float, default=120.0, help="queries a second beside LoadGen")
    parser.add_argument("--service-ms", type=float, default=4.5, help="of the model both ask")
    parser.add_argument(
        "--bundle",
        type=Path,
        default=Path("artifacts/clothing/bundle"),
        help="what perf_analyzer and our engine ask (perf-analyzer)",
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="of each short run")
    parser.add_argument("--out", type=Path, help="a JSON file; parts that it has are replaced")
    given = parser.parse_args()
    found: dict[str, Any] = {}
    if given.out and given.out.exists():
        found = json.loads(given.out.read_text(encoding="utf-8"))
    found["host"] = detect_host().to_json()
    for part in given.only.split(","):
        if part == "floors":
            found[part] = measure_floors(seconds=given.seconds, rounds=3)
        elif part == "loadgen":
            found[part] = compare_with_loadgen(
                pairs=given.pairs,
                num_queries=given.queries,
                rate_per_s=given.rate,
                service_ms=given.service_ms,
            )
        elif part == "perf-analyzer":
            found[part] = compare_with_perf_analyzer(given.bundle, pairs=5, num_queries=1000)
        elif part == "stall":
            found[part] = measure_stall()
        elif part == "queue":
            found[part] = measure_queue(num_queries=given.queries)
        elif part == "spinning":
            found[part] = measure_spinning(
                spins_us=(0, 50, 200, 1000), neighbours=(0, 1, 2), seconds=given.seconds
            )
        else:
            parser.error(f"no part '{part}'; of {', '.join(PARTS)} some were expected")
    text = json.dumps(found, indent=2) + "\n"
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
