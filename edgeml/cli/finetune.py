"""``edgeml finetune``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from edgeml.cli.output import Outcome, Verb, show_line
from edgeml.core.progress import Progress
from edgeml.errors import InputError

_TEXT = "text-classification"
_LOG = "recommendation"
# What a setting is called on the command line; None there leaves the task's own default.
_SHARED = ("epochs", "batch_size", "learning_rate", "seed", "class_weights", "precision")
_IMAGE_SETTINGS = ("dropout", "label_smoothing", "averaging", "frozen_epochs", "memory_layout")
_TEXT_SETTINGS = ("max_length",)
# Of the shares of the parts, and what to do about groups, copies and unreadable files.
_IMAGE_OPTIONS = (
    *(
        "groups",
        "allow_leaks",
        "skip_unreadable",
        "profile",
        "validation_share",
        "test_share",
        "per_class",
        "teacher",
    ),
)


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--task",
        default="image-classification",
        help="image-classification, text-classification, recommendation",
    )
    parser.add_argument(
        "--data",
        required=True,
        help="named set; folder class/xxx.png or table file,label of pictures; table of texts; log",
    )
    parser.add_argument(
        "--model",
        help="images: efficientnet-lite0 (the default), -lite1, -lite2, resnet-18, "
        "package.module:factory of your own; texts: minilm-l6; both: folder or hub id",
    )
    parser.add_argument("--out", required=True, help="folder of the checkpoint")
    parser.add_argument(
        "--epochs", type=int, help="passes over the data (images: by its size; texts 3)"
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        help="samples a step (images 8 to 64 by size of the data, texts 32)",
    )
    parser.add_argument(
        "--learning-rate", type=float, help="peak rate (images: by the network; texts 0.00005)"
    )
    parser.add_argument("--seed", type=int, help="seed of everything random (0)")
    parser.add_argument("--threads", type=int, default=None, help="default: all we may use")
    parser.add_argument(
        "--weights", default="pretrained", choices=("pretrained", "random"), help="start from"
    )
    parser.add_argument(
        "--class-weights",
        choices=("auto", "none", "balanced", "sampling"),
        help="weigh rare classes more (images auto, texts none; texts know no auto, no sampling)",
    )
    parser.add_argument(
        "--precision", choices=("auto", "fp32", "bf16"), help="of training steps (auto)"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with OUT.partial, an unfinished training, where there is one",
    )
    _configure_images(parser.add_argument_group("images"))
    texts = parser.add_argument_group("texts")
    texts.add_argument("--text-column", help="column of the texts in a table")
    texts.add_argument("--label-column", help="column of the labels in a table")
    texts.add_argument(
        "--multi-label", metavar="SEP", help="a text may have several labels, separated by SEP"
    )
    texts.add_argument("--max-length", type=int, help="tokens after which a text is cut (128)")
    logs = parser.add_argument_group("logs of interactions")
    logs.add_argument("--schema", help="schema.yaml: what the columns of the log mean")


def _configure_images(images: argparse._ArgumentGroup) -> None:
    images.add_argument("--image-size", type=int, help="side in pixels (the model's own, or 96)")
    images.add_argument(
        "--augmentation",
        choices=("none", "light", "medium", "strong"),
        help="changes of training pictures (by the size of the data)",
    )
    images.add_argument("--no-flip", action="store_true", help="never mirror: sides have a meaning")
    images.add_argument("--dropout", type=float, help="share of values dropped before the head")
    images.add_argument("--label-smoothing", type=float, help="share spread over all classes")
    images.add_argument("--averaging", type=float, help="decay of a running average of the weights")
    images.add_argument(
        "--frozen-epochs", type=int, help="first epochs in which the head alone learns"
    )
    images.add_argument(
        "--memory-layout",
        choices=("channels_last", "contiguous"),
        help="of training steps (measured; channels_last where a precision is given)",
    )
    images.add_argument(
        "--groups",
        metavar="CSV",
        help="table file,group: pictures of a group stay in one part (groups.csv of the folder)",
    )
    images.add_argument(
        "--allow-leaks", action="store_true", help="report shared pictures, do not refuse them"
    )
    images.add_argument(
        "--skip-unreadable", action="store_true", help="leave unreadable pictures out, and say so"
    )
    images.add_argument("--validation-share", type=float, help="to choose by (0.083)")
    images.add_argument("--test-share", type=float, help="to report on (as the validation share)")
    images.add_argument(
        "--per-class", type=int, help="pictures of each class to learn from, a fifth to choose by"
    )
    images.add_argument(
        "--teacher", metavar="CHECKPOINT", help="learn from the answers of a larger model as well"
    )
    images.add_argument(
        "--profile", action="store_true", help="measure where the time of a step goes"
    )


def _given(arguments: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the options that the user gave; a switch that is off was not given."""
    found = {name: getattr(arguments, name) for name in names}
    return {
        name: value for name, value in found.items() if value is not None and value is not False
    }


def _text_settings(arguments: argparse.Namespace) -> Any:
    from edgeml.training.text_settings import TextTrainingSettings

    _refuse_foreign(arguments, (*_IMAGE_SETTINGS, *_IMAGE_OPTIONS, "augmentation", "no_flip"))
    given = _given(arguments, (*_SHARED, *_TEXT_SETTINGS))
    return TextTrainingSettings(**given, num_threads=arguments.threads)


def _log_settings(arguments: argparse.Namespace) -> Any:
    from edgeml.workflows.recommendation_settings import RecommenderSettings

    foreign = ("class_weights", "precision", *_TEXT_SETTINGS, *_IMAGE_SETTINGS, *_IMAGE_OPTIONS)
    _refuse_foreign(arguments, (*foreign, "augmentation", "no_flip", "resume", "model"))
    given = _given(arguments, ("epochs", "batch_size", "learning_rate", "seed"))
    return RecommenderSettings(**given, num_threads=arguments.threads)


def _refuse_foreign(arguments: argparse.Namespace, names: tuple[str, ...]) -> None:
    for name in _given(arguments, names):
        other = _TEXT if name in _TEXT_SETTINGS else "image-classification"
        raise InputError(
            f"this option is for {other}, and the task is {arguments.task}; leave it out or "
            "change the task",
            item=f"--{name.replace('_', '-')}",
        )


def _image_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what finetune takes for images: options, and settings in the automatic ones' place."""
    from edgeml.training.automatic import augmentation_of
    from edgeml.workflows.training_images import ImageOptions

    _refuse_foreign(arguments, _TEXT_SETTINGS)
    overrides = _given(arguments, (*_SHARED, *_IMAGE_SETTINGS))
    if arguments.threads is not None:
        overrides["num_threads"] = arguments.threads
    if arguments.augmentation:
        overrides["augmentation"] = augmentation_of(arguments.augmentation)
    if arguments.no_flip:  # of whatever augmentation the size of the data will choose
        overrides["flip"] = False
    options = _given(arguments, _IMAGE_OPTIONS)
    options |= {name: Path(options[name]) for name in ("groups", "teacher") if name in options}
    return {"overrides": overrides, "options": ImageOptions(**options)}


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    import edgeml

    if arguments.task == _TEXT:
        more: dict[str, Any] = {"settings": _text_settings(arguments)}
    elif arguments.task == _LOG:
        more = {"settings": _log_settings(arguments)}
    else:
        more = _image_arguments(arguments)
    made = edgeml.finetune(
        data=arguments.data,
        out=arguments.out,
        task=arguments.task,
        model=arguments.model,
        image_size=arguments.image_size,
        weights=arguments.weights,
        text_column=arguments.text_column,
        label_column=arguments.label_column,
        multi_label_separator=arguments.multi_label,
        resume=arguments.resume,
        schema=arguments.schema,
        progress=progress,
        **more,
    )
    figure = "NDCG@10" if arguments.task == _LOG else "accuracy"
    text = (
        f"{made.checkpoint}: validation {figure} {made.accuracy:.4f} after {made.epochs} epochs, "
        f"{made.seconds:.0f} s"
    )
    return Outcome(result=made.to_json(), show=lambda: show_line(text))


VERB = Verb(name="finetune", help="fine-tune a model on your data", configure=_configure, run=_run)
