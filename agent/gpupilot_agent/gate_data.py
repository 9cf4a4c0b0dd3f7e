"""What a service's recordings hold: an earlier part to tune on, a later part to judge on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from itertools import pairwise

import numpy as np

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.calibration.batches import batch_seen_by_requests
from gpupilot_envs.calibration.fitting import Calibration, calibrate
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.serving.speed import interpolated, slowdown
from gpupilot_envs.workload.recording import Recording
from gpupilot_envs.workload.trace import RateTrace

SHORT_GAP_S = 60.0
"""Gaps up to this long are bridged: a scrape that was missed, not a service nobody watched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Recorded traffic, divided in time.

    Attributes:
        service: Whose.
        earlier: To tune on, one trace per recording that reaches into it.
        later: To judge on, likewise.
        recorded_s: From first to last reading, all recordings.
        gap_ratio: Share of that without a request rate.
        longest_gap_s: Longest stretch without one.
        first_at_s: Time of the first reading.
        last_at_s: Time of the last.
    """

    service: str
    earlier: tuple[RateTrace, ...]
    later: tuple[RateTrace, ...]
    recorded_s: float
    gap_ratio: float
    longest_gap_s: float
    first_at_s: float
    last_at_s: float

    @property
    def earlier_s(self) -> float:
        """Known seconds of the earlier part."""
        return _known_s(self.earlier)

    @property
    def later_s(self) -> float:
        """Known seconds of the later part."""
        return _known_s(self.later)


def parts(recordings: Sequence[Recording], *, earlier_share: float) -> Parts:
    """Divide the known time of all recordings, oldest first.

    Args:
        recordings: Of one service, none of which overlaps another.
        earlier_share: Share of the known time in the earlier part, 0 to 1.

    Raises:
        InputInvalid: There is none, they are of several services, or overlap.
        TraceInvalid: A recording has no request rate.
    """
    ordered = in_order(recordings)
    service = ordered[0].service
    traces = [recording.trace() for recording in ordered]
    known_s = [_known_s([trace]) for trace in traces]
    left_s = earlier_share * sum(known_s)
    earlier: list[RateTrace] = []
    later: list[RateTrace] = []
    for at, (trace, span_s) in enumerate(zip(traces, known_s, strict=True)):
        cut = _cut(trace, left_s)
        left_s -= span_s
        named = bridged(trace.renamed(f"{service}-{at}"))
        for kept, gap in ((earlier, (cut, trace.duration_s)), (later, (0.0, cut))):
            part = named.with_mask([gap])
            if not part.masked.all():
                kept.append(part)
    recorded_s = sum(trace.duration_s for trace in traces)
    return Parts(
        service=service,
        earlier=tuple(earlier),
        later=tuple(later),
        recorded_s=recorded_s,
        gap_ratio=1.0 - sum(known_s) / recorded_s,
        longest_gap_s=max(max((run for _, run in _gaps(trace)), default=0.0) for trace in traces),
        first_at_s=ordered[0].readings[0].at_s,
        last_at_s=ordered[-1].readings[-1].at_s,
    )


def in_order(recordings: Sequence[Recording]) -> tuple[Recording, ...]:
    """Return the recordings by time.

    Raises:
        InputInvalid: There is none, they are of several services, or overlap.
    """
    if not recordings or not all(recording.readings for recording in recordings):
        raise InputInvalid("recordings", "empty", "at least one recording with readings")
    ordered = sorted(recordings, key=lambda recording: recording.readings[0].at_s)
    services = sorted({recording.service for recording in ordered})
    if len(services) > 1:
        raise InputInvalid("recordings", ", ".join(services), "recordings of one service")
    for before, after in pairwise(ordered):
        if after.readings[0].at_s <= before.readings[-1].at_s:
            raise InputInvalid(
                "recordings", f"two that overlap at {after.readings[0].at_s:g} s", "each time once"
            )
    return tuple(ordered)


def bridged(trace: RateTrace) -> RateTrace:
    """Return the trace with gaps up to ``SHORT_GAP_S`` as lines between their neighbours."""
    filled = trace.bridged()
    masked = trace.masked.copy()
    for start_s, length_s in _gaps(trace):
        if length_s <= SHORT_GAP_S:
            first = math.floor(start_s / trace.bin_s + 0.5)
            masked[first : first + math.floor(length_s / trace.bin_s + 0.5)] = False
    return replace(filled, masked=masked)


def sha256(recording: Recording) -> str:
    """Return the hash of a recording's content: every reading and every allocation."""
    digest = hashlib.sha256(recording.service.encode())
    rows: tuple[Sequence[object], ...] = (recording.readings, recording.allocations)
    for row in rows:
        numbers = [astuple(item) for item in row]  # type: ignore[call-overload]
        digest.update(np.array(numbers, dtype=np.float64).tobytes())
    return digest.hexdigest()


def calibrated(recordings: Sequence[Recording], base: ServiceProfile, *, when: str) -> Calibration:
    """Return the profile that all recordings together show, or why they show none."""
    return calibrate(in_order(recordings), base, when=when)


def execution_error(recordings: Sequence[Recording], profile: ServiceProfile) -> float | None:
    """Return how much longer executions took than the profile says, as a share of its time.

    Known to about 10 %, see :func:`~gpupilot_envs.calibration.batches.batch_seen_by_requests`.
    ``None`` where no reading tells: nothing executed, or several instances shared a pod.
    """
    found = [
        (reading.compute_time_s, _expected_s(profile, allocation, reading.batch_mean), rate_rps)
        for recording in recordings
        for reading, allocation in zip(recording.readings, recording.allocations, strict=True)
        for rate_rps in [reading.rate_rps]
        if reading.batch_mean and reading.compute_time_s and rate_rps
        if allocation.instances_per_replica == 1
    ]
    if not found:
        return None
    seen, expected, weight = np.array(found, dtype=np.float64).T
    return float((seen * weight).sum() / (expected * weight).sum() - 1.0)


def _expected_s(profile: ServiceProfile, allocation: Allocation, batch_mean: float) -> float:
    batch = batch_seen_by_requests(batch_mean, allocation.batch_max)
    alone_s = interpolated(profile.batch_latency_ms, batch) / 1000.0
    return alone_s * slowdown(profile, allocation)


def _known_s(traces: Sequence[RateTrace]) -> float:
    return sum(float((~trace.masked).sum()) * trace.bin_s for trace in traces)


def _cut(trace: RateTrace, known_s: float) -> float:
    """Return where on the trace's clock so many known seconds have passed."""
    passed = np.cumsum(~trace.masked) * trace.bin_s
    return float(np.searchsorted(passed, max(known_s, 0.0), side="right")) * trace.bin_s


def _gaps(trace: RateTrace) -> list[tuple[float, float]]:
    """Return start and length in seconds of every stretch without a rate."""
    edges = np.diff(np.concatenate([[False], trace.masked, [False]]).astype(np.int8))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return [
        (float(a * trace.bin_s), float((b - a) * trace.bin_s))
        for a, b in zip(starts, ends, strict=True)
    ]
