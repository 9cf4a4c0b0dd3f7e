"""How hard to press, over time: constant, linear or random levels between 0 and 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpupilot_envs.errors import InputInvalid

KINDS = ("constant", "linear", "random")


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """A profile of levels, the same for the same seed.

    Attributes:
        kind: ``constant`` holds ``low``; ``linear`` rises from ``low`` to ``high`` over each
            period and starts again; ``random`` draws a level in between for each period.
        low: Lowest level, 0 to 1.
        high: Highest level, 0 to 1.
        period_s: Length of a rise, or of a drawn level.
        seed: Of the drawn levels.
    """

    kind: str
    low: float
    high: float
    period_s: float
    seed: int = 0

    def at(self, t_s: float) -> float:
        """Return the level at ``t_s`` seconds from the start."""
        if self.kind == "constant":
            return self.low
        period, within_s = divmod(t_s, self.period_s)
        if self.kind == "linear":
            return self.low + (self.high - self.low) * within_s / self.period_s
        drawn = np.random.default_rng((self.seed, int(period))).random()
        return self.low + (self.high - self.low) * float(drawn)


def parse(option: str, text: str, *, period_s: float, seed: int) -> Levels:
    """Return the profile of ``constant:0.5``, ``linear:0.1-0.9`` or ``random:0.2-0.8``.

    Raises:
        InputInvalid: The text is none of these or a level lies outside 0 to 1; names the option.
    """
    allowed = "constant:L, linear:L-H or random:L-H with levels 0 to 1"
    kind, _, span = text.partition(":")
    low_text, _, high_text = span.partition("-")
    try:
        low = float(low_text)
        high = float(high_text) if high_text else low
    except ValueError as error:
        raise InputInvalid(option, text, allowed) from error
    if (
        kind not in KINDS
        or not (0.0 <= low <= high <= 1.0)
        or (kind != "constant") != bool(high_text)
    ):
        raise InputInvalid(option, text, allowed)
    if not 0.0 < period_s < np.inf:
        raise InputInvalid("--period", period_s, "a finite number of seconds above 0")
    return Levels(kind=kind, low=low, high=high, period_s=period_s, seed=seed)
