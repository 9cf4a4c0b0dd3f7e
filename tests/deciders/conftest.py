"""A service in fake time, for stories about one policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings

from gpupilot_agent.policies import Policy, View
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.profile import ServiceProfile, parse_profile
from gpupilot_envs.serving.capacity import Capacity
from gpupilot_envs.signals import History, Signals

# The first example of a property compiles its kernel: no example has a deadline.
settings.register_profile("compiled", deadline=None)
settings.load_profile("compiled")


class Stage:
    """Shows readings to a policy and remembers what it answered.

    One replica carries 100 rps within the objective of 60 ms; a batch of n takes 10 + 5 n ms.
    """

    def __init__(self, policy: Policy, replicas: int = 1, **limits: float) -> None:
        self.policy = policy
        self.replicas = replicas
        self.limits = Limits(**{"warm_up_s": 0.0, **limits})  # type: ignore[arg-type]
        self.profile = _profile()
        self.targets = Targets(latency_s=0.06)
        self.capacity = Capacity(slo_rps=100.0, saturation_rps=150.0, idle_latency_s=0.015)
        self.history = History()
        self.memory: Any = None
        self.now_s = 0.0
        self.why = ""

    def view(self) -> View:
        return View(
            now_s=self.now_s,
            history=self.history,
            current=Allocation(replicas=self.replicas),
            limits=self.limits,
            targets=self.targets,
            profile=self.profile,
            capacity=self.capacity,
        )

    def ask(self, **shown: float | None) -> int:
        """Let one period pass, show a reading, return the replicas the policy asks for."""
        self.now_s += self.policy.period_s
        fields = {"age_s": 0.0, "replicas_ready": self.replicas, "replicas_pending": 0, **shown}
        reading = Signals(at_s=self.now_s, window_s=self.policy.window_s, **fields)  # type: ignore[arg-type]
        self.history = self.history.push(reading)
        proposal = self.policy.act(self.view(), self.memory)
        self.memory, self.why = proposal.memory, proposal.why
        assert proposal.ask == replace(self.view().current, replicas=proposal.ask.replicas)
        return proposal.ask.replicas

    def grant(self, **shown: float | None) -> int:
        """Like :meth:`ask`, and the service gets what the policy asked for."""
        self.replicas = self.ask(**shown)
        return self.replicas

    def grant_for(self, seconds: float, **shown: float | None) -> list[int]:
        """Grant for as long as ``seconds``; return every answer."""
        return [self.grant(**shown) for _ in range(round(seconds / self.policy.period_s))]


def _profile() -> ServiceProfile:
    return parse_profile(
        {
            "name": "story",
            "batch_latency_ms": [[1, 15.0], [8, 50.0]],
            "cold_start_s": {"mean": 30.0, "cv": 0.0},
        }
    )


@pytest.fixture(scope="session")
def stage() -> type[Stage]:
    return Stage
