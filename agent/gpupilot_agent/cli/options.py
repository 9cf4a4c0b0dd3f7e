"""Options that several commands share, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_PROFILE = "mobilenetv4-edge"
"""The embedded profile; written out, because help must not wait for its module."""

Profile = Annotated[
    str,
    typer.Option(
        help="What the service costs to run: a profile file, or the name of an embedded one.",
        metavar="FILE|NAME",
    ),
]
Profiles = Annotated[
    list[str] | None,
    typer.Option(
        help="Services to train on: files or embedded names; may be given again.",
        metavar="FILE|NAME",
        show_default=DEFAULT_PROFILE,
    ),
]
TrainingTraces = Annotated[
    list[Path] | None,
    typer.Option(
        help="Training traffic, split by day; generated families where none is given.",
        metavar="PATH…",
    ),
]
Traces = Annotated[
    list[Path],
    typer.Option(help="Rate traces, recordings, or folders of them.", metavar="PATH…"),
]
MoreTraces = Annotated[
    list[Path] | None,
    typer.Argument(help="More traces, as a shell's * gives them.", metavar="PATH"),
]
Frames = Annotated[
    int | None,
    typer.Option(min=1, help="Service-decisions to train on at most.", show_default="5000000"),
]
TargetMs = Annotated[float, typer.Option(help="Latency target of the SLO in milliseconds.")]
AttainmentPercent = Annotated[
    float, typer.Option(help="Percent of requests that must be answered within the target.")
]
Seeds = Annotated[int, typer.Option(min=1, help="Repetitions of each trace.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random; same seed, same run.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a machine.")]
Out = Annotated[Path, typer.Option(help="Where to write.", metavar="PATH")]
Jobs = Annotated[int, typer.Option(min=1, help="Processes that work at once.")]
BundleDigest = Annotated[
    str | None,
    typer.Option(help="Refuse the policy unless its file has this digest.", metavar="sha256:HEX"),
]
BundleKey = Annotated[
    Path | None,
    typer.Option(
        help="Refuse the policy unless this Ed25519 public key (PEM) signed it.", metavar="KEY"
    ),
]
Actuators = Annotated[
    str,
    typer.Option(
        help="What policies that can may move besides replicas: limits, batching or both.",
        metavar="NAMES",
    ),
]
ScaleToReplicas = Annotated[
    float | None,
    typer.Option(help="Scale each trace so that its mean demand is what so many replicas carry."),
]
Cv = Annotated[float, typer.Option(help="Coefficient of variation of arrival gaps; 1 is Poisson.")]
Hours = Annotated[
    float, typer.Option(min=0, help="Hours scored of each trace, spread over it; 0 for all.")
]


def hours_of(hours: float) -> float | None:
    """Return the hours to score, ``None`` for all of a trace."""
    return hours or None
