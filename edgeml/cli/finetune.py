"""``edgeml finetune``."""

from __future__ import annotations

import argparse
from typing import Any

from edgeml.cli.output import Outcome, Verb, show_line
from edgeml.core.progress import Progress
from edgeml.errors import InputError

_TEXT = "text-classification"
# What a setting is called on the command line; None there leaves the task's own default.
_SETTINGS = ("epochs", "batch_size", "learning_rate", "seed")
_TEXT_SETTINGS = (*_SETTINGS, "max_length", "class_weights", "precision")


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--task", default="image-classification", help="image-classification, text-classification"
    )
    parser.add_argument("--data", required=True, help="named set, folder class/xxx.png, or table")
    parser.add_argument(
        "--model",
        help="backbone (efficientnet-lite0), or text encoder: name, folder, hub id (minilm-l6)",
    )
    parser.add_argument("--out", required=True, help="folder of the checkpoint")
    parser.add_argument("--epochs", type=int, help="passes over the data (3)")
    parser.add_argument("--batch-size", type=int, help="samples a step (images 64, texts 32)")
    parser.add_argument(
        "--learning-rate", type=float, help="peak rate (images 0.002, texts 0.00005)"
    )
    parser.add_argument("--seed", type=int, help="seed of everything random (0)")
    parser.add_argument("--threads", type=int, default=None, help="default: all we may use")
    parser.add_argument(
        "--weights", default="pretrained", choices=("pretrained", "random"), help="start from"
    )
    images = parser.add_argument_group("images")
    images.add_argument("--image-size", type=int, help="side in pixels (96)")
    texts = parser.add_argument_group("texts")
    texts.add_argument("--text-column", help="column of the texts in a table")
    texts.add_argument("--label-column", help="column of the labels in a table")
    texts.add_argument(
        "--multi-label", metavar="SEP", help="a text may have several labels, separated by SEP"
    )
    texts.add_argument("--max-length", type=int, help="tokens after which a text is cut (128)")
    texts.add_argument(
        "--class-weights", choices=("none", "balanced"), help="weigh rare classes more (none)"
    )
    texts.add_argument(
        "--precision", choices=("auto", "fp32", "bf16"), help="of training steps (auto)"
    )
    texts.add_argument(
        "--resume", action="store_true", help="go on with OUT.partial, an unfinished training"
    )


def _settings(arguments: argparse.Namespace) -> Any:
    """Return the task's settings, with what was given in the place of its defaults."""
    import edgeml

    names = _TEXT_SETTINGS if arguments.task == _TEXT else _SETTINGS
    for name in (name for name in _TEXT_SETTINGS if name not in names):
        if getattr(arguments, name) is not None:
            raise InputError(
                f"this option is for {_TEXT}, and the task is {arguments.task}; leave it out or "
                "change the task",
                item=f"--{name.replace('_', '-')}",
            )
    given = {name: getattr(arguments, name) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    if arguments.task == _TEXT:
        from edgeml.training.text_settings import TextTrainingSettings

        return TextTrainingSettings(**given, num_threads=arguments.threads)
    return edgeml.TrainingSettings(**given, num_threads=arguments.threads)


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    import edgeml

    made = edgeml.finetune(
        data=arguments.data,
        out=arguments.out,
        task=arguments.task,
        model=arguments.model,
        image_size=arguments.image_size,
        weights=arguments.weights,
        settings=_settings(arguments),
        text_column=arguments.text_column,
        label_column=arguments.label_column,
        multi_label_separator=arguments.multi_label,
        resume=arguments.resume,
        progress=progress,
    )
    text = (
        f"{made.checkpoint}: validation accuracy {made.accuracy:.4f} after {made.epochs} epochs, "
        f"{made.seconds:.0f} s"
    )
    return Outcome(result=made.to_json(), show=lambda: show_line(text))


VERB = Verb(name="finetune", help="fine-tune a model on your data", configure=_configure, run=_run)
