"""Straight lines through means: how sure they are, and how well they foretell the unseen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_Z95 = 1.96

Floats = NDArray[np.float64]
Fit = Callable[[Floats, Floats, Floats], Callable[[Floats], Floats]]
"""Takes x, y and weights; returns the fitted curve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A weighted least-squares line and how sure it is.

    Attributes:
        intercept: Value at 0.
        slope: Rise per unit.
        covariance: Of intercept and slope, shape ``(2, 2)``.
    """

    intercept: float
    slope: float
    covariance: Floats

    def at(self, x: float) -> float:
        """Return the line's value at ``x``."""
        return self.intercept + self.slope * x

    def band_ratio(self, x: float) -> float:
        """Return the half-width of the 95 % confidence band at ``x`` relative to the value."""
        basis = np.array([1.0, x])
        width = _Z95 * float(np.sqrt(max(float(basis @ self.covariance @ basis), 0.0)))
        return width / abs(self.at(x)) if self.at(x) else np.inf


def fit_line(x: Floats, y: Floats, weight: Floats) -> Line:
    """Return the line through means ``y`` of ``weight`` observations each, shape ``(n,)``.

    Args:
        x: At least two different values.
        y: Means, positive.
        weight: Number of observations behind each mean.
    """
    basis = np.stack([np.ones_like(x), x], axis=1)
    normal = basis.T @ (basis * weight[:, None])
    intercept, slope = np.linalg.solve(normal, basis.T @ (weight * y))
    residual = y - intercept - slope * x
    variance = float(np.sum(weight * residual**2)) / max(len(x) - 2, 1)
    return Line(
        intercept=float(intercept),
        slope=float(slope),
        covariance=np.asarray(variance * np.linalg.inv(normal), dtype=np.float64),
    )


def fit_level(y: Floats, weight: Floats) -> Line:
    """Return the level line through means ``y``: the slope is known to be 0."""
    level = float(np.average(y, weights=weight))
    variance = float(np.sum(weight * (y - level) ** 2)) / max(len(y) - 1, 1)
    covariance = np.array([[variance / float(weight.sum()), 0.0], [0.0, 0.0]])
    return Line(intercept=level, slope=0.0, covariance=covariance)


def unseen_error(x: Floats, y: Floats, weight: Floats, fit: Fit, *, folds: int = 5) -> float:
    """Return the root mean square error on what was left out of the fit, relative to the mean.

    K-fold cross-validation with folds that are contiguous: neighbouring windows resemble each
    other, and a fold drawn at random would be foretold by its neighbours.

    Args:
        x: Shape ``(n,)``, in the order of time.
        y: What is foretold.
        weight: Of each pair.
        fit: What is judged.
        folds: Number of parts.
    """
    parts = np.array_split(np.arange(len(x)), min(folds, len(x)))
    squares = np.empty(len(x))
    for part in parts:
        kept = np.setdiff1d(np.arange(len(x)), part)
        curve = fit(x[kept], y[kept], weight[kept])
        squares[part] = (y[part] - curve(x[part])) ** 2
    return float(np.sqrt(np.average(squares, weights=weight)) / abs(np.average(y, weights=weight)))


def straight(x: Floats, y: Floats, weight: Floats) -> Callable[[Floats], Floats]:
    """Fit a line, for :func:`unseen_error`."""
    line = fit_line(x, y, weight)
    return lambda at: np.asarray(line.intercept + line.slope * at, dtype=np.float64)


def level(_x: Floats, y: Floats, weight: Floats) -> Callable[[Floats], Floats]:
    """Fit a level, for :func:`unseen_error`."""
    mean = float(np.average(y, weights=weight))
    return lambda at: np.full_like(at, mean, dtype=np.float64)


def bent(x: Floats, y: Floats, weight: Floats) -> Callable[[Floats], Floats]:
    """Fit a parabola, for :func:`unseen_error`: is a line enough?"""
    curve = np.polynomial.Polynomial.fit(x, y, 2, w=np.sqrt(weight))
    return lambda at: np.asarray(curve(at), dtype=np.float64)
