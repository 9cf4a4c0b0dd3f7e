"""Changes of share under a load that moves: played step by step, whatever fails in between."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cluster_objects import PLATFORM, Watched, around, deployment, resource, service_of
from gpupilot_operator.granted import Granted
from gpupilot_operator.known import Known
from gpupilot_operator.plan import Plan
from gpupilot_operator.reconcile import carried, reconciled
from gpupilot_operator.service import SHARE_LABEL, Service
from gpupilot_operator.steps import Grant, Make, Remove, Repair, Scale, Step
from gpupilot_operator.views import Name

SHARES = (142, 285, 428, 1000)
BUDGET_MILLI, MOST = 4000, 12
NOW = datetime(2026, 1, 1, tzinfo=UTC)
GPU: dict[str, Any] = {
    "sharing": "MIG",
    "minShareMilli": SHARES[0],
    "budgetMilli": BUDGET_MILLI,
    "shares": [{"milli": milli, "resources": {f"nvidia.com/mig-{milli}": 1}} for milli in SHARES],
}
PREDICTOR = {"minReplicas": 1, "maxReplicas": MOST}


@dataclass(slots=True)
class Held:
    """A Deployment of the played cluster."""

    replicas: int
    ready: int
    granted: Granted | None = None


def milli(granted: tuple[int, int]) -> int:
    share, replicas = granted
    return share * replicas


def body() -> dict[str, Any]:
    made = resource(gpu=GPU)
    made["spec"] = {**made["spec"], "predictor": made["spec"]["predictor"] | PREDICTOR}
    return made


class Changes(RuleBasedStateMachine):
    """A cluster, the operator's steps on it, and decisions as the guardrail grants them.

    The guardrail knows the newest share and its replicas. A change of share it grants where both
    shares fit in the budget; what serves until then is what was granted before, and whatever is
    granted on top.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = body()
        self.service: Service = service_of(self.body)
        # oldest first
        self.held: dict[int, Held] = {428: Held(replicas=2, ready=2)}
        self.front = 428
        self.granted = (428, 2)

    def known(self) -> Known:
        watched = Watched()
        watched.see(self.body)
        for order, (share, each) in enumerate(self.held.items()):
            created = f"2026-01-01T00:00:{order:02d}Z"
            made = deployment(
                self.service,
                share,
                replicas=each.replicas,
                ready=each.ready,
                created=created,
                granted=each.granted,
            )
            watched.see(made)
        for part in around(self.service, self.front):
            watched.see(part)
        found = watched.store.known(Name(namespace="prod", name="shop"))
        assert found is not None
        return found

    def perform(self, steps: tuple[Step, ...]) -> None:
        for step in steps:
            match step:
                case Make():
                    share = int(step.manifest["metadata"]["labels"][SHARE_LABEL])
                    self.held[share] = Held(replicas=step.replicas or 0, ready=0)
                case Grant():
                    self.of(step.at).granted = step.granted
                case Scale():
                    each = self.of(step.at)
                    assert each.replicas == step.seen
                    each.replicas, each.ready = step.wanted, min(each.ready, step.wanted)
                case Remove():
                    del self.held[self.share(step.at)]
                case Repair():
                    self.front = int(step.manifest["spec"]["selector"][SHARE_LABEL])
                case _:
                    raise AssertionError(step)

    def share(self, at: Name) -> int:
        return int(at.name.rpartition("-")[2])

    def of(self, at: Name) -> Held:
        return self.held[self.share(at)]

    @property
    def asked_milli(self) -> int:
        return sum(share * each.replicas for share, each in self.held.items())

    @rule(replicas=st.integers(1, MOST))
    def load_moves(self, replicas: int) -> None:
        """A decision for more or fewer pods of the share that was asked for last."""
        newest, each = list(self.held.items())[-1]
        assume(newest * replicas <= BUDGET_MILLI and replicas != each.replicas)
        more = replicas > each.replicas or len(self.held) == 1
        self.granted = (
            (newest, replicas) if more else min(self.granted, (newest, replicas), key=milli)
        )
        self.perform(carried(self.known(), Plan(replicas=replicas), PLATFORM))

    @precondition(lambda self: len(self.held) == 1)
    @rule(share=st.sampled_from(SHARES), replicas=st.integers(1, MOST))
    def another_share_pays(self, share: int, replicas: int) -> None:
        ((newest, each),) = self.held.items()
        assume(share != newest)
        assume(share * replicas + newest * each.replicas <= BUDGET_MILLI)
        self.granted = (newest, each.replicas)
        self.perform(carried(self.known(), Plan(share_milli=share, replicas=replicas), PLATFORM))

    @rule(share=st.sampled_from(SHARES), ready=st.integers(0, MOST))
    def pods_answer(self, share: int, ready: int) -> None:
        if share in self.held:
            each = self.held[share]
            each.ready = min(ready, each.replicas)

    @rule()
    def the_operator_looks(self) -> None:
        steps = reconciled(self.known(), PLATFORM, NOW)
        moved = [each for each in steps if isinstance(each, Repair)]
        if moved:
            newest = list(self.held.items())[-1]
            self.granted = (newest[0], newest[1].replicas)
        self.perform(steps)

    @invariant()
    def what_serves_is_asked_to_carry_what_was_granted(self) -> None:
        serving = self.held[self.front]
        most = min(MOST, BUDGET_MILLI // self.front)
        assert serving.replicas * self.front >= min(milli(self.granted), most * self.front)

    @invariant()
    def never_beyond_the_budget(self) -> None:
        assert self.asked_milli <= BUDGET_MILLI

    @invariant()
    def no_more_than_one_change_at_a_time(self) -> None:
        assert len(self.held) <= 2


TestChanges = Changes.TestCase
TestChanges.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
