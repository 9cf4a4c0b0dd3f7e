"""What one tick found out and did: the one record that metrics and log lines are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpupilot_operator.facts import Facts
from gpupilot_operator.plan import Plan
from gpupilot_operator.ports import Seen

ACTUATORS = ("replicas", "share_milli", "resize", "batching")
"""Fields of a plan, as metrics and log lines name them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceReport:
    """One service in one tick.

    Attributes:
        seen: The service as it was when the tick began.
        facts: What was found out and decided.
        told: Whether the decision says something that the last one did not.
        plan: What was to be changed; ``None`` where nothing was.
        failure: What went wrong in changing or telling it, in a sentence.
        proof_passed_at_s: Unix time at which its newest gate passed; ``None`` without one.
    """

    seen: Seen
    facts: Facts
    told: bool = False
    plan: Plan | None = None
    failure: str | None = None
    proof_passed_at_s: float | None = None

    @property
    def moved(self) -> tuple[str, ...]:
        """The actuators that were to be moved."""
        return tuple(name for name in ACTUATORS if getattr(self.plan, name, None) is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TickReport:
    """One tick over all services.

    Attributes:
        at_s: Unix time of the tick.
        read_s: Seconds spent asking Prometheus.
        decide_s: Seconds from the readings to the verdicts.
        inference_s: Of these, seconds in learned policies.
        act_s: Seconds spent changing and telling.
        queries: Questions to Prometheus.
        query_error: Why Prometheus did not answer; ``None`` where it did.
        change_errors: Services that could not be changed.
        telling_errors: Services whose status or events could not be written.
        unready: Resources for which nothing runs, by key, with the reason.
        services: Every service.
    """

    at_s: float
    read_s: float
    decide_s: float
    inference_s: float = 0.0
    act_s: float
    queries: int
    query_error: str | None = None
    change_errors: int = 0
    telling_errors: int = 0
    unready: Mapping[str, str] = field(default_factory=dict)
    services: tuple[ServiceReport, ...] = ()

    @property
    def whole_s(self) -> float:
        """Seconds of the whole tick."""
        return self.read_s + self.decide_s + self.act_s
