"""What a run was like, interval by interval, and when it was worst."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.workload.recording import Recording
from gpupilot_envs.workload.trace import RateTrace

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Intervals:
    """Consecutive intervals of a run, oldest first; NaN where the source did not answer.

    Attributes:
        ends_s: End of each on the run's clock, shape ``(n,)``, ascending.
        length_s: Length of each.
        requests: Requests that arrived.
        late: Requests not in time.
        gpu_s: GPU-seconds held.
    """

    ends_s: Floats
    length_s: float
    requests: Floats
    late: Floats
    gpu_s: Floats

    @property
    def start_s(self) -> float:
        """Start of the first interval."""
        return float(self.ends_s[0]) - self.length_s

    @property
    def end_s(self) -> float:
        """End of the last interval."""
        return float(self.ends_s[-1])

    @property
    def has_rates(self) -> bool:
        """Whether the source answered at all."""
        return bool(np.isfinite(self.requests).any())

    def worst_s(self) -> float:
        """Return the start of the interval with the most late requests.

        Raises:
            InputInvalid: No interval has an answer, or nothing was ever late.
        """
        if not np.nan_to_num(self.late).max() > 0.0:
            raise InputInvalid(
                "--at", "worst", "a time: no request of this run is known to be late"
            )
        return float(self.ends_s[np.nanargmax(self.late)]) - self.length_s

    def around(self, at_s: float) -> Intervals:
        """Return the stretch without gaps that ``at_s`` lies in; a time at its end belongs to it.

        Raises:
            InputInvalid: The run was not watched then; says when it was.
        """
        breaks = np.flatnonzero(np.diff(self.ends_s) > 1.5 * self.length_s) + 1
        for part in np.split(np.arange(len(self.ends_s)), breaks):
            if self.ends_s[part[0]] - self.length_s <= at_s <= self.ends_s[part[-1]]:
                return self._only(part)
        raise InputInvalid(
            "--at", at_s, f"a time from {self.start_s:g} to {self.end_s:g} s that was recorded"
        )

    def traffic(self, name: str) -> RateTrace:
        """Return the rates; intervals without an answer are masked.

        Raises:
            TraceInvalid: No interval has a rate.
        """
        rps = self.requests / self.length_s
        masked = np.isnan(rps)
        return RateTrace(
            name=name, bin_s=self.length_s, rps=np.where(masked, 0.0, rps), masked=masked
        )

    def truth(self, from_s: float, until_s: float) -> tuple[float | None, float]:
        """Return the share of requests in time, ``None`` if unknown, and the GPU-hours held."""
        part = self._only((self.ends_s > from_s + 1e-6) & (self.ends_s <= until_s + 1e-6))
        known = np.isfinite(part.late) & np.isfinite(part.requests)
        requests = part.requests[known].sum()
        share = float(1.0 - part.late[known].sum() / requests) if requests > 0.0 else None
        return share, float(part.gpu_s.sum()) / 3600.0

    def _only(self, which: NDArray[np.int64] | NDArray[np.bool_]) -> Intervals:
        return Intervals(
            ends_s=self.ends_s[which],
            length_s=self.length_s,
            requests=self.requests[which],
            late=self.late[which],
            gpu_s=self.gpu_s[which],
        )


def of_recording(recording: Recording) -> Intervals:
    """Return a recording's readings as intervals.

    Raises:
        InputInvalid: There is no reading.
    """
    readings = recording.readings
    if not readings:
        raise InputInvalid(f"{recording.service}: readings", 0, "1 or more")
    ends_s = np.array([reading.at_s for reading in readings])
    length_s = float(np.median(np.diff(ends_s))) if len(readings) > 1 else readings[0].window_s
    requests = np.array([_number(reading.rate_rps) for reading in readings]) * length_s
    late = requests * (1.0 - np.array([_number(reading.attainment_ratio) for reading in readings]))
    shares = [ran.replicas * ran.gpu_share_milli / 1000.0 for ran in recording.allocations]
    return Intervals(
        ends_s=ends_s,
        length_s=length_s,
        requests=requests,
        # nothing asked, nothing late: a window without requests has no attainment
        late=np.where(requests == 0.0, 0.0, late),
        gpu_s=np.array(shares) * length_s,
    )


def _number(value: float | None) -> float:
    return np.nan if value is None else value
