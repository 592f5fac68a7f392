"""``edgeml finetune``."""

from __future__ import annotations

import argparse

from edgeml.cli.output import Outcome, Verb, show_line
from edgeml.core.progress import Progress


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", default="image-classification", help="image-classification")
    parser.add_argument("--data", required=True, help="named set, or folder class/xxx.png")
    parser.add_argument("--model", default="efficientnet-lite0", help="backbone")
    parser.add_argument("--out", required=True, help="folder of the checkpoint")
    parser.add_argument("--image-size", type=int, default=96, help="side in pixels (96)")
    parser.add_argument("--epochs", type=int, default=3, help="passes over the data (3)")
    parser.add_argument("--batch-size", type=int, default=64, help="pictures a step (64)")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="peak rate (0.002)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (0)")
    parser.add_argument("--threads", type=int, default=None, help="default: all we may use")
    parser.add_argument(
        "--weights", default="pretrained", choices=("pretrained", "random"), help="start from"
    )


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    import edgeml

    made = edgeml.finetune(
        data=arguments.data,
        out=arguments.out,
        task=arguments.task,
        model=arguments.model,
        image_size=arguments.image_size,
        weights=arguments.weights,
        settings=edgeml.TrainingSettings(
            epochs=arguments.epochs,
            batch_size=arguments.batch_size,
            learning_rate=arguments.learning_rate,
            seed=arguments.seed,
            num_threads=arguments.threads,
        ),
        progress=progress,
    )
    text = (
        f"{made.checkpoint}: validation accuracy {made.accuracy:.4f} after {made.epochs} epochs, "
        f"{made.seconds:.0f} s"
    )
    return Outcome(result=made.to_json(), show=lambda: show_line(text))


VERB = Verb(name="finetune", help="fine-tune a model on your data", configure=_configure, run=_run)
