"""A small log in somebody's own columns: text ids, tastes that can be learnt, signals, features."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SCHEMA = """
columns:
  viewer: user
  clip: item
  watched_at: {role: time, unit: s}
  finished: signal
  seconds: {role: signal, kind: amount}
  device: {role: context, kind: category}
users: {file: viewers.csv, key: viewer, columns: {country: category, age: number}}
items: {file: clips.csv, key: clip, columns: {genre: category, length: number, added: date}}
positive: {signal: finished, at_least: 1}
split: {kind: temporal, validation: 0.15, test: 0.15}
"""
BARE_SCHEMA = """
columns: {viewer: user, clip: item, watched_at: time}
"""
GENRES = ("news", "sport", "music", "film")


def write_log(
    folder: Path, *, users: int = 150, items: int = 60, rows: int = 6000, seed: int = 0
) -> Path:
    """Write ``log.csv``, ``viewers.csv``, ``clips.csv``, ``schema.yaml`` and ``bare.yaml``."""
    rng = np.random.default_rng(seed)
    taste = rng.integers(0, len(GENRES), users)
    genre = np.arange(items) % len(GENRES)
    lines = ["watched_at,viewer,clip,finished,seconds,device,note"]
    for row in range(rows):
        user = int(rng.integers(users))
        liked = rng.random() < 0.5
        near = np.flatnonzero(genre == taste[user])
        item = int(rng.choice(near) if liked else rng.integers(items))
        wanted = rng.random() < (0.8 if genre[item] == taste[user] else 0.15)
        seconds = rng.gamma(2, 20 if wanted else 4)
        device = ("tv", "phone")[int(rng.integers(2))]
        lines.append(
            f"{1_700_000_000 + row * 60},u-{user:03d},c{item:02d},{int(wanted)},{seconds:.1f},"
            f"{device},x"
        )
    (folder / "log.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    viewers = [f"u-{user:03d},{('de', 'fr')[user % 2]},{20 + user % 40}" for user in range(users)]
    (folder / "viewers.csv").write_text("\n".join(["viewer,country,age", *viewers]) + "\n")
    clips = [f"c{n:02d},{GENRES[genre[n]]},{30 + n},2023-10-{1 + n % 28:02d}" for n in range(items)]
    (folder / "clips.csv").write_text("\n".join(["clip,genre,length,added", *clips]) + "\n")
    (folder / "schema.yaml").write_text(SCHEMA, encoding="utf-8")
    (folder / "bare.yaml").write_text(BARE_SCHEMA, encoding="utf-8")
    return folder / "log.csv"
