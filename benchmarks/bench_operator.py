"""How one operator carries 10, 100 and 1,000 services: ticks, queries, memory, CPU, API writes.

Usage: ``python benchmarks/bench_operator.py --sizes 10,100,1000`` prints one line for each size.
A real API server with fake nodes, a real Prometheus that scrapes made-up series of every service,
the operator as a process under the account its installation gives it. Half of the services are
decided by the shipped policy, half by the queueing controller, all in mode Act. After some quiet
ticks the traffic of up to 100 services grows fivefold at once; what follows is timed on a watch.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "deploy" / "testbed"))

from gpupilot_agent.stack import processes
from gpupilot_operator import crd, kinds, naming
from gpupilot_operator.exporter import SECONDS
from gpupilot_testbed import lifecycle, observing, operators
from gpupilot_testbed.api import Api, done
from gpupilot_testbed.operators import Operator
from gpupilot_testbed.running import Cluster, until
from gpupilot_testbed.state import KUBECONFIG
from gpupilot_testbed.traffic import Load, Traffic

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
NAMESPACE = "bench"
NODES, GPUS_OF_NODE = 40, 64
CALM_RPS, BUSY_RPS = 40.0, 200.0
TOGETHER = 100
WRITES = ("create", "update", "patch", "delete")
POLICIES = ("Learned", "Queueing")


@dataclass(slots=True)
class Seen:
    """What a watch of Deployments saw change: when, by name."""

    at_s: dict[str, float] = field(default_factory=dict)
    replicas: dict[str, int] = field(default_factory=dict)

    def follow(self, api: Api) -> None:
        """Read changes until the connection ends."""
        path = kinds.DEPLOYMENT.path(NAMESPACE)
        listed = api.get(path)
        version = listed["metadata"]["resourceVersion"]
        for each in listed["items"]:
            self.replicas[each["metadata"]["name"]] = each["spec"]["replicas"]
        with suppress(TimeoutError):  # nothing changes any more
            for line in api.stream(f"{path}?watch=1&resourceVersion={version}&timeoutSeconds=50"):
                body = json.loads(line)["object"]
                name, wanted = body["metadata"]["name"], body["spec"]["replicas"]
                if self.replicas.setdefault(name, wanted) != wanted:
                    self.at_s.setdefault(name, time.time())


def service(name: str, policy: str) -> dict[str, Any]:
    """Return a service in mode Act; its policy is let act without a gate."""
    model = {
        "modelFormat": {"name": "onnxruntime"},
        "storageUri": "s3://models/shop",
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
    }
    autoscaling = {"mode": "Act", "policy": policy, "profile": "mobilenetv4-edge"}
    return {
        "apiVersion": naming.API_VERSION,
        "kind": naming.KIND,
        "metadata": {"name": name, "annotations": {"gpupilot.dev/override-gate": "true"}},
        "spec": {
            "predictor": {"model": model, "maxReplicas": 8},
            "slo": {"latency": {"target": "60ms"}},
            "autoscaling": {**autoscaling, "behavior": {"warmUpSeconds": 0}},
        },
    }


@contextmanager
def world(folder: Path, traffic: Traffic, tick_s: str) -> Iterator[tuple[Api, Operator]]:
    """Run cluster, Prometheus and operator while the context lasts."""
    kept = lifecycle.up_light(folder / "cluster", say=print, nodes=NODES, gpus=GPUS_OF_NODE)
    administrator = folder / "cluster" / KUBECONFIG
    started = []
    try:
        with Api(administrator) as api, traffic.served() as port:
            install(Cluster(folder=folder / "cluster", state=kept, api=api))
            settings = observing.of_targets([port], every="5s")
            server, url = observing.start(folder / "prometheus", settings, print)
            started.append(server)
            account = operators.by_account(folder, api, administrator)
            operator = operators.start(folder / "operator", account, url, tick_seconds=tick_s)
            started.append(operator.process)
            until(lambda: operator.page("/readyz") is not None, within_s=180.0)
            yield api, operator
    finally:
        processes.stop(started)
        lifecycle.down(folder / "cluster")


def install(cluster: Cluster) -> None:
    """Install what the operator needs: definition, account, roles, a namespace for services."""
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    done(cluster.api.ask("POST", definitions, crd.crd()))
    cluster.kubectl("apply", "-k", str(DEPLOY / "operator"))
    # its pods are fake here: the process is the operator
    cluster.kubectl("-n", operators.NAMESPACE, "scale", "deployment", "--all", "--replicas=0")
    done(cluster.api.ask("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}}))
    until(lambda: not cluster.api.ask("GET", kinds.INFERENCE_SERVICE.path(NAMESPACE)).refused)


def grow(api: Api, traffic: Traffic, names: Sequence[str], size: int) -> None:
    """Bring the services to a number, and wait until each has its pod."""
    there = len(api.get(f"{kinds.INFERENCE_SERVICE.path(NAMESPACE)}?limit=2000")["items"])
    for number, name in enumerate(names[there:size], start=there):
        traffic.put(NAMESPACE, name, Load(rate_rps=CALM_RPS))
        body = service(name, POLICIES[number % len(POLICIES)])
        done(api.ask("POST", kinds.INFERENCE_SERVICE.path(NAMESPACE), body))

    def ready() -> bool:
        time.sleep(2.0)
        found = api.get(f"{kinds.INFERENCE_SERVICE.path(NAMESPACE)}?limit=2000")["items"]
        return sum(bool(each.get("status", {}).get("readyReplicas")) for each in found) == size

    until(ready, within_s=900.0)


def quantile(share: float, before: Sequence[float], after: Sequence[float]) -> float:
    """Return an upper bound of a quantile of what a histogram counted between two looks."""
    counts = [late - early for early, late in zip(before, after, strict=True)]
    return next(b for b, c in zip(SECONDS, counts, strict=False) if c >= share * counts[-1])


def look(operator: Operator) -> dict[str, Any]:
    """Return the operator's counters."""
    now = operator.scraped()
    ticks = now.value("gpupilot_tick_seconds_count")
    every = [now.value("gpupilot_tick_seconds_bucket", le=str(bound)) for bound in SECONDS]
    calls = {verb: now.value("gpupilot_api_calls_total", verb=verb) for verb in WRITES}
    leases = {
        verb: now.value("gpupilot_api_calls_total", verb=verb, resource="leases") for verb in WRITES
    }
    return {
        "at_s": time.time(),
        "ticks": ticks,
        "tick_s": now.value("gpupilot_tick_seconds_sum"),
        "decide_s": now.value("gpupilot_decide_seconds_sum"),
        "inference_s": now.value("gpupilot_inference_seconds_sum"),
        "queries": now.value("gpupilot_queries_total"),
        "cpu_s": now.value("process_cpu_seconds_total"),
        "memory_mib": now.value("process_resident_memory_bytes") / 2**20,
        "writes": sum(calls.values()) - sum(leases.values()),
        "buckets": [*every, ticks],
    }


def settle(operator: Operator, tick_s: float, within_s: float) -> bool:
    """Wait until nothing was written for four ticks; say whether that came."""
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        before = look(operator)
        time.sleep(4 * tick_s)
        after = look(operator)
        if before["writes"] == after["writes"]:
            return True
    return False


def quiet(operator: Operator, ticks: int, tick_s: float) -> str:
    """Measure ticks in which nothing changes; return the line."""
    before = look(operator)
    time.sleep(ticks * tick_s)
    after = look(operator)
    n = after["ticks"] - before["ticks"]
    spent = {key: after[key] - before[key] for key in ("tick_s", "decide_s", "inference_s")}
    wall_s, cpu_s = after["at_s"] - before["at_s"], after["cpu_s"] - before["cpu_s"]
    written = after["writes"] - before["writes"]
    p50, p99 = (quantile(share, before["buckets"], after["buckets"]) for share in (0.5, 0.99))
    mean = {key: 1000.0 * value / n for key, value in spent.items()}
    return (
        f"ticks {n:.0f}  mean {mean['tick_s']:.0f} ms (decide {mean['decide_s']:.0f}, inference "
        f"{mean['inference_s']:.1f})  p50 <= {p50:g} s  p99 <= {p99:g} s  queries/tick "
        f"{(after['queries'] - before['queries']) / n:.1f}  RSS {after['memory_mib']:.0f} MiB  "
        f"CPU {100.0 * cpu_s / wall_s:.1f} % ({1000.0 * cpu_s / n:.0f} ms a tick)  "
        f"writes {written:.0f}"
    )


def together(
    administrator: Path, operator: Operator, traffic: Traffic, names: Sequence[str]
) -> str:
    """Let the traffic of services grow at once and time their patches; return the line."""
    seen = Seen()
    with Api(administrator) as watching:
        thread = threading.Thread(target=seen.follow, args=(watching,), daemon=True)
        thread.start()
        time.sleep(1.0)
        began_s = time.time()
        for name in names:
            traffic.change(NAMESPACE, name, rate_rps=BUSY_RPS)
        until(lambda: len(seen.at_s) >= len(names), within_s=45.0)
        act_s = operator.scraped().value("gpupilot_last_tick_seconds", phase="act")
        thread.join(timeout=60.0)
    times = sorted(seen.at_s.values())
    widest = max(later - earlier for earlier, later in pairwise(times)) if len(times) > 1 else 0.0
    return (
        f"{len(times)} changed at once: first {times[0] - began_s:.1f} s after the traffic, all "
        f"within {times[-1] - times[0]:.2f} s (longest gap {widest:.2f}), acting {act_s:.2f} s"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="10,100,1000")
    parser.add_argument("--ticks", type=int, default=24)
    parser.add_argument("--tick-seconds", default="5")
    asked = parser.parse_args()
    sizes = [int(each) for each in asked.sizes.split(",")]
    tick_s = float(asked.tick_seconds)
    names = [f"shop-{number:04}" for number in range(max(sizes))]
    traffic = Traffic()
    with tempfile.TemporaryDirectory(prefix="bench-operator-") as made:
        folder = Path(made)
        with world(folder, traffic, asked.tick_seconds) as (api, operator):
            for size in sizes:
                began_s = time.monotonic()
                grow(api, traffic, names, size)
                print(f"{size}: all have their pods {time.monotonic() - began_s:.0f} s after")
                settled = settle(operator, tick_s, within_s=120.0)
                print(f"{size}: {'quiet' if settled else 'NOT QUIET'}", flush=True)
                print(f"{size}: {quiet(operator, asked.ticks, tick_s)}", flush=True)
            changed = names[: min(TOGETHER, max(sizes))]
            administrator = folder / "cluster" / KUBECONFIG
            print(f"{max(sizes)}: {together(administrator, operator, traffic, changed)}")


if __name__ == "__main__":
    main()
