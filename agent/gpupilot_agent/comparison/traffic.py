"""What is replayed: traces made comparable, and the pieces of them that are scored."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.errors import TraceInvalid
from gpupilot_envs.workload.trace import RateTrace, scale_to_replicas

LINEAR_ABOVE_S = 60.0
COUNTS_PER_BIN = 30.0
PIECE_S = 3600.0
WARM_UP_SHARE = 0.25
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of a trace that is replayed in one go and scored after its warm-up.

    Attributes:
        trace: The stretch, warm-up included, on its own time from 0.
        origin: Name of the trace it was cut from.
        origin_sha256: Hash of that trace as it was read.
        start_s: Start of the scored part on the trace's own clock.
        end_s: End of the scored part on the trace's own clock.
        warm_up_s: Seconds of the stretch before the scored part.
    """

    trace: RateTrace
    origin: str
    origin_sha256: str
    start_s: float
    end_s: float
    warm_up_s: float

    @property
    def scored_s(self) -> float:
        """Length of the scored part in seconds."""
        return self.end_s - self.start_s

    def window(self) -> dict[str, float]:
        """Return the scored window as results record it."""
        return {"start_s": self.start_s, "end_s": self.end_s, "warm_up_s": self.warm_up_s}


def prepared(trace: RateTrace, *, replicas: float | None, capacity_rps: float) -> RateTrace:
    """Return the trace as it is replayed: honest bins, scaled to the service.

    Bins longer than a minute follow straight lines that keep every bin's mean: a step of the
    rate on the hour is the file's, not the traffic's. Bins that hold counted requests, a few
    each, are widened until they hold 30 on average, to one minute at most: scaling the rate up
    would scale their counting noise up with it.

    Args:
        trace: As it was read.
        replicas: Mean demand wanted, in replicas at their capacity; ``None`` keeps the rates.
        capacity_rps: Requests per second one replica carries within the objective.

    Raises:
        TraceInvalid: The trace has no traffic.
    """
    if replicas is None:
        return _honest_bins(trace, growth=1.0)
    scaled = scale_to_replicas(trace, replicas=replicas, capacity_rps=capacity_rps)
    honest = _honest_bins(trace, growth=scaled.mean_rps / trace.mean_rps)
    return scale_to_replicas(honest, replicas=replicas, capacity_rps=capacity_rps)


def pieces(
    trace: RateTrace, *, origin_sha256: str, hours: float | None, warm_up_s: float
) -> tuple[Piece, ...]:
    """Return the stretches of a trace to score, none of which touches a gap.

    A trace with no more than ``hours`` of data is scored whole, gap by gap. Of a longer one,
    windows of one hour are drawn by the golden-ratio sequence, which spreads them over days and
    hours of the day; the same trace always gives the same windows.

    Args:
        trace: As :func:`prepared` returns it.
        origin_sha256: Hash of the trace as it was read.
        hours: Hours to score, or ``None`` for everything.
        warm_up_s: Seconds replayed before each window without being scored; at most a quarter of
            the longest stretch of data, and stretches too short for it are left out.

    Raises:
        TraceInvalid: The trace is all gap.
    """
    spans = _known_spans(trace)
    if not spans:
        raise TraceInvalid(f"{trace.name}: rps", "gaps only", "at least one bin with data")
    warm_up_s = min(warm_up_s, WARM_UP_SHARE * max(end - start for start, end in spans))
    known_s = sum(end - start for start, end in spans)
    if hours is None or known_s <= hours * 3600.0 + warm_up_s * len(spans):
        windows = [(start, end) for start, end in spans if end - start >= 2 * warm_up_s]
    else:
        windows = _drawn(spans, hours * 3600.0, warm_up_s)
    return tuple(_piece(trace, origin_sha256, start, end, warm_up_s) for start, end in windows)


def _honest_bins(trace: RateTrace, growth: float) -> RateTrace:
    if trace.bin_s > LINEAR_ABOVE_S:
        return trace.rebinned(trace.bin_s / math.ceil(trace.bin_s / LINEAR_ABOVE_S), "linear")
    counts = trace.mean_rps * trace.bin_s
    most = math.floor(LINEAR_ABOVE_S / trace.bin_s)
    counted = growth > 1.0 and counts > 0.0 and _is_counted(trace)
    merged = min(math.ceil(COUNTS_PER_BIN / counts), most) if counted else 1
    return trace.rebinned(trace.bin_s * merged) if merged > 1 else trace


def _is_counted(trace: RateTrace) -> bool:
    per_bin = trace.rps * trace.bin_s
    return bool(np.allclose(per_bin, np.rint(per_bin), atol=1e-6))


def _known_spans(trace: RateTrace) -> list[tuple[float, float]]:
    """Return the longest stretches without a masked bin, ascending, in seconds."""
    edges = np.diff(np.concatenate([[True], trace.masked, [True]]).astype(np.int8))
    starts, ends = np.flatnonzero(edges == -1), np.flatnonzero(edges == 1)
    return [
        (float(first * trace.bin_s), float(last * trace.bin_s))
        for first, last in zip(starts, ends, strict=True)
    ]


def _drawn(
    spans: list[tuple[float, float]], wanted_s: float, warm_up_s: float
) -> list[tuple[float, float]]:
    """Return windows that begin with their warm-up, drawn evenly, ascending, without overlap."""
    length_s = min(PIECE_S, wanted_s) + warm_up_s
    slots = np.concatenate([_slots(start, end, length_s) for start, end in spans])
    count = min(max(1, round(wanted_s / (length_s - warm_up_s))), len(slots))
    chosen = _spread(len(slots), count)
    return [(float(slots[at]), float(slots[at] + length_s)) for at in chosen]


def _slots(start: float, end: float, length_s: float) -> NDArray[np.float64]:
    """Return the starts of the windows that fit one behind the other."""
    count = int((end - start) // length_s)
    return np.asarray(start + np.arange(count) * length_s, dtype=np.float64)


def _spread(slots: int, count: int) -> list[int]:
    """Return ``count`` distinct slots by the golden-ratio sequence, ascending."""
    found: set[int] = set()
    step = 0
    while len(found) < count:
        found.add(int((0.5 + step * _GOLDEN) % 1.0 * slots))
        step += 1
    return sorted(found)


def _piece(
    trace: RateTrace, origin_sha256: str, start: float, end: float, warm_up_s: float
) -> Piece:
    first = math.ceil(start / trace.bin_s - 1e-6) * trace.bin_s
    last = math.floor(end / trace.bin_s + 1e-6) * trace.bin_s
    return Piece(
        trace=trace.sliced(first, last),
        origin=trace.name,
        origin_sha256=origin_sha256,
        start_s=first + warm_up_s,
        end_s=last,
        warm_up_s=warm_up_s,
    )
