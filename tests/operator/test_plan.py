"""From what was granted to what has to be changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from looping import after

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.reasons import Reason
from gpupilot_operator.facts import Facts, Grant, MetricsState, PolicyState, Rung
from gpupilot_operator.plan import Batching, Plan, Resize, difference, planned
from gpupilot_operator.spec_autoscaling import Mode

RUNNING = Allocation(replicas=4, gpu_share_milli=142, cpu_milli=500)
ALLOCATIONS = st.builds(
    Allocation,
    replicas=st.integers(0, 3),
    gpu_share_milli=st.sampled_from([142, 1000]),
    cpu_milli=st.sampled_from([500, 1000]),
    memory_bytes=st.sampled_from([2**30, 2**31]),
    instances_per_replica=st.integers(1, 2),
    batch_max=st.sampled_from([4, 8]),
    queue_delay_us=st.sampled_from([0, 500]),
)


def facts(granted: Allocation, **changes: Any) -> Facts:
    reasons = (Reason.DESIRED_WITHIN_RANGE,)
    grant = Grant(asked=granted, granted=granted, reasons=reasons, policy="queueing")
    base: dict[str, Any] = {
        "running": RUNNING,
        "ready": 4,
        "mode": Mode.ACT,
        "metrics": MetricsState.FOUND,
        "policy": PolicyState.CLASSICAL,
        "rung": Rung.POLICY,
        "grant": grant,
    }
    return Facts(**(base | changes))


@pytest.mark.parametrize(
    ("granted", "plan"),
    [
        (replace(RUNNING, replicas=6), Plan(replicas=6)),
        (replace(RUNNING, replicas=0), Plan(replicas=0)),
        (replace(RUNNING, gpu_share_milli=1000), Plan(share_milli=1000)),
        (
            replace(RUNNING, cpu_milli=800),
            Plan(resize=Resize(cpu_milli=800, memory_bytes=RUNNING.memory_bytes)),
        ),
        (
            replace(RUNNING, batch_max=16),
            Plan(batching=Batching(instances=1, batch_max=16, queue_delay_us=0)),
        ),
    ],
    ids=["replicas", "to zero", "share", "limits", "batching"],
)
def test_only_what_differs_is_changed(granted: Allocation, plan: Plan) -> None:
    assert planned(facts(granted)) == plan


def test_nothing_is_planned_when_nothing_differs() -> None:
    assert planned(facts(RUNNING)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": Mode.OBSERVE},
        {"mode": Mode.PAUSED},
        {"other_writer": "HorizontalPodAutoscaler/shop"},
        {"grant": None},
    ],
    ids=["Observe", "Paused", "other writer", "undecided"],
)
def test_nothing_is_changed_unless_we_may(changes: dict[str, Any]) -> None:
    assert planned(facts(replace(RUNNING, replicas=8), **changes)) is None


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(granted=ALLOCATIONS, running=ALLOCATIONS)
def test_carrying_out_a_plan_leads_to_what_was_granted(
    granted: Allocation, running: Allocation
) -> None:
    plan = difference(granted, running)
    assert (plan is None) == (granted == running)
    if plan is None:
        return
    assert after(running, plan) == granted
