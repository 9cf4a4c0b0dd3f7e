"""What could be done without a policy: keep an allocation, or play again what was granted."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

from gpupilot_agent.explanation.moment import Grant
from gpupilot_agent.policies import Proposal, View


@dataclass(frozen=True, slots=True, kw_only=True)
class ByHand:
    """Asks for what a plan says, whatever comes.

    Attributes:
        plan: What to run with from when, ascending; the first entry also holds before its time.
    """

    plan: tuple[Grant, ...]
    name: str = "by hand"
    period_s: float = 5.0
    window_s: float = 15.0

    def act(self, view: View, memory: Any) -> Proposal:  # noqa: ARG002
        """Ask for the entry in force."""
        times = [at_s for at_s, _ in self.plan]
        entry = max(bisect_right(times, view.now_s) - 1, 0)
        return Proposal(ask=self.plan[entry][1], why=f"plan entry {entry}")
