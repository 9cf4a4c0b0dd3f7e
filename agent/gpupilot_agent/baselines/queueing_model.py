"""The queueing controller: forecast, margin and backlog over what one replica carries.

The reactive form tracks the rate; the predictive form adds Holt's trend and takes its margin from
the conformal quantile of its own errors. The kernels, and the papers behind them, are in
``gpupilot_envs.queueing``; the learned policy moves the same numbers. What one replica carries is
found with its real batcher, so the controller knows about batching. Defaults are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isnan
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.baselines.proposing import propose
from gpupilot_agent.policies import Proposal, View
from gpupilot_envs.queueing import AT, PENDING, RATE, WINDOW, needs, settle
from gpupilot_envs.signals import History

HISTORY_S = 960.0
"""Seconds over which forecast errors are kept: 64 readings of a quarter of a minute."""

_READ = attrgetter("at_s", "window_s", "rate_rps", "pending_requests")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueingModel:
    """Replicas from a rate forecast.

    Attributes:
        z: Margin in standard deviations of the forecast error.
        hold_s: Seconds over which the largest need is kept on the way down.
        lead_ratio: Forecast horizon as a multiple of cold start plus one period.
        alpha: Weight of the newest reading in the level.
        beta: Weight of the newest slope in the trend; 0 for no trend.
        drain_s: Seconds within which a backlog must be gone.
        conformal: Whether the margin is a quantile of the errors.
    """

    name: str = "queueing"
    z: float = 1.5
    hold_s: float = 120.0
    lead_ratio: float = 1.0
    alpha: float = 0.6
    beta: float = 0.0
    drain_s: float = 15.0
    conformal: bool = False
    period_s: float = 15.0
    window_s: float = 15.0

    @property
    def history_rows(self) -> int:
        """Readings it looks back on: the same time whatever the period, its hold at least."""
        return ceil(max(HISTORY_S, self.hold_s) / self.period_s)

    def act(self, view: View, memory: Any) -> Proposal:  # noqa: ARG002
        """Ask for the need at once on the way up, for the held need on the way down."""
        need, held, forecast_rps, margin = self.needs(view, read_rows(view.history))
        if isnan(need):
            return propose(view, view.current.replicas, "no rate yet")
        why = f"need {need:.2f}, held {held:.2f}: {forecast_rps:.6g} + {margin:.3g} rps"
        return propose(view, settle(view.current.replicas, need, held), why)

    def needs(self, view: View, rows: NDArray[np.float64]) -> tuple[float, float, float, float]:
        """Return what :func:`gpupilot_envs.queueing.needs` does, for what runs now."""
        found: tuple[float, float, float, float] = needs(
            rows,
            0,
            len(rows),
            view.capacity.slo_rps,
            self.z,
            self.hold_s,
            self.lead_ratio * (view.profile.cold_start_s.mean + self.period_s),
            self.alpha,
            self.beta,
            self.drain_s,
            self.conformal,
        )
        return found


def read_rows(history: History) -> NDArray[np.float64]:
    """Return the columns of ``history.matrix()`` the kernel reads, at a tenth of its price."""
    rows = np.full((len(history.readings), PENDING + 1), np.nan)
    if history.readings:
        read = np.array([_READ(reading) for reading in history.readings], dtype=np.float64)
        rows[:, (AT, WINDOW, RATE, PENDING)] = read
    return rows
