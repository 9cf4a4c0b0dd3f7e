"""Request arrivals: renewal processes on a rate trace, steady rates and recorded times.

A non-homogeneous renewal process by time rescaling (Brown et al., Neural Computation 14,
2002; Gerhardt and Nelson, INFORMS J. Computing 21, 2009): gaps of mean 1 are drawn in
operational time, in which the service receives exactly one request per unit, and mapped
through the inverse of the integrated rate. Gaps are gamma distributed with a stated
coefficient of variation; 1 is Poisson. The first gap is drawn from the equilibrium
distribution, so that the expected count of every window is the integral of the rate.

Gaps are drawn in blocks of fixed size, whatever the caller asks for: the same trace, cv and
seed give bit-identical arrivals however :meth:`ArrivalStream.take` is called.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.workload.gaps import GapTable, gap_table
from gpupilot_envs.workload.trace import RateTrace

Floats = NDArray[np.float64]

_BLOCK = 16_384


class ArrivalStream(Protocol):
    """Arrival times, asked for window by window."""

    def take(self, until_s: float) -> Floats:
        """Return the arrivals in [previous ``until_s``, ``until_s``), ascending seconds.

        The first window starts at 0. The array is read-only in spirit: it may be a view.

        Raises:
            ValueError: ``until_s`` lies before the previous one.
        """
        ...


class RateArrivals:
    """Arrivals that follow a rate trace; none after its end."""

    def __init__(self, trace: RateTrace, *, cv: float = 1.0, seed: int) -> None:
        """Start at the beginning of ``trace``.

        Args:
            trace: Rate in requests per second by bin; masked bins count with the rate they hold.
            cv: Coefficient of variation of the gaps in operational time, 0 to 10. The index of
                dispersion of counts tends to ``cv ** 2``.
            seed: Seed of the gaps, 0 or more.

        Raises:
            InputInvalid: ``cv`` or ``seed`` is out of range.
        """
        mass = trace.rps * trace.bin_s
        starts = np.arange(len(mass), dtype=np.float64) * trace.bin_s
        self._renewal = _Renewal(starts, trace.rps, mass, cv=cv, seed=seed)
        self._window = _Window()

    def take(self, until_s: float) -> Floats:
        """Return the arrivals up to ``until_s``; see :class:`ArrivalStream`."""
        return self._window.take(self._renewal, until_s)


class SteadyArrivals:
    """Endless arrivals at one rate."""

    def __init__(self, rate_rps: float, *, cv: float = 1.0, seed: int) -> None:
        """Start at 0 with ``rate_rps`` requests per second.

        Raises:
            InputInvalid: ``rate_rps`` is negative or not finite, ``cv`` or ``seed`` out of range.
        """
        if not 0.0 <= rate_rps < np.inf:
            raise InputInvalid("rate_rps", rate_rps, "a finite rate of 0 or more")
        endless = np.array([np.inf if rate_rps > 0 else 0.0])
        self._renewal = _Renewal(np.zeros(1), np.array([rate_rps]), endless, cv=cv, seed=seed)
        self._window = _Window()

    def take(self, until_s: float) -> Floats:
        """Return the arrivals up to ``until_s``; see :class:`ArrivalStream`."""
        return self._window.take(self._renewal, until_s)


class ExactArrivals:
    """Recorded arrivals, played back as they were."""

    def __init__(self, t_s: Floats) -> None:
        """Play back ``t_s``: seconds from 0, ascending, ties allowed.

        Raises:
            InputInvalid: A time is NaN, infinite, negative or before its predecessor.
        """
        times = np.ascontiguousarray(t_s, dtype=np.float64)
        _check_times(times)
        self._blocks = _Blocks(times)
        self._window = _Window()

    def take(self, until_s: float) -> Floats:
        """Return the arrivals up to ``until_s``; see :class:`ArrivalStream`."""
        return self._window.take(self._blocks, until_s)


class _Source(Protocol):
    """Consecutive blocks of ascending times; an empty block means the end."""

    def block(self) -> Floats: ...


class _Window:
    """Cuts a source's blocks at the caller's times."""

    def __init__(self) -> None:
        self._until_s = 0.0
        self._held: Floats = np.empty(0)
        self._ended = False

    def take(self, source: _Source, until_s: float) -> Floats:
        if not until_s >= self._until_s:
            raise ValueError(f"until_s {until_s} lies before {self._until_s}")
        self._until_s = until_s
        pieces: list[Floats] = []
        while not self._ended and (not len(self._held) or self._held[-1] < until_s):
            pieces.append(self._held)
            self._held = source.block()
            self._ended = not len(self._held)
        cut = int(np.searchsorted(self._held, until_s))
        pieces.append(self._held[:cut])
        self._held = self._held[cut:]
        return _joined(pieces)


def _joined(pieces: list[Floats]) -> Floats:
    filled = [piece for piece in pieces if len(piece)]
    return filled[0] if len(filled) == 1 else np.concatenate([np.empty(0), *filled])


class _Blocks:
    """A source that holds all its times already."""

    def __init__(self, times: Floats) -> None:
        self._left = times

    def block(self) -> Floats:
        block, self._left = self._left, self._left[:0]
        return block


class _Renewal:
    """A source of renewal arrivals on piecewise constant rates."""

    def __init__(
        self, starts_s: Floats, rps: Floats, mass: Floats, *, cv: float, seed: int
    ) -> None:
        if seed < 0:
            raise InputInvalid("seed", seed, "an integer of 0 or more")
        self._table: GapTable = gap_table(cv)
        self._random = np.random.Generator(np.random.PCG64DXSM(seed))
        self._starts_s = starts_s
        with np.errstate(divide="ignore"):
            self._s_per_request = np.where(rps > 0, 1.0 / rps, 0.0)
        self._mass = mass
        self._gaps = np.empty(_BLOCK)
        self._first = True
        # bin, position in the bin in expected requests
        self._state = np.zeros(2)

    def block(self) -> Floats:
        self._random.standard_exponential(out=self._gaps)
        self._table.shape(self._gaps)
        if self._first:
            self._gaps[0] = self._table.equilibrium(self._random)
            self._first = False
        times = np.empty(_BLOCK)
        count = _rescale(
            self._gaps, self._starts_s, self._s_per_request, self._mass, self._state, times
        )
        return times[:count]


@compiled
def _rescale(
    gaps: Floats,
    starts_s: Floats,
    s_per_request: Floats,
    mass: Floats,
    state: Floats,
    times_s: Floats,
) -> int:
    """Map gaps in operational time to arrival times; return how many fall inside the trace.

    The position is kept relative to its bin: no precision is lost however long the trace.
    """
    bins = len(mass)
    at = int(state[0])
    position = state[1]
    count = 0
    for gap in gaps:
        position += gap
        while at < bins and position >= mass[at]:
            position -= mass[at]
            at += 1
        if at == bins:
            break
        times_s[count] = starts_s[at] + position * s_per_request[at]
        count += 1
    state[0] = at
    state[1] = position
    return count


def _check_times(times: Floats) -> None:
    if times.ndim != 1:
        raise InputInvalid("t_s", times.shape, "one dimension")
    wrong = ~np.isfinite(times) | (times < 0)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputInvalid(f"t_s, row {row + 1}", float(times[row]), "a finite time of 0 or more")
    back = np.diff(times) < 0
    if back.any():
        row = int(np.argmax(back)) + 1
        before = float(times[row - 1])
        raise InputInvalid(f"t_s, row {row + 1}", float(times[row]), f"{before} or later")
