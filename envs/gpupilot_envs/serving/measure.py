"""One fixed allocation under given arrivals, no controller: what it answers and how fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.limits import Targets
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.serving.chance import ServiceDistribution
from gpupilot_envs.serving.cluster import WHOLE_MILLI, Balancing, Cluster
from gpupilot_envs.serving.ledger import Ledger
from gpupilot_envs.serving.scrape import Scrape
from gpupilot_envs.serving.world import SimulatedWorld

if TYPE_CHECKING:
    from gpupilot_envs.workload.arrivals import ArrivalStream

NO_SCRAPES = Scrape(interval_s=1e9)
"""Nobody reads metrics here, so none are taken after the first."""


def allocation_of(
    profile: ServiceProfile, *, replicas: int = 1, instances: int | None = None
) -> Allocation:
    """Return the allocation a profile states: whole GPUs, its batching and instances."""
    return Allocation(
        replicas=replicas,
        gpu_share_milli=WHOLE_MILLI,
        instances_per_replica=instances or profile.instances_per_replica,
        batch_max=profile.batching.max_batch,
        queue_delay_us=round(profile.batching.queue_delay_ms * 1000),
    )


def measure(
    profile: ServiceProfile,
    *,
    replicas: int,
    arrivals: ArrivalStream,
    duration_s: float,
    targets: Targets,
    seed: int,
    warm_up_s: float = 0.0,
    instances: int | None = None,
    balancing: Balancing = "random",
    allocation: Allocation | None = None,
    service_distribution: ServiceDistribution = "lognormal",
) -> Ledger:
    """Run a service with a fixed allocation and return what happened after the warm-up.

    Args:
        profile: What the service costs to run.
        replicas: Pods, all ready from the start, each on as many GPUs as it needs.
        arrivals: Requests, from time 0.
        duration_s: Seconds counted, after the warm-up.
        targets: The objective; its latency decides what is in time.
        seed: Of balancing and execution noise.
        warm_up_s: Seconds run before counting starts.
        instances: Instances per replica; the profile's by default.
        balancing: How requests are spread over replicas.
        allocation: Limits and batching other than the profile's; its replicas are ignored.
        service_distribution: Of one execution's time round its mean.

    Returns:
        The ledger of the ``duration_s`` after the warm-up.
    """
    limits = allocation or allocation_of(profile, replicas=replicas, instances=instances)
    world = SimulatedWorld(
        profile,
        arrivals,
        targets=targets,
        allocation=Allocation(
            replicas=replicas,
            gpu_share_milli=limits.gpu_share_milli,
            cpu_milli=limits.cpu_milli,
            memory_bytes=limits.memory_bytes,
            instances_per_replica=instances or limits.instances_per_replica,
            batch_max=limits.batch_max,
            queue_delay_us=limits.queue_delay_us,
        ),
        seed=seed,
        cluster=Cluster(gpus=max(replicas, 1), balancing=balancing),
        scrape=NO_SCRAPES,
        service_distribution=service_distribution,
    )
    world.advance(warm_up_s)
    before = world.ledger()
    world.advance(warm_up_s + duration_s)
    return world.ledger() - before


def summary(ledger: Ledger, *, replicas: int) -> dict[str, object]:
    """Return a measurement in the words of ``gpupilot simulate --json``.

    Args:
        ledger: What happened in the measured interval.
        replicas: Pods that ran during it.

    Returns:
        Counts, requests/s, ratios 0 to 1, milliseconds and joules; ``None`` where nothing
        was answered.
    """
    answered = ledger.answered
    pod_s = ledger.at_s * replicas
    return {
        "requests": ledger.requests,
        "completed": answered,
        "throughput_rps": answered / ledger.at_s if ledger.at_s else None,
        "attainment_ratio": ledger.attainment_ratio,
        "latency_ms": {
            "mean": _milli(ledger.latency_mean_s),
            "p50": _milli(ledger.latency_quantile_s(0.50)),
            "p95": _milli(ledger.latency_quantile_s(0.95)),
            "p99": _milli(ledger.latency_quantile_s(0.99)),
        },
        "queue_ms_mean": _milli(ledger.queue_s_sum / answered if answered else None),
        "compute_ms_mean": _milli(ledger.compute_s_sum / answered if answered else None),
        "batch_mean": ledger.executed_requests / ledger.executions if ledger.executions else None,
        "gpu_busy_ratio": min(ledger.busy_s / pod_s, 1.0) if pod_s else None,
        "energy_j": ledger.energy_j,
    }


def _milli(seconds: float | None) -> float | None:
    return None if seconds is None else 1000.0 * seconds
