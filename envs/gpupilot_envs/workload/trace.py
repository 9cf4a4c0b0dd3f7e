"""Rate traces: how many requests arrive per second, bin by bin, and which bins are unknown."""
# ruff: noqa: A005 - the field's word; inside a package it shadows nothing

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.atomic import atomic_path
from gpupilot_envs.errors import TraceInvalid
from gpupilot_envs.workload.rebinning import Shape, rebin_mask, rebin_rates

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Interval = tuple[float, float]

DAY_S = 86_400.0
"""Seconds in a day."""

_GRID_TOLERANCE = 1e-3
_ALIGN_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RateTrace:
    """Mean arrival rate in consecutive bins of equal length, from time 0.

    Attributes:
        name: Name in tables and manifests.
        family: Traces of one source or generator share a family; splits keep families whole.
        bin_s: Length of a bin in seconds.
        rps: Mean requests per second of each bin, shape ``(bins,)``, finite and 0 or more.
        masked: Bins without data, shape ``(bins,)``; no time in them is trained on or scored.

    Raises:
        TraceInvalid: On construction, when a value above is broken; names it.
    """

    name: str
    family: str = "unnamed"
    bin_s: float
    rps: Floats
    masked: Flags = field(default_factory=lambda: np.empty(0, dtype=np.bool_))

    def __post_init__(self) -> None:
        """Check the values and make the arrays read-only."""
        rps = np.ascontiguousarray(self.rps, dtype=np.float64).copy()
        masked = np.array(self.masked, dtype=np.bool_)
        if not len(masked):
            masked = np.zeros(len(rps), dtype=np.bool_)
        _check(self.name, self.bin_s, rps, masked)
        rps.flags.writeable = False
        masked.flags.writeable = False
        object.__setattr__(self, "rps", rps)
        object.__setattr__(self, "masked", masked)

    @property
    def duration_s(self) -> float:
        """Seconds from the start of the first to the end of the last bin."""
        return len(self.rps) * self.bin_s

    @property
    def mean_rps(self) -> float:
        """Mean rate over the bins that are not masked; 0 when all are."""
        known = self.rps[~self.masked]
        return float(known.mean()) if len(known) else 0.0

    @property
    def peak_rps(self) -> float:
        """Highest rate of a bin that is not masked; 0 when all are."""
        known = self.rps[~self.masked]
        return float(known.max()) if len(known) else 0.0

    @property
    def starts_s(self) -> Floats:
        """Start of each bin in seconds, shape ``(bins,)``."""
        return np.arange(len(self.rps), dtype=np.float64) * self.bin_s

    @property
    def sha256(self) -> str:
        """Hash of the bin length, rates and mask; the name does not enter."""
        digest = hashlib.sha256(b"gpupilot/rate-trace-v1")
        digest.update(np.float64(self.bin_s).tobytes())
        digest.update(self.rps.astype("<f8").tobytes())
        digest.update(self.masked.astype(np.uint8).tobytes())
        return digest.hexdigest()

    def renamed(self, name: str, family: str | None = None) -> RateTrace:
        """Return the trace under another name, and family when given."""
        return replace(self, name=name, family=self.family if family is None else family)

    def scaled(self, factor: float) -> RateTrace:
        """Return the trace with every rate times ``factor``.

        Raises:
            TraceInvalid: ``factor`` is negative or not finite.
        """
        if not 0.0 <= factor < np.inf:
            raise TraceInvalid("factor", factor, "a finite factor of 0 or more")
        return replace(self, rps=self.rps * factor)

    def rebinned(self, bin_s: float, shape: Shape = "step") -> RateTrace:
        """Return the trace on bins of another length; the mean of every kept span stays.

        Coarser bins hold the mean of what they cover. Finer bins hold the rate of the bin they
        lie in (``step``), or follow straight lines between the middles of the old bins, scaled
        so that each old bin keeps its mean (``linear``, only for whole fractions of a bin). A
        last bin that is not full is dropped. A new bin that touches a masked one is masked.

        Raises:
            TraceInvalid: ``bin_s`` is not positive, longer than the trace, or does not suit
                ``linear``.
        """
        if not 0.0 < bin_s <= self.duration_s * (1 + _ALIGN_TOLERANCE):
            raise TraceInvalid("bin_s", bin_s, f"0 < bin_s <= {self.duration_s:g}, the duration")
        if bin_s == self.bin_s:
            return self
        rps = rebin_rates(self.rps, self.bin_s, bin_s, shape)
        return replace(
            self, bin_s=bin_s, rps=rps, masked=rebin_mask(self.masked, self.bin_s, bin_s)
        )

    def sliced(self, start_s: float, end_s: float) -> RateTrace:
        """Return the bins that lie wholly in [``start_s``, ``end_s``); time starts at 0 again.

        Raises:
            TraceInvalid: No whole bin lies in the interval.
        """
        first = max(0, int(np.ceil(start_s / self.bin_s - _ALIGN_TOLERANCE)))
        last = min(len(self.rps), int(np.floor(end_s / self.bin_s + _ALIGN_TOLERANCE)))
        if last <= first:
            raise TraceInvalid(
                f"{self.name}: slice",
                (start_s, end_s),
                f"an interval in 0 to {self.duration_s:g} s that holds a bin of {self.bin_s:g} s",
            )
        return replace(self, rps=self.rps[first:last], masked=self.masked[first:last])

    def with_mask(self, gaps: Sequence[Interval]) -> RateTrace:
        """Return the trace with every bin masked that one of ``gaps`` (start_s, end_s) touches."""
        masked = self.masked.copy()
        for start_s, end_s in gaps:
            first = int(np.floor(start_s / self.bin_s + _ALIGN_TOLERANCE))
            last = int(np.ceil(end_s / self.bin_s - _ALIGN_TOLERANCE))
            masked[max(first, 0) : max(last, 0)] = True
        return replace(self, masked=masked)

    def bridged(self) -> RateTrace:
        """Return the trace with masked rates on a line between their known neighbours.

        The mask stays: the bridge only keeps a replay from a fall to 0 that never happened.

        Raises:
            TraceInvalid: Every bin is masked.
        """
        if self.masked.all():
            raise TraceInvalid(f"{self.name}: masked", "every bin", "at least one bin with data")
        at = np.arange(len(self.rps), dtype=np.float64)
        known = ~self.masked
        return replace(self, rps=np.interp(at, at[known], self.rps[known]))


def scale_to(trace: RateTrace, mean_rps: float) -> RateTrace:
    """Return ``trace`` with its mean over unmasked bins equal to ``mean_rps``.

    Raises:
        TraceInvalid: ``mean_rps`` is negative or not finite, or the trace has no traffic.
    """
    if trace.mean_rps <= 0.0:
        raise TraceInvalid(f"{trace.name}: rps", "no traffic", "a trace with a positive mean rate")
    return trace.scaled(mean_rps / trace.mean_rps)


def scale_to_replicas(trace: RateTrace, *, replicas: float, capacity_rps: float) -> RateTrace:
    """Return ``trace`` with a mean demand of ``replicas`` replicas at their SLO capacity.

    Args:
        trace: Any trace with traffic.
        replicas: Mean demand in replicas, more than 0.
        capacity_rps: Requests per second that one replica carries within the SLO, more than 0.

    Raises:
        TraceInvalid: An argument is out of range or the trace has no traffic.
    """
    for name, value in (("replicas", replicas), ("capacity_rps", capacity_rps)):
        if not 0.0 < value < np.inf:
            raise TraceInvalid(name, value, "a finite number above 0")
    return scale_to(trace, replicas * capacity_rps)


def read_trace(
    path: Path, *, gaps: Sequence[Interval] | None = None, family: str | None = None
) -> RateTrace:
    """Read a rate trace: Parquet or CSV with the columns ``t_s`` and ``rps``.

    ``t_s`` is the start of each bin in seconds on a regular grid; its first value becomes 0.

    Args:
        path: The file; its stem becomes the trace's name.
        gaps: Intervals (start_s, end_s) from the trace's start without data. By default they
            come from ``gaps.csv`` beside the file (columns trace, start_s, end_s, note).
        family: Family of the trace. By default it comes from ``index.csv`` beside the file
            (columns name, family), else the name is the family.

    Raises:
        TraceInvalid: The file is missing or malformed, a column is missing, a rate is NaN,
            infinite or negative, times do not ascend or are not a regular grid, or there are
            fewer than two rows; names file, column and row.
    """
    from gpupilot_envs.workload import columns

    table = columns.read(path, ("t_s", "rps"))
    t_s, rps = table["t_s"], table["rps"]
    columns.check_length(path, "t_s", t_s, 2)
    columns.check_finite(path, "t_s", t_s)
    columns.check_rates(path, "rps", rps)
    columns.check_ascending(path, "t_s", t_s, strictly=True)
    trace = RateTrace(
        name=path.stem,
        family=columns.family_beside(path) if family is None else family,
        bin_s=_grid_step(path, t_s),
        rps=rps,
    )
    return trace.with_mask(columns.gaps_beside(path) if gaps is None else gaps)


def read_arrivals(path: Path) -> Floats:
    """Read arrival times: Parquet or CSV with the column ``t_s``; ties are allowed.

    Returns:
        Seconds from the first arrival, ascending, shape ``(arrivals,)``.

    Raises:
        TraceInvalid: The file is missing, malformed or empty, or a time is NaN, infinite or
            before its predecessor; names file, column and row.
    """
    from gpupilot_envs.workload import columns

    t_s = columns.read(path, ("t_s",))["t_s"]
    columns.check_length(path, "t_s", t_s, 1)
    columns.check_finite(path, "t_s", t_s)
    columns.check_ascending(path, "t_s", t_s, strictly=False)
    return np.asarray(t_s - t_s[0], dtype=np.float64)


def write_trace(path: Path, trace: RateTrace) -> None:
    """Write ``t_s, rps`` as Parquet or, for a name that ends in ``.csv``, as CSV.

    The mask is not part of the format; it belongs into a ``gaps.csv``.

    Raises:
        OutputRefused: The file cannot be written.
    """
    from gpupilot_envs.workload import columns

    with atomic_path(path) as partial:
        columns.write(partial, {"t_s": trace.starts_s, "rps": trace.rps}, csv=path.suffix == ".csv")


def _grid_step(path: Path, t_s: Floats) -> float:
    steps = np.diff(t_s)
    bin_s = float(np.median(steps))
    off = np.abs(steps - bin_s) > _GRID_TOLERANCE * bin_s
    if off.any():
        row = int(np.argmax(off)) + 1
        raise TraceInvalid(
            f"{path}: t_s, row {row + 1}",
            float(t_s[row]),
            f"{t_s[row - 1] + bin_s:g}, a regular grid of {bin_s:g} s",
        )
    return float((t_s[-1] - t_s[0]) / (len(t_s) - 1))


def _check(name: str, bin_s: float, rps: Floats, masked: Flags) -> None:
    if not 0.0 < bin_s < np.inf:
        raise TraceInvalid(f"{name}: bin_s", bin_s, "a finite number of seconds above 0")
    if rps.ndim != 1 or not len(rps):
        raise TraceInvalid(f"{name}: rps", rps.shape, "one rate per bin, at least one bin")
    if masked.shape != rps.shape:
        raise TraceInvalid(f"{name}: masked", masked.shape, f"the shape of rps, {rps.shape}")
    wrong = ~np.isfinite(rps) | (rps < 0)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise TraceInvalid(f"{name}: rps, bin {at}", float(rps[at]), "a finite rate of 0 or more")
