"""Gamma gaps of mean 1 at the speed of exponential ones, through a quantile table.

A gamma variate is an increasing function of an exponential one, ``g(e) = Q(1 - exp(-e))``
with the gamma quantile ``Q``. The function is tabulated on a grid with 64 cells in every
octave of ``e`` (the upper bits of the float are the index), linear in between: relative
resolution everywhere, so that the power law near 0 and the exponential tail are both met.
The table's mean is exact by normalisation, its cv within 1e-3 for cv 0 to 10 (tests).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled
from gpupilot_envs.errors import InputInvalid

Floats = NDArray[np.float64]

CV_MAX = 10.0
"""Largest coefficient of variation of gaps that is allowed."""

_CELLS_LOG2 = 6
_SHIFT = 52 - _CELLS_LOG2
_OCTAVE_LOW, _OCTAVE_HIGH = -30, 6
_FIRST_CELL = (1023 + _OCTAVE_LOW) << _CELLS_LOG2


@dataclass(frozen=True, slots=True, kw_only=True)
class GapTable:
    """Turns standard exponential variates into gaps of mean 1 and a given cv.

    Attributes:
        cv: Coefficient of variation of the gaps.
        offset: Value of each cell's line at ``e = 0``, shape ``(cells,)``.
        slope: Slope of each cell's line, shape ``(cells,)``.
    """

    cv: float
    offset: Floats
    slope: Floats

    def shape(self, exponential: Floats) -> None:
        """Replace exponential variates by gaps, in place; cv 1 leaves them as they are."""
        if self.cv != 1.0:
            _look_up(exponential, exponential.view(np.int64), self.offset, self.slope)

    def equilibrium(self, random: np.random.Generator) -> float:
        """Draw the gap from a random instant to the next arrival.

        A uniform share of a length-biased gap (Cox, Renewal Theory, 1962, section 5.4); the
        length-biased gamma of shape k is a gamma of shape k + 1 and the same scale.
        """
        if self.cv == 0.0:
            return float(random.random())
        shape = self.cv**-2
        return float(random.random() * random.standard_gamma(shape + 1.0) / shape)


@lru_cache(maxsize=64)
def gap_table(cv: float) -> GapTable:
    """Return the table of a coefficient of variation.

    Raises:
        InputInvalid: ``cv`` is not in 0 to 10.
    """
    if not 0.0 <= cv <= CV_MAX:
        raise InputInvalid("cv", cv, f"a coefficient of variation of 0 to {CV_MAX:g}")
    if cv == 0.0:
        cells = len(_grid()) - 1
        return GapTable(cv=cv, offset=np.ones(cells), slope=np.zeros(cells))
    edges = _grid()
    values = _gamma_of_exponential(edges, cv**-2)
    slope = np.diff(values) / np.diff(edges)
    offset = values[:-1] - slope * edges[:-1]
    mean = _mean(edges, slope)
    return GapTable(cv=cv, offset=offset / mean, slope=slope / mean)


def _grid() -> Floats:
    """Edges of the cells; the first starts at 0, the last line goes on beyond the grid."""
    cells = (_OCTAVE_HIGH - _OCTAVE_LOW) << _CELLS_LOG2
    bits = (np.arange(cells + 1, dtype=np.int64) + _FIRST_CELL) << _SHIFT
    edges = bits.view(np.float64).copy()
    edges[0] = 0.0
    return edges


def _gamma_of_exponential(e: Floats, shape: float) -> Floats:
    from scipy.special import gammainccinv, gammaincinv

    body = gammaincinv(shape, -np.expm1(-np.minimum(e, 1.0)))
    tail = gammainccinv(shape, np.exp(-np.maximum(e, 1.0)))
    return np.asarray(np.where(e < 1.0, body, tail) / shape, dtype=np.float64)


def _mean(edges: Floats, slope: Floats) -> float:
    """Integrate the lines against exp(-e): by parts, the slopes weighted by their probability."""
    widths = np.append(np.diff(edges)[:-1], np.inf)
    return float(np.sum(slope * np.exp(-edges[:-1]) * -np.expm1(-widths)))


@compiled
def _look_up(values: Floats, bits: NDArray[np.int64], offset: Floats, slope: Floats) -> None:
    last = len(offset) - 1
    for i in range(len(values)):
        cell = (bits[i] >> _SHIFT) - _FIRST_CELL
        cell = min(max(cell, 0), last)
        values[i] = offset[cell] + slope[cell] * values[i]
