"""Stacks of real processes: Triton, Envoy, Prometheus; installed into the cache when absent."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpupilot_agent.stack import lifecycle
from gpupilot_agent.stack.plan import StackPlan, free_ports
from gpupilot_agent.stack.state import StackState
from gpupilot_envs.profile import parse_profile

SLEEPER: dict[str, object] = {
    "format": "gpupilot/profile-v1",
    "name": "sleeper",
    "batch_latency_ms": [[1, 20], [2, 30], [8, 90]],
    "noise_cv": 0,
    "batching": {"enabled": True, "max_batch": 8, "queue_delay_ms": 0},
    "gpu": {"sharing": {"contention_by_tenants": [[1, 1], [2, 1.5]]}},
}
"""20 ms alone, 10 ms for each one more, half as long again beside another instance."""
TARGET_MS = 50.0

Planner = Callable[..., StackPlan]
Reader = Callable[[StackState, str], float | None]
Waiter = Callable[[StackState, str, float], float | None]


def _plan(folder: Path, service: dict[str, object] | None = None, **changes: object) -> StackPlan:
    # ports of its own: another test process may be looking for free ones at the same time
    gateway, prometheus = free_ports(2)
    given: dict[str, object] = {
        "flavour": "emulated",
        "folder": folder,
        "profile": parse_profile(SLEEPER | (service or {})),
        "target_ms": TARGET_MS,
        "gateway_port": gateway,
        "prometheus_port": prometheus,
    }
    return StackPlan(**(given | changes))  # type: ignore[arg-type]


def _value(state: StackState, query: str) -> float | None:
    url = f"{state.prometheus_url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    with urllib.request.urlopen(url, timeout=10) as page:
        found = json.load(page)["data"]["result"]
    assert len(found) <= 1, f"{query} answers {len(found)} series"
    return float(found[0]["value"][1]) if found else None


@pytest.fixture(scope="session")
def plan_of() -> Planner:
    """Return a maker of plans: a folder, what differs in the profile, what differs in the plan."""
    return _plan


@pytest.fixture(scope="session")
def value() -> Reader:
    """Return a function that asks Prometheus for an expression of one number."""
    return _value


@pytest.fixture(scope="session")
def settled() -> Waiter:
    """Return a function that asks until the wanted number is there, and returns the last one."""

    def wait(state: StackState, query: str, wanted: float) -> float | None:
        deadline_s = time.monotonic() + 15.0
        while (found := _value(state, query)) != wanted and time.monotonic() < deadline_s:
            time.sleep(0.2)
        return found

    return wait


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackState]:
    """Return a stack of two emulated replicas, requests given in turn."""
    folder = tmp_path_factory.mktemp("emulated") / "stack"
    plan = _plan(folder, replicas=2, balancing="round_robin")
    yield lifecycle.up(plan, say=lambda _: None)
    lifecycle.down(folder)
