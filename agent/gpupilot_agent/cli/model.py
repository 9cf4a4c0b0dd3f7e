"""``gpupilot model``: the ONNX file and Triton model repositories for CPU and GPU around it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpupilot_agent.cli import options, show
from gpupilot_agent.cli.examples import examples
from gpupilot_agent.cli.outcome import tell
from gpupilot_envs.errors import StackFailed

if TYPE_CHECKING:
    from gpupilot_agent.mobilenet.weights import Card, Kind

EXAMPLES = examples(
    "gpupilot model --out deploy/triton",
    "gpupilot model --weights seeded --seed 7 --out models",
    "gpupilot model --weights public --revision main --out models --json",
)


class Weights(StrEnum):
    """Which weights the network has."""

    AUTO = "auto"
    PUBLIC = "public"
    SEEDED = "seeded"


def model(
    out: options.Out,
    weights: Annotated[
        Weights,
        typer.Option(help="public ones, seeded ones (no knowledge), or public while online."),
    ] = Weights.AUTO,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit on the hub.")] = "main",
    seed: options.Seed = 0,
    profile: options.Profile = options.DEFAULT_PROFILE,
    as_json: options.AsJson = False,
) -> None:
    """Get MobileNetV4 conv small and write a Triton model repository for CPU and one for GPU.

    The batcher's settings are the profile's. Written to the folder: cpu/ for the Python backend
    with onnxruntime, gpu/ for Triton's own onnxruntime backend.
    """
    from gpupilot_agent.stack.tools import model_store
    from gpupilot_agent.triton import repository
    from gpupilot_envs.embedded import find_profile

    service = find_profile(profile)
    path, card = _obtained(weights, model_store(), revision, seed)
    instances = service.instances_per_replica
    homes = {
        out / "cpu": repository.write_model(
            out / "cpu",
            repository.cpu_config(service.batching, instances=instances),
            code="onnx_model",
        ),
        out / "gpu": repository.write_model(
            out / "gpu", repository.gpu_config(service.batching, instances=instances)
        ),
    }
    for version in homes.values():
        repository.add_onnx(version, path)
    if as_json:
        show.as_json({"repositories": [str(home) for home in homes], **card.model_dump()})
        return
    show.line(f"{card.kind} weights: {card.source}")
    show.line(f"sha256 {card.sha256}, {card.parameters:,} weights")
    for home in homes:
        show.line(f"{home}: model repository")


def _obtained(weights: Weights, store: Path, revision: str, seed: int) -> tuple[Path, Card]:
    from gpupilot_agent.mobilenet.weights import ensure

    if weights is not Weights.AUTO:
        kind: Kind = "public" if weights is Weights.PUBLIC else "seeded"
        return ensure(kind, store, seed=seed, revision=revision)
    try:
        return ensure("public", store, revision=revision)
    except StackFailed as error:
        tell(str(error))
        tell("taking seeded weights: the same cost, but what it answers means nothing")
        return ensure("seeded", store, seed=seed)
