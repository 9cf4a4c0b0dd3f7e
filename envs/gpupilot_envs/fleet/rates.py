"""Rate traces as one flat integral, so that any service can replay any window at any scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import inlined
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.workload.trace import RateTrace

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLibrary:
    """Many rate traces laid end to end.

    Attributes:
        names: Name of each trace.
        first: Position of each trace's first bin edge, int64, shape ``(traces + 1,)``.
        bin_s: Bin length of each trace in seconds, shape ``(traces,)``.
        mean_rps: Mean rate of each trace over its unmasked bins, shape ``(traces,)``.
        requests: Expected requests from a trace's start to each of its bin edges.
        squares: The same integral of the squared rate; what varies inside a step comes from it.
    """

    names: tuple[str, ...]
    first: NDArray[np.int64]
    bin_s: Floats
    mean_rps: Floats
    requests: Floats
    squares: Floats

    @classmethod
    def of(cls, traces: Sequence[RateTrace]) -> RateLibrary:
        """Lay out ``traces``; a masked bin counts with the rate it holds.

        Raises:
            InputInvalid: There is no trace.
        """
        if not traces:
            raise InputInvalid("traces", "none", "at least one rate trace")
        edges = np.cumsum([0, *(len(trace.rps) + 1 for trace in traces)])
        return cls(
            names=tuple(trace.name for trace in traces),
            first=edges.astype(np.int64),
            bin_s=np.array([trace.bin_s for trace in traces]),
            mean_rps=np.array([trace.mean_rps for trace in traces]),
            requests=np.concatenate([_integral(trace.rps, trace.bin_s) for trace in traces]),
            squares=np.concatenate([_integral(trace.rps**2, trace.bin_s) for trace in traces]),
        )

    @property
    def duration_s(self) -> Floats:
        """Length of each trace in seconds, shape ``(traces,)``."""
        return (np.diff(self.first) - 1) * self.bin_s


def _integral(rps: Floats, bin_s: float) -> Floats:
    return np.concatenate([[0.0], np.cumsum(rps) * bin_s])


@inlined
def integral_at(edges: Floats, first: int, bins: int, position: float) -> float:
    """Return the integral of a trace from its start to a position in bins; it repeats."""
    whole = 0.0
    while position >= bins:
        position -= bins
        whole += edges[first + bins]
    edge = int(position)
    below = edges[first + edge]
    inside = (position - edge) * (edges[first + edge + 1] - below)
    total: float = whole + below + inside
    return total


@inlined
def bin_position(at_s: float, bin_s: float, bins: int) -> float:
    """Return a time as a position within a repeating trace, in bins from 0 to ``bins``."""
    turns = np.floor(at_s / (bins * bin_s))
    position: float = min(max(at_s / bin_s - turns * bins, 0.0), bins * (1.0 - 1e-15))
    return position
