"""What a metrics source shows of the fleet: rows of :class:`Signals`, late, silent or missing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled, inlined
from gpupilot_envs.fleet.noise import uniform
from gpupilot_envs.fleet.state import Silence
from gpupilot_envs.signals import SIGNAL_FIELDS, SIGNAL_INDEX

Floats = NDArray[np.float64]

COLUMNS = len(SIGNAL_FIELDS)

KEPT = 5
"""Rows kept per service: the newest and what a lag of up to four intervals needs."""

MEAN_SILENCE_S = 60.0
"""Mean length of a silence that comes by chance."""

_AT = SIGNAL_INDEX["at_s"]
_WINDOW = SIGNAL_INDEX["window_s"]
_AGE = SIGNAL_INDEX["age_s"]
_FIRST_METRIC = _AGE + 1
_READY = SIGNAL_INDEX["replicas_ready"]
_PENDING = SIGNAL_INDEX["replicas_pending"]
_MISSING = int(Silence.MISSING)


@inlined
def silence_by_chance(
    service: np.void, random: NDArray[np.uint64], which: int, span_s: float
) -> None:
    """Begin a silence with the service's own hazard, missing or stale with equal chance."""
    if service["silences_per_s"] <= 0.0 or service["silent_until_s"] > service["elapsed_s"]:
        return
    if uniform(random, which) < service["silences_per_s"] * span_s:
        lasts_s = -MEAN_SILENCE_S * np.log(1.0 - uniform(random, which))
        service["silent_until_s"] = service["elapsed_s"] + lasts_s
        service["silence"] = 0 if uniform(random, which) < 0.5 else 1


@inlined
def show(service: np.void, kept: Floats, which: int, interval_s: float, rows: Floats) -> None:
    """Write what the source answers now into row ``which`` of ``rows``.

    The pods come from the cluster, not from the metrics source: they are never late.

    Args:
        service: The service's memory; it knows which of its rows is the newest.
        kept: The last rows as they were, a ring per service, shape ``(n, KEPT, COLUMNS)``.
        which: Place of the service in the fleet.
        interval_s: Length of a step, which is also the window of a row.
        rows: Receives the answer, shape ``(n, COLUMNS)``; holds the previous one.
    """
    newest = service["newest"]
    silent = service["silent_until_s"] > service["elapsed_s"]
    if silent:
        _stay_silent(service, which, interval_s, rows)
    else:
        _show_late(service, kept, which, interval_s, rows)
    rows[which, _AT] = service["elapsed_s"]
    rows[which, _WINDOW] = interval_s
    rows[which, _READY] = kept[which, newest, _READY]
    rows[which, _PENDING] = kept[which, newest, _PENDING]


@compiled
def _stay_silent(service: np.void, which: int, interval_s: float, rows: Floats) -> None:
    rows[which, _AGE] += interval_s
    if service["silence"] == _MISSING:
        for k in range(_FIRST_METRIC, _READY):
            rows[which, k] = np.nan


@inlined
def _show_late(service: np.void, kept: Floats, which: int, interval_s: float, rows: Floats) -> None:
    """Blend the two intervals that a window ``lag_s`` ago covers; NaN where one is missing."""
    rows[which, _AGE] = service["lag_s"]
    late = service["lag_s"] / interval_s
    whole = min(int(late), KEPT - 2)
    part = min(late - whole, 1.0)
    near = service["newest"] - whole
    near += KEPT if near < 0 else 0
    if part == 0.0:
        for k in range(_FIRST_METRIC, _READY):
            rows[which, k] = kept[which, near, k]
        return
    far = near - 1
    far += KEPT if far < 0 else 0
    for k in range(_FIRST_METRIC, _READY):
        rows[which, k] = (1.0 - part) * kept[which, near, k] + part * kept[which, far, k]
