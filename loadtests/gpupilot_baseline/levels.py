"""One level: Locust's closed-loop users, and what the servers did meanwhile."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.compute as pc
import pyarrow.parquet as pq

from gpupilot_agent.triton.repository import MODEL
from gpupilot_baseline.plan import Plan
from gpupilot_baseline.results import Level, Percentiles
from gpupilot_baseline.sampling import Sampler, Use, use
from gpupilot_baseline.service import Service
from gpupilot_envs.errors import MetricsUnavailable, StackFailed
from gpupilot_envs.live import LiveSignals
from gpupilot_envs.metric_names import metric_names
from gpupilot_envs.prometheus import Access, Prometheus
from gpupilot_envs.signals import Signals

LOCUST = Path(sys.executable).with_name("locust")
CLOSED_LOOP = Path(__file__).resolve().parents[1] / "closed_loop.py"
REFUSED = 2
RAMP_S = 2.0
"""All users are there before the warm-up ends: a burst of them all at once is not measured."""
PATIENCE_S = 60.0
MIB = 1 << 20


def command(plan: Plan, service: Service, users: int, folder: Path) -> list[str]:
    """Return the command line of a level's users."""
    host = service.url
    if plan.protocol == "grpc":
        host = f"grpc://{urlsplit(service.url).netloc}"
    words: list[object] = [LOCUST, "-f", CLOSED_LOOP, "--headless", "--host", host]
    words += ["-u", users, "-r", max(users / RAMP_S, 1.0), "-t", f"{_length_s(plan)}s"]
    words += ["--model", MODEL, "--think-s", plan.think_s, "--seed", plan.seed]
    words += ["--warm-up", plan.warm_up_s, "--slo-ms", plan.target_ms]
    words += ["--requests", folder / f"requests-{users}.parquet"]
    words += ["--summary", folder / f"locust-{users}.json"]
    return [str(word) for word in words]


def run(plan: Plan, service: Service, users: int, folder: Path) -> Level:
    """Run one level and return it in numbers; its requests and log lie in the folder.

    Raises:
        StackFailed: The users could not do their work; says what they said.
    """
    log = folder / f"locust-{users}.log"
    with Sampler(service, MODEL) as sampler, log.open("wb") as output:
        code = _run(command(plan, service, users, folder), output, _length_s(plan) + PATIENCE_S)
    found = folder / f"locust-{users}.json"
    if code == REFUSED or not found.is_file():
        raise StackFailed(f"{users} users: {_complaint(log) or f'Locust ended with {code}'}")
    document = json.loads(found.read_text(encoding="utf-8"))
    first_s, last_s = _counted(folder / f"requests-{users}.parquet")
    seen = _seen(plan, service, first_s, last_s)
    used = use(sampler.samples, first_s, last_s)
    return _level(users, document, used, seen, instances=service.instances)


def _level(
    users: int, found: dict[str, Any], used: Use, seen: Signals | None, *, instances: int
) -> Level:
    """Put together what the users, the servers and Prometheus saw."""
    latency, answered = found["latency_ms"], found["answered_ratio"]
    rate, executing = found["offered_rps"], used.executing
    return Level(
        users=users,
        requests=found["requests"],
        success_percent=None if answered is None else 100.0 * answered,
        throughput_rps=None if rate is None or answered is None else rate * answered,
        latency_ms=Percentiles(**{name: latency[name] for name in ("mean", "p50", "p95", "p99")}),
        attainment_percent=None if found["attainment"] is None else 100.0 * found["attainment"],
        gateway_ms=_at_the_gateway(seen),
        busy_percent=None if executing is None else 100.0 * executing / instances,
        batch_mean=used.batch_mean,
        cpu_cores=used.cpu_cores,
        memory_mib=None if used.memory_bytes is None else used.memory_bytes / MIB,
        gpu_percent=_scaled(seen, "gpu_busy_ratio", 100.0),
        gpu_memory_mib=_scaled(seen, "gpu_memory_used_bytes", 1.0 / MIB),
        gpu_power_w=_scaled(seen, "gpu_power_w", 1.0),
        send_lag_p99_ms=found["send_lag_ms"]["p99"],
        valid=found["valid"],
    )


def _length_s(plan: Plan) -> int:
    return math.ceil(plan.warm_up_s + plan.seconds)  # Locust takes whole seconds


def _run(words: list[str], output: Any, within_s: float) -> int:
    with subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT) as child:
        try:
            return child.wait(within_s)
        except subprocess.TimeoutExpired as error:
            raise StackFailed(f"Locust did not end within {within_s:g} s") from error
        finally:
            if child.poll() is None:
                child.kill()


def _complaint(log: Path) -> str:
    """Return what Locust's log names as the error, the last if there are several."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    errors = [line.partition("/ERROR/")[2] for line in lines if "/ERROR/" in line]
    return errors[-1].partition(": ")[2] if errors else "".join(lines[-1:])


def _counted(requests: Path) -> tuple[float, float]:
    """Return the Unix times between which requests count; nothing where none was sent."""
    if not requests.is_file():
        return 0.0, 0.0
    table = pq.read_table(requests, columns=["intended_s", "warm_up"])
    kept = table.filter(pc.invert(table.column("warm_up"))).column("intended_s")
    span = pc.min_max(kept).as_py()
    return span["min"] or 0.0, span["max"] or 0.0


def _seen(plan: Plan, service: Service, first_s: float, last_s: float) -> Signals | None:
    """Return what Prometheus knows of the counted time, ``None`` where it does not answer."""
    if not service.prometheus or last_s - first_s < 1.0:
        return None
    target_s = plan.target_ms / 1000.0
    live = LiveSignals(
        Prometheus(Access(url=service.prometheus)), metric_names(), lambda _: target_s
    )
    try:
        return live.read([MODEL], int(last_s - first_s), last_s)[MODEL]
    except MetricsUnavailable:
        return None


def _at_the_gateway(seen: Signals | None) -> Percentiles | None:
    if seen is None or seen.latency_p50_s is None:
        return None
    return Percentiles(
        mean=None,
        p50=_scaled(seen, "latency_p50_s", 1000.0),
        p95=_scaled(seen, "latency_p95_s", 1000.0),
        p99=_scaled(seen, "latency_p99_s", 1000.0),
    )


def _scaled(seen: Signals | None, name: str, factor: float) -> float | None:
    value = None if seen is None else getattr(seen, name)
    return None if value is None else factor * value
