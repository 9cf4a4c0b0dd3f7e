"""Local linear trend by a Kalman filter: Dynamo's predictor for low-latency smoothing.

Source: ai-dynamo/dynamo ``components/src/dynamo/planner/core/load/predictors.py``
(``KalmanPredictor``, read at 260b6ae9) with its defaults in ``config/defaults.py``: process noise
1.0 (level) and 0.1 (trend), observation noise 10.0, initial variance 1000.
"""

from __future__ import annotations

from dataclasses import dataclass

Q_LEVEL, Q_TREND, R, P_START = 1.0, 0.1, 10.0, 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTrend:
    """State of the filter after its one-step prediction.

    Attributes:
        level: Predicted next value, in the unit of the observations.
        trend: Change per step.
        variances: Upper triangle of the state's covariance: level, cross, trend.
    """

    level: float
    trend: float = 0.0
    variances: tuple[float, float, float] = (P_START, 0.0, P_START)

    @classmethod
    def begin(cls, value: float) -> LocalTrend:
        """Return the prediction after the first observation."""
        return cls(level=value)._ahead()

    def observe(self, value: float) -> LocalTrend:
        """Return the prediction of the next value after seeing ``value``."""
        level_var, cross, trend_var = self.variances
        gain_level, gain_trend = level_var / (level_var + R), cross / (level_var + R)
        surprise = value - self.level
        updated = LocalTrend(
            level=self.level + gain_level * surprise,
            trend=self.trend + gain_trend * surprise,
            variances=(
                (1.0 - gain_level) * level_var,
                (1.0 - gain_level) * cross,
                trend_var - gain_trend * cross,
            ),
        )
        return updated._ahead()

    def _ahead(self) -> LocalTrend:
        level_var, cross, trend_var = self.variances
        return LocalTrend(
            level=self.level + self.trend,
            trend=self.trend,
            variances=(
                level_var + 2.0 * cross + trend_var + Q_LEVEL,
                cross + trend_var,
                trend_var + Q_TREND,
            ),
        )
