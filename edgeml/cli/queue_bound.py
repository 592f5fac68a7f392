"""Arguments of ``edgeml publish`` that bound a model's queue by a deadline."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from edgeml.cli.durations import duration
from edgeml.errors import InputError

if TYPE_CHECKING:
    from edgeml.serving.repository.options import ServingOptions


def add_queue_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--queue-for-deadline",
        type=duration,
        default=None,
        metavar="TIME",
        help="bound the queue by what is answered so soon after it came, as 100ms: largest batch, "
        "requests that may wait and for how long follow from it; a lone instance gets a second "
        "one, and they take turns",
    )
    parser.add_argument(
        "--item-time",
        type=duration,
        default=None,
        metavar="TIME",
        help="what one item takes an instance, for --queue-for-deadline (as the export measured)",
    )
    parser.add_argument(
        "--priorities",
        action="store_true",
        help="requests have one of three priorities, and the highest that waits goes first",
    )


def bounded(options: ServingOptions, arguments: argparse.Namespace) -> ServingOptions:
    """Return options with the bound that was asked for, if one was.

    Raises:
        InputError: A time for an item is given without a deadline, or the deadline does not do.
    """
    import edgeml

    if arguments.queue_for_deadline is None:
        if arguments.item_time is not None:
            raise InputError(
                "--item-time is given without --queue-for-deadline; both or none were expected; "
                "name the deadline, or leave the time out"
            )
        return options
    return edgeml.queue_for_deadline(
        arguments.bundle,
        arguments.queue_for_deadline,
        item_s=arguments.item_time,
        options=options,
    )
