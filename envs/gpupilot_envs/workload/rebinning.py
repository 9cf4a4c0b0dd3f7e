"""Rates on another grid, with every mean preserved."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.errors import TraceInvalid

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

Shape = Literal["step", "linear"]
"""How finer bins fill a coarser one."""

_TOLERANCE = 1e-9


def rebin_rates(rps: Floats, bin_s: float, new_bin_s: float, shape: Shape) -> Floats:
    """Return the mean rate of each whole new bin, shape ``(floor(duration / new_bin_s),)``.

    Raises:
        TraceInvalid: ``shape`` is ``linear`` and the new bin is no whole fraction of the old.
    """
    if shape == "linear" and new_bin_s < bin_s:
        return _linear(rps, _whole_fraction(bin_s, new_bin_s))
    edges = _edges(len(rps), bin_s, new_bin_s)
    cumulative = np.concatenate(([0.0], np.cumsum(rps)))
    at_edges = np.interp(edges, np.arange(len(rps) + 1), cumulative)
    # a difference of sums can fall below 0 by a rounding error
    return np.maximum(np.diff(at_edges) * (bin_s / new_bin_s), 0.0)


def rebin_mask(masked: Flags, bin_s: float, new_bin_s: float) -> Flags:
    """Return which new bins touch a masked old one, shape as of :func:`rebin_rates`."""
    edges = _edges(len(masked), bin_s, new_bin_s)
    counts = np.concatenate(([0], np.cumsum(masked)))
    first = np.floor(edges[:-1] + _TOLERANCE).astype(np.int64)
    last = np.ceil(edges[1:] - _TOLERANCE).astype(np.int64)
    return np.asarray(counts[np.minimum(last, len(masked))] > counts[first], dtype=np.bool_)


def _edges(bins: int, bin_s: float, new_bin_s: float) -> Floats:
    """Edges of the whole new bins, in units of old bins."""
    count = int(np.floor(bins * bin_s / new_bin_s * (1 + _TOLERANCE)))
    edges: Floats = np.arange(count + 1, dtype=np.float64) * (new_bin_s / bin_s)
    return np.minimum(edges, float(bins))


def _whole_fraction(bin_s: float, new_bin_s: float) -> int:
    ratio = bin_s / new_bin_s
    if abs(ratio - round(ratio)) > _TOLERANCE * ratio:
        raise TraceInvalid("bin_s", new_bin_s, f"a whole fraction of {bin_s:g} for linear")
    return round(ratio)


def _linear(rps: Floats, ratio: int) -> Floats:
    middles = np.arange(len(rps)) + 0.5
    fine = (np.arange(len(rps) * ratio) + 0.5) / ratio
    lines = np.interp(fine, middles, rps).reshape(len(rps), ratio)
    means = lines.mean(axis=1)
    # a bin without traffic stays without: its lines only borrow from its neighbours
    scale = np.divide(rps, means, out=np.zeros_like(rps), where=means > 0)
    return np.asarray((lines * scale[:, None]).ravel(), dtype=np.float64)
