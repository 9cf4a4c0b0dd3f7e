"""An operator process that starts anew on a real API server: what was told stays told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from looking import SPEC, condition

from gpupilot_operator import kinds, naming
from gpupilot_testbed import operators
from gpupilot_testbed.api import done
from gpupilot_testbed.operators import Operator
from gpupilot_testbed.running import Cluster, until
from gpupilot_testbed.traffic import Load, Traffic

pytestmark = pytest.mark.timeout(3000)

SERVICES = 8
"""As many as the fake node has GPUs."""
TICKS = 10
DECIDES = ("True", "ClassicalPolicy")


@pytest.fixture
def shops(defined: Cluster, namespace: str, traffic: tuple[Traffic, int]) -> Iterator[list[str]]:
    """Return services with some load, each within what one pod carries."""
    path = kinds.INFERENCE_SERVICE.path(namespace)
    spec = {**SPEC, "predictor": {**SPEC["predictor"], "minReplicas": 1}}
    names = [f"shop-{n}" for n in range(SERVICES)]
    for name in names:
        traffic[0].put(namespace, name, Load(rate_rps=20.0))
        body = {"apiVersion": naming.API_VERSION, "kind": naming.KIND, "metadata": {"name": name}}
        done(defined.api.ask("POST", path, {**body, "spec": spec}))
    yield [f"{path}/{name}" for name in names]
    done(defined.api.ask("DELETE", path))
    until(lambda: not defined.api.get(path)["items"])


def ticked(operator: Operator, times: int) -> None:
    """Wait until an operator has decided so many times more."""
    before = operator.scraped().value("gpupilot_tick_seconds_count")
    until(lambda: operator.scraped().value("gpupilot_tick_seconds_count") >= before + times)


def turned(cluster: Cluster, path: str) -> dict[str, str]:
    """Return when what is told of who decides last became otherwise."""
    told = cluster.api.get(path)["status"]["conditions"]
    return {
        each["type"]: each["lastTransitionTime"]
        for each in told
        if each["type"] in ("PolicyReady", "Fallback")
    }


def test_a_restart_over_services_that_run_takes_nothing_back(
    defined: Cluster, shops: list[str], prometheus: str, tmp_path: Path
) -> None:
    """What a pod carries is worked out again: that is no news, and was told of each service."""
    body = {"metadata": {"name": operators.NAMESPACE}}
    defined.api.ask("POST", "/api/v1/namespaces", body)
    settings = {"tick_seconds": "1", "window_seconds": "5"}
    first = operators.start(tmp_path / "first", defined.kubeconfig, prometheus, **settings)
    try:
        until(lambda: all(condition(defined, each) == ("True", "PodsReady") for each in shops))
        until(lambda: all(condition(defined, each, "PolicyReady") == DECIDES for each in shops))
        ticked(first, TICKS)
    finally:
        first.stop()
    before = [turned(defined, each) for each in shops]
    second = operators.start(tmp_path / "second", defined.kubeconfig, prometheus, **settings)
    try:
        until(lambda: second.scraped().value("gpupilot_leader") == 1.0)
        ticked(second, TICKS)
    finally:
        second.stop()
    assert [turned(defined, each) for each in shops] == before
