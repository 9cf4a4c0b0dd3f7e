"""Two operators on a real API server: one writes, another soon when it goes, never both."""

from __future__ import annotations

import os
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from connecting import connected

from gpupilot_operator import lease
from gpupilot_operator.elector import Elector
from gpupilot_operator.kube import LEASE_TIMEOUT_S
from gpupilot_testbed import operators
from gpupilot_testbed.api import access
from gpupilot_testbed.faults import Fault, Proxy
from gpupilot_testbed.operators import Operator
from gpupilot_testbed.running import Cluster, until

pytestmark = pytest.mark.timeout(3000)

NOBODY = "http://127.0.0.1:9"
TAKE_OVER_S = 15.0


@pytest.fixture
def system(defined: Cluster) -> Cluster:
    """Return the cluster with the operator's namespace, and no leader."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": operators.NAMESPACE}}
    defined.api.ask("POST", "/api/v1/namespaces", body)
    path = f"/apis/coordination.k8s.io/v1/namespaces/{operators.NAMESPACE}/leases"
    for each in defined.api.get(path)["items"]:
        defined.api.ask("DELETE", f"{path}/{each['metadata']['name']}")
    return defined


@contextmanager
def elector(kubeconfig: Path, name: str) -> Iterator[tuple[Elector, threading.Event]]:
    """Let a replica take part in an election of its own; the event ends it."""
    with connected(kubeconfig, timeout_s=LEASE_TIMEOUT_S) as connection:
        leases = lease.KubeLeases(connection, operators.NAMESPACE, "trial")
        made = Elector(leases, name, clock=lease.clock, written=lease.written)
        stop = threading.Event()
        thread = threading.Thread(target=made.run, args=(stop,))
        thread.start()
        try:
            yield made, stop
        finally:
            stop.set()
            thread.join()


@contextmanager
def proxied(cluster: Cluster) -> Iterator[Proxy]:
    """Put a proxy that can fail before the API server."""
    proxy = Proxy(*access(cluster.kubeconfig))
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


def test_the_lease_goes_over_at_once_when_it_is_given_up(system: Cluster) -> None:
    with elector(system.kubeconfig, "a") as (first, stop):
        until(first.leads)
        with elector(system.kubeconfig, "b") as (second, _):
            time.sleep(3.0)
            assert (first.leads(), second.leads()) == (True, False)
            stop.set()
            until(second.leads, within_s=9.0)
            assert not first.leads()
    path = f"/apis/coordination.k8s.io/v1/namespaces/{operators.NAMESPACE}/leases/trial"
    spec = system.api.get(path)["spec"]
    assert spec["leaseTransitions"] == 2 - 1
    assert spec["holderIdentity"] in (None, "")


def test_a_leader_behind_a_wall_stops_before_another_begins(
    system: Cluster, tmp_path: Path
) -> None:
    with proxied(system) as proxy, ExitStack() as parts:
        through = operators.by_url(tmp_path, proxy.url)
        first, _ = parts.enter_context(elector(through, "cut-off"))
        until(first.leads)
        second, _ = parts.enter_context(elector(system.kubeconfig, "b"))
        with proxy.failing(Fault(match=".", silent=True)):
            begun_s = time.monotonic()
            while not second.leads():
                assert time.monotonic() - begun_s < TAKE_OVER_S
                time.sleep(0.01)
            assert not first.leads()
            proxy.cut()
        time.sleep(4.0)
        assert (first.leads(), second.leads()) == (False, True)


def leads(operator: Operator) -> bool:
    """Say whether an operator says that it leads."""
    with suppress(OSError), urllib.request.urlopen(f"{operator.url}/metrics", timeout=5) as page:
        return b"\ngpupilot_leader 1.0\n" in page.read()
    return False


def test_a_process_that_was_stopped_and_goes_on_is_no_second_leader(
    system: Cluster, tmp_path: Path
) -> None:
    start = [
        operators.start(tmp_path / name, system.kubeconfig, NOBODY, tick_seconds="1")
        for name in ("one", "two")
    ]
    try:
        until(lambda: sum(map(leads, start)) == 1)
        first, second = sorted(start, key=leads, reverse=True)
        os.kill(first.process.pid, signal.SIGSTOP)
        begun_s = time.monotonic()
        until(lambda: leads(second), within_s=TAKE_OVER_S)
        assert time.monotonic() - begun_s < TAKE_OVER_S
        os.kill(first.process.pid, signal.SIGCONT)
        until(lambda: not leads(first))
        assert leads(second)
        first.kill()
        second.stop()
        holder = f"/apis/coordination.k8s.io/v1/namespaces/{operators.NAMESPACE}/leases"
        (found,) = system.api.get(holder)["items"]
        assert found["spec"]["holderIdentity"] in (None, "")
    finally:
        for each in start:
            with suppress(ProcessLookupError):
                os.kill(each.process.pid, signal.SIGCONT)
            each.stop()
