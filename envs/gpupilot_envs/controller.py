"""The classical controller that a policy moves, as tuned for services of any cold start."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gpupilot_envs.following import PERIOD_S
from gpupilot_envs.queueing import Knobs

REFERENCE_PRICE = 25.0
"""Price of a late request at which a controller's margin is the one it is given."""

USUAL_SLOPE = 0.8
"""Margin per factor e of the price that suits a controller tuned at one objective alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """The classical controller the actions move around, as tuned for services of any cold start.

    The fields are those of the ``queueing`` and ``predictive`` baselines; see
    :class:`gpupilot_envs.queueing.Knobs`. The margin may follow the price of a late request, so
    that one controller is a good one at every objective.

    Attributes:
        z: Margin in standard deviations of the forecast error at :data:`REFERENCE_PRICE`.
        z_per_log_price: Margin added per factor e of the price; 0 for a controller as tuned.
        hold_s: Seconds over which the largest need is kept on the way down.
        lead_ratio: Forecast horizon as a multiple of cold start plus one decision interval.
        alpha: Weight of the newest reading in the level.
        beta: Weight of the newest slope in the trend; 0 for no trend.
        drain_s: Seconds within which a backlog must be gone.
        conformal: Whether the margin is a quantile of the errors.
        anchor_miss: A running mean stands in for the forecast while its errors of the last quarter
            of an hour are below this share of the forecast's, 0 (never) to 1: where the rate is
            noise around a slow mean, following it costs margin and buys nothing.
    """

    z: float = 1.5
    z_per_log_price: float = 0.0
    hold_s: float = 120.0
    lead_ratio: float = 1.0
    alpha: float = 0.6
    beta: float = 0.2
    drain_s: float = 15.0
    conformal: bool = True
    anchor_miss: float = 0.0

    def margin(self, price: float) -> float:
        """Return the margin ``z`` at a price of a late request, 0 or more."""
        return max(self.z + self.z_per_log_price * math.log(price / REFERENCE_PRICE), 0.0)

    def knobs(self, cold_start_s: float, price: float = REFERENCE_PRICE) -> Knobs:
        """Return the setting for a service.

        Args:
            cold_start_s: Time a pod takes to answer, seconds.
            price: Of a late request, in GPU time per request.
        """
        return Knobs(
            z=self.margin(price),
            hold_s=self.hold_s,
            horizon_s=self.lead_ratio * (cold_start_s + PERIOD_S),
            alpha=self.alpha,
            beta=self.beta,
            drain_s=self.drain_s,
            conformal=self.conformal,
            anchor_miss=self.anchor_miss,
        )
