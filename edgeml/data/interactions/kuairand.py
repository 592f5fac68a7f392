"""KuaiRand-Pure: two weeks of short-video impressions under the standard policy.

Train is 25 to 30 April 2022, validation 1 May, test 2 to 8 May, in the log's own time zone (UTC+8).
Each impression is a row, repeated pairs of a user and a video included (3.3 %): rankers are judged
on what was shown. For retrieval a pair counts once, and a pair that was positive before a part
begins is neither recommended nor counted as relevant in it.
"""

from __future__ import annotations

import os
from pathlib import Path

from edgeml.core.files import sha256_of
from edgeml.data.interactions.log import InteractionLog, read_log
from edgeml.data.interactions.schema import Schema, parse_schema
from edgeml.errors import DataError

NAME = "kuairand-pure"
_FOLDER = "kuairand_pure"
_FILES = {
    "val_20220425_0430.parquet": "77d41160c6ad7b67ea9497881c965d7650d3e1b494c3f3b1dfcf8df11e6395c0",
    "test_20220501_0508.parquet": (
        "afe40f62090c7cf086700038c7f754b9598e4f3b7e2d3fd923fe662e30ea01cb"
    ),
    "user_features_pure.csv": "dc729a656301b4c6d07f713fe41d05ec9bfaab670b90e531c70037caf033c011",
    "video_features_basic_pure.csv": (
        "a6f7ee02684c5777422306cdc416e170302288aa89aca9dfea995edbd625bcc2"
    ),
}
_LOGS = ("val_20220425_0430.parquet", "test_20220501_0508.parquet")
_USER_CATEGORIES = (
    "user_active_degree",
    "follow_user_num_range",
    "fans_user_num_range",
    "friend_user_num_range",
    "register_days_range",
    *(f"onehot_feat{number}" for number in (0, 1, 2, 5, 6, 7, 9, 10, 11)),
)


def load_kuairand() -> InteractionLog:
    """Load 228,329 impressions; a long view is what counts as positive.

    Raises:
        DataError: ``$EDGEML_DATA_DIR/kuairand_pure`` is missing, or a file is not the published
            one.
    """
    root = os.environ.get("EDGEML_DATA_DIR")
    folder = Path(root) / _FOLDER if root else None
    if folder is None or not folder.is_dir():
        reason = (
            "$EDGEML_DATA_DIR/kuairand_pure is not there; set EDGEML_DATA_DIR to a folder that "
            "has it, or use movielens-100k"
        )
        raise DataError(source=NAME, reason=reason)
    for name, expected in _FILES.items():
        if not (folder / name).is_file() or sha256_of(folder / name) != expected:
            reason = f"'{name}' is missing or not the published file; copy the data set again"
            raise DataError(source=NAME, reason=reason)
    source = {"folder": _FOLDER, "files": dict(_FILES), "verified": "sha256"}
    return read_log([folder / name for name in _LOGS], _schema(folder), name=NAME, source=source)


def _schema(folder: Path) -> Schema:
    value = {
        "columns": {
            "user_id": "user",
            "video_id": "item",
            "time_ms": {"role": "time", "unit": "ms"},
            "long_view": "signal",
            "is_click": {"role": "signal", "name": "click"},
            "play_time_ms": {
                "role": "signal",
                "name": "watch_time",
                "kind": "amount",
                "scale": 0.001,
            },
            "tab": {"role": "context", "kind": "category"},
        },
        "users": {
            "file": str(folder / "user_features_pure.csv"),
            "key": "user_id",
            "columns": {
                **dict.fromkeys(_USER_CATEGORIES, "category"),
                "register_days": "number",
            },
        },
        "items": {
            "file": str(folder / "video_features_basic_pure.csv"),
            "key": "video_id",
            "columns": {
                "author_id": "hashed",
                "tag": "category",
                "video_type": "category",
                "upload_type": "category",
                "music_type": "category",
                "video_duration": "number",
                "upload_dt": "date",
            },
        },
        "positive": {"signal": "long_view", "at_least": 1},
        "split": {
            "kind": "temporal",
            "validation_from": "2022-05-01",
            "test_from": "2022-05-02",
            "timezone_hours": 8,
        },
    }
    return parse_schema(value, source=NAME)
