"""How long the classical controller decides after a policy saw what it was not trained on.

One strange observation is enough to hand over, and a quiet minute to hand back: a policy that
took turns with the classical controller would be neither.
"""

from __future__ import annotations

from gpupilot_envs.compiled import inlined
from gpupilot_envs.following import PERIOD_S

DOUBT_S = 60.0
"""Seconds of familiar observations before the policy decides again."""

DOUBT_DECISIONS = round(DOUBT_S / PERIOD_S)


@inlined
def doubt(left: int, strange: bool) -> int:
    """Return the decisions left to the classical controller, this one included; 0 for none.

    Args:
        left: What this returned at the previous decision, 0 at first.
        strange: Whether the present observation is one the policy was not trained on.
    """
    return DOUBT_DECISIONS if strange else max(left - 1, 0)
