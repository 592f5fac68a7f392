"""A worker of the protocol without a model: behaves or misbehaves as its argument says."""

import json
import sys
import time


def main(behaviour: str) -> None:
    for line in sys.stdin:
        count = len(json.loads(line).get("texts", ()))
        if behaviour == "dies":
            sys.stderr.write("no memory in /some/private/place.py\n")
            sys.exit(3)
        if behaviour == "hangs":
            time.sleep(60)
        sys.stdout.write(_answer(behaviour, count) + "\n")
        sys.stdout.flush()


def _answer(behaviour: str, count: int) -> str:
    if behaviour == "babbles":
        return "Loading weights..."
    if behaviour == "refuses":
        return json.dumps({"ok": False, "error": "ValueError: /opt/lib/x.py says\nno"})
    reply = {"ns": [1000] * count, "labels": ["good"] * count, "scores": [0.9] * count}
    return json.dumps({"ok": True, "wall_ns": 1000 * count, "cpu_ns": 500 * count, **reply})


if __name__ == "__main__":
    main(sys.argv[1])
