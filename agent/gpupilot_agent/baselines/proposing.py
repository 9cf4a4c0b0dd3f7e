"""How a baseline words its answer: the running allocation with another replica count."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gpupilot_agent.policies import Proposal, View


def propose(view: View, replicas: int, why: str, memory: Any = None) -> Proposal:
    """Ask for ``replicas`` of what runs now, for the reason ``why``."""
    return Proposal(ask=replace(view.current, replicas=replicas), why=why, memory=memory)


def pods(view: View) -> tuple[int, int]:
    """Return (ready, pending) pods; what was not answered is taken from the running allocation.

    Kubernetes answers these, not the metrics source, so an autoscaler knows them even when it
    knows nothing else.
    """
    latest = view.history.latest
    if latest is None or latest.replicas_ready is None:
        return view.current.replicas, 0
    pending = latest.replicas_pending
    if pending is None:
        pending = max(0, view.current.replicas - latest.replicas_ready)
    return latest.replicas_ready, pending


def concurrency_slots(view: View) -> int:
    """Return how many requests one replica can execute at once: batch size times instances."""
    return view.current.batch_max * view.current.instances_per_replica
