"""Ray Serve's replica autoscaling on ongoing requests.

Source: ray-project/ray ``python/ray/serve/autoscaling_policy.py``
(``replica_queue_length_autoscaling_policy`` and the delay logic round it) and
``python/ray/serve/config.py`` (read at 00590c45, 2026);
https://docs.ray.io/en/latest/serve/autoscaling-guide.html.
Constants: target 2 ongoing requests per replica, mean over a look-back of 30 s, up after 30 s and
down after 600 s of unbroken agreement, factors 1.

As upstream, agreement is counted in loops and the last value is what is applied. The loop is 2 s
instead of 0.1 s; counts scale with it. What does not apply here: application-level policies,
asynchronous task queues, the separate delay to zero (it defaults to the down delay).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

from gpupilot_agent.baselines.proposing import pods, propose
from gpupilot_agent.policies import Proposal, View


@dataclass(frozen=True, slots=True, kw_only=True)
class RayServe:
    """Ray Serve's default policy.

    Attributes:
        target_ongoing: Requests queued or executing per replica.
        up_delay_s: Seconds of agreement before adding.
        down_delay_s: Seconds of agreement before removing.
        up_factor: Share of a growth that is taken.
        down_factor: Share of a shrinkage that is taken.
    """

    name: str = "ray"
    target_ongoing: float = 2.0
    up_delay_s: float = 30.0
    down_delay_s: float = 600.0
    up_factor: float = 1.0
    down_factor: float = 1.0
    period_s: float = 2.0
    window_s: float = 30.0

    def act(self, view: View, memory: Any) -> Proposal:
        """Run one loop; ``memory`` counts loops of agreement, negative for down."""
        counter = 0 if memory is None else int(memory)
        latest, target = view.history.latest, view.current.replicas
        ongoing = None if latest is None else latest.inflight_requests
        if ongoing is None:
            return propose(view, target, "no metrics", counter)
        running, _ = pods(view)
        if target == 0:
            woken = max(ceil(self.up_factor), target) if ongoing > 0 else target
            return propose(view, woken, "from zero", counter)
        if running == 0:
            return propose(view, target, "no running replica", counter)
        desired = self._bounded(view, self._scaled(ongoing / self.target_ongoing, running))
        replicas, counter = self._delayed(desired, target, counter)
        return propose(view, replicas, f"{ongoing:.6g} ongoing want {desired}", counter)

    def _scaled(self, desired: float, running: int) -> int:
        factor = self.up_factor if desired > running else self.down_factor
        scaled = ceil(running + factor * (desired - running))
        stuck = ceil(desired) < running and scaled == running
        return scaled - 1 if stuck else scaled

    def _bounded(self, view: View, replicas: int) -> int:
        return max(view.limits.replicas_min, min(view.limits.replicas_max, replicas))

    def _delayed(self, desired: int, target: int, counter: int) -> tuple[int, int]:
        if desired > target:
            counter = max(counter, 0) + 1
            agreed = counter > int(self.up_delay_s / self.period_s)
            return (desired, 0) if agreed else (target, counter)
        if desired < target:
            counter = min(counter, 0) - 1
            agreed = counter < -int(self.down_delay_s / self.period_s)
            # Only the last replica may go to zero; larger steps stop at one.
            lower = desired if target == 1 else max(1, desired)
            return (lower, 0) if agreed else (target, counter)
        return target, 0
