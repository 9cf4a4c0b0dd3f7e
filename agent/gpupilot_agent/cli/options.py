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
TargetMs = Annotated[float, typer.Option(help="Latency target of the SLO in milliseconds.")]
AttainmentPercent = Annotated[
    float, typer.Option(help="Percent of requests that must be answered within the target.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random; same seed, same run.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a machine.")]
Out = Annotated[Path, typer.Option(help="Where to write.", metavar="PATH")]
Jobs = Annotated[int, typer.Option(min=1, help="Processes that work at once.")]
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
