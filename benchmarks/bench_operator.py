"""How one operator carries 10, 100 and 1,000 services: ticks, queries, memory, CPU, API writes.

Usage: ``python benchmarks/bench_operator.py --sizes 10,100,1000`` prints one line for each size.
A real API server with fake nodes, a real Prometheus that scrapes made-up series of every service,
the operator as a process under the account its installation gives it, its kernels compiled before,
as they are in its image. Half of the services are decided by the shipped policy, half by the
queueing controller, all in mode Act. After some quiet ticks the traffic of up to 100 services grows
fivefold at once; what follows is timed on a watch.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "deploy" / "testbed"))

from operator_looks import Look, World, look, ticks

from gpupilot_agent.stack import processes
from gpupilot_operator import crd, kinds, naming
from gpupilot_operator.settling import LASTS_S
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
LISTED_EVERY_S = 15.0
"""A list of a thousand is some megabytes, and so is work for the API server."""
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
        # nothing changes any more, or it was ended in the middle of a line
        with suppress(TimeoutError, AttributeError):
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
def made(folder: Path, traffic: Traffic, tick_s: str) -> Iterator[tuple[Api, World]]:
    """Run cluster, Prometheus and operator while the context lasts."""
    # compiling takes 150 MiB that are never given back
    subprocess.run([sys.executable, DEPLOY / "images" / "operator" / "warm.py"], check=True)
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
            beside = [server, *kept.processes]
            yield api, World(operator=operator, prometheus=url, beside=beside)
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
        time.sleep(LISTED_EVERY_S)
        found = api.get(f"{kinds.INFERENCE_SERVICE.path(NAMESPACE)}?limit=2000")["items"]
        return sum(bool(each.get("status", {}).get("readyReplicas")) for each in found) == size

    until(ready, within_s=900.0)


def settle(world: World, tick_s: float, within_s: float) -> bool:
    """Wait until nothing was written for longer than news may wait; say whether that came."""
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        before = look(world)
        time.sleep(LASTS_S + 2 * tick_s)
        if before.written == look(world).written:
            return True
    return False


def quiet(world: World, count: int, tick_s: float) -> str:
    """Measure ticks in which nothing changes; return what they say, a line for each thing."""
    before = look(world)
    seen = ticks(world.operator, count, tick_s)
    after = look(world)
    n, wall_s = after.ticks - before.ticks, after.at_s - before.at_s
    cpu_s = after.cpu_s - before.cpu_s
    slowest = max(seen, key=lambda tick: tick.whole_s)
    return "\n  ".join(
        [
            f"{len(seen)} ticks: mean {_ms(mean(t.whole_s for t in seen))}, slowest "
            f"{_ms(slowest.whole_s)} (read {_ms(slowest.read_s)})",
            f"mean of it: read {_ms(mean(t.read_s for t in seen))}, decide "
            f"{_ms(mean(t.decide_s for t in seen))}, act {_ms(mean(t.act_s for t in seen))}, "
            f"learned policy {1000.0 * (after.inference_s - before.inference_s) / n:.1f} ms",
            f"Prometheus: {(after.queries - before.queries) / n:.1f} queries a tick, answered in "
            f"{_ms((after.answering_s - before.answering_s) / n)} of its time",
            f"operator: {after.memory_mib:.0f} MiB, {_ms(cpu_s / n)} CPU a tick with one scrape, "
            f"{100.0 * cpu_s / wall_s:.1f} % of a core",
            f"beside it, % of a core: {_shares(before, after)}; load {os.getloadavg()[0]:.1f}",
            f"writes: {after.written - before.written:.0f} {_differing(before, after)}",
        ]
    )


def _ms(seconds: float) -> str:
    return f"{1000.0 * seconds:.0f} ms"


def _shares(before: Look, after: Look) -> str:
    wall_s = after.at_s - before.at_s
    return ", ".join(
        f"{name} {100.0 * (after.beside_cpu_s[name] - spent_s) / wall_s:.0f}"
        for name, spent_s in before.beside_cpu_s.items()
    )


def _differing(before: Look, after: Look) -> dict[str, float]:
    grown = {name: count - before.writes.get(name, 0.0) for name, count in after.writes.items()}
    return {name: count for name, count in grown.items() if count}


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
    with tempfile.TemporaryDirectory(prefix="bench-operator-") as name:
        folder = Path(name)
        with made(folder, traffic, asked.tick_seconds) as (api, world):
            for size in sizes:
                began_s = time.monotonic()
                grow(api, traffic, names, size)
                print(f"{size}: all have their pods {time.monotonic() - began_s:.0f} s after")
                settled = settle(world, tick_s, within_s=300.0)
                print(f"{size}: {'quiet' if settled else 'NOT QUIET'}", flush=True)
                print(f"{size}: {quiet(world, asked.ticks, tick_s)}", flush=True)
            changed = names[: min(TOGETHER, max(sizes))]
            administrator = folder / "cluster" / KUBECONFIG
            print(f"{max(sizes)}: {together(administrator, world.operator, traffic, changed)}")


if __name__ == "__main__":
    main()
