"""``gpupilot accuracy``: how often the served model is right on labelled pictures."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpupilot_agent.cli import options, show
from gpupilot_agent.cli.examples import examples
from gpupilot_agent.cli.progress import meter
from gpupilot_envs.errors import InputInvalid

if TYPE_CHECKING:
    from gpupilot_agent.mobilenet.accuracy import Accuracy, Classifier

EXAMPLES = examples(
    "gpupilot accuracy tiny-imagenet-200/val --model deploy/triton/cpu/mobilenetv4/1/model.onnx",
    "gpupilot accuracy imagenet/val --url http://127.0.0.1:8000 --batch 8 --json",
)


def accuracy(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Pictures in folders named by WordNet id, or Tiny-ImageNet's train or val folder.",
            metavar="FOLDER",
        ),
    ],
    model: Annotated[Path | None, typer.Option(help="An ONNX file to run here.")] = None,
    url: Annotated[
        str | None, typer.Option(help="A running server to ask instead, KServe v2 over HTTP.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=128, help="Pictures per request.")] = 8,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Score so many, evenly over the folder.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Score the model on an ImageNet-style folder, Tiny-ImageNet's included."""
    from gpupilot_agent.mobilenet.accuracy import measure
    from gpupilot_agent.mobilenet.classes import labelled, thinned

    found = labelled(folder)
    if limit is not None:
        found = thinned(found, limit)
    with (
        _classifier(model, url) as classify,
        meter(f"classifying {folder.name}", len(found.pictures)) as told,
    ):
        result = measure(found, classify, batch=batch, on_progress=told)
    if as_json:
        show.as_json(asdict(result))
    else:
        _print(result, str(folder))


def _classifier(model: Path | None, url: str | None) -> AbstractContextManager[Classifier]:
    from gpupilot_agent.mobilenet.accuracy import from_file
    from gpupilot_agent.triton.client import Client

    if model is not None and url is None:
        return nullcontext(from_file(model))
    if url is not None and model is None:
        return Client(url)
    raise InputInvalid("model", "--model and --url" if model else "none", "one of --model, --url")


def _print(result: Accuracy, title: str) -> None:
    low, high = result.top1_interval
    rows = [
        ("pictures", f"{result.pictures:,}"),
        ("classes among them", f"{result.classes:,}"),
        ("top-1 of 1000", f"{result.top1:.2%}"),
        ("95 % interval", f"{low:.2%} to {high:.2%}"),
        ("top-5 of 1000", f"{result.top5:.2%}"),
        ("top-1 of those present", f"{result.top1_of_present:.2%}"),
        ("labels not of the 1000", f"{result.unknown:,}"),
        ("unreadable files", f"{result.unreadable:,}"),
    ]
    show.table(title, ("measure", "value"), rows)
