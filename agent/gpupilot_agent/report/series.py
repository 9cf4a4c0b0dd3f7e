"""Time series of a result, thinned to what a figure can show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

Floats = NDArray[np.float64]

POINT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """What one policy did on one scored window under one seed, in points of a minute.

    Attributes:
        start_s: Start of the window on the trace's clock.
        at_s: Middle of each point, seconds from the start of the window.
        rate_rps: Requests arriving per second.
        late_ratio: Share of requests that came late, 0 to 1.
        replicas_asked: What the policy asked for, highest of the minute.
        replicas_ready: Pods that answered, mean of the minute.
    """

    start_s: float
    at_s: Floats
    rate_rps: Floats
    late_ratio: Floats
    replicas_asked: Floats
    replicas_ready: Floats


def read_strips(file: Path, trace: str, seed: int, windows: list[dict[str, float]]) -> list[Strip]:
    """Return the scored windows of a trace from a policy's time series."""
    columns = ["t_s", "interval_s", "requests", "late", "replicas_asked", "replicas_ready"]
    wanted = (pc.field("trace") == trace) & (pc.field("seed") == seed) & pc.field("scored")
    table = pq.read_table(file, columns=columns, filters=wanted)
    rows = {name: table[name].to_numpy().astype(np.float64) for name in columns}
    return [_strip(rows, window["start_s"], window["end_s"]) for window in windows]


def _strip(rows: dict[str, Floats], start_s: float, end_s: float) -> Strip:
    middle = rows["t_s"] - 0.5 * rows["interval_s"] - start_s
    inside = (middle >= 0.0) & (middle < end_s - start_s)
    point = (middle[inside] // POINT_S).astype(np.int64)
    kept = {name: column[inside] for name, column in rows.items()}
    present = np.unique(point)

    def total(values: Floats) -> Floats:
        return np.asarray(np.bincount(point, weights=values)[present], dtype=np.float64)

    span = total(kept["interval_s"])
    requests = total(kept["requests"])
    highest = np.zeros(int(present[-1]) + 1 if len(present) else 0)
    np.maximum.at(highest, point, kept["replicas_asked"])
    return Strip(
        start_s=start_s,
        at_s=np.asarray((present + 0.5) * POINT_S, dtype=np.float64),
        rate_rps=requests / span,
        late_ratio=np.minimum(total(kept["late"]) / np.maximum(requests, 1.0), 1.0),
        replicas_asked=highest[present],
        replicas_ready=total(kept["replicas_ready"] * kept["interval_s"]) / span,
    )
