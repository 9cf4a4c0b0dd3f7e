"""The event-level world against queueing theory: every mean within 2 % of the closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gpupilot_envs.limits import Targets
from gpupilot_envs.profile import Batching, ServiceProfile
from gpupilot_envs.serving.chance import ServiceDistribution
from gpupilot_envs.serving.ledger import Ledger
from gpupilot_envs.serving.measure import measure
from gpupilot_envs.workload.arrivals import SteadyArrivals

SERVICE_S = 0.010
REQUESTS = 4_000_000
TARGETS = Targets(latency_s=0.1)


def run(
    rate_rps: float,
    *,
    noise_cv: float = 0.0,
    instances: int = 1,
    curve: tuple[tuple[float, float], ...] = ((1.0, 1000.0 * SERVICE_S),),
    batch_max: int = 1,
    distribution: ServiceDistribution = "lognormal",
) -> Ledger:
    profile = ServiceProfile(
        name="closed form",
        batch_latency_ms=curve,
        noise_cv=noise_cv,
        instances_per_replica=instances,
        batching=Batching(enabled=batch_max > 1, max_batch=batch_max),
    )
    duration_s = REQUESTS / rate_rps
    return measure(
        profile,
        replicas=1,
        arrivals=SteadyArrivals(rate_rps, seed=11),
        duration_s=duration_s,
        warm_up_s=0.01 * duration_s,
        targets=TARGETS,
        seed=5,
        service_distribution=distribution,
    )


def mean_wait_s(ledger: Ledger) -> float:
    return ledger.queue_s_sum / ledger.answered


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("cv", [0.0, 0.5, 1.5])
def test_waits_follow_pollaczek_and_khinchine(load: float, cv: float) -> None:
    """M/D/1 and M/G/1 with lognormal service times."""
    expected = load * SERVICE_S * (1.0 + cv * cv) / (2.0 * (1.0 - load))
    assert mean_wait_s(run(load / SERVICE_S, noise_cv=cv)) == pytest.approx(expected, rel=0.02)


def erlang_c_wait_s(offered: float, servers: int) -> float:
    below = sum(offered**k / math.factorial(k) for k in range(servers))
    top = offered**servers / math.factorial(servers) * servers / (servers - offered)
    return top / (below + top) * SERVICE_S / (servers - offered)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.7), (2, 0.5), (4, 0.8), (8, 0.7)])
def test_waits_of_several_instances_follow_erlang(servers: int, load: float) -> None:
    """M/M/c: instances share one queue."""
    offered = load * servers
    ledger = run(offered / SERVICE_S, instances=servers, distribution="exponential")
    assert mean_wait_s(ledger) == pytest.approx(erlang_c_wait_s(offered, servers), rel=0.02)


def batch_service_wait_s(rate_rps: float, times_s: list[float]) -> tuple[float, float]:
    """Mean wait and mean batch of a greedy batch server, from the chain at batch ends.

    The state is the number waiting when a batch ends; ``times_s[b - 1]`` is the fixed time
    of a batch of ``b``. Arrivals during it are Poisson, so waits follow from the expected
    queue-time integral per cycle (renewal reward and Little's law).
    """
    states, largest = 400, len(times_s)
    chain = np.zeros((states, states))
    area = np.empty(states)
    length = np.empty(states)
    batch = np.empty(states)
    for waiting in range(states):
        size = min(max(waiting, 1), largest)
        left = max(waiting, 1) - size
        mean = rate_rps * times_s[size - 1]
        ks = np.arange(states)
        log_p = -mean + ks * math.log(mean) - np.array([math.lgamma(k + 1) for k in ks])
        probabilities = np.exp(log_p)
        chain[waiting, left:] = probabilities[: states - left]
        chain[waiting, -1] += 1.0 - chain[waiting].sum()
        area[waiting] = left * times_s[size - 1] + 0.5 * mean * times_s[size - 1]
        length[waiting] = times_s[size - 1] + (1.0 / rate_rps if waiting == 0 else 0.0)
        batch[waiting] = size
    system = np.vstack([(chain.T - np.eye(states))[:-1], np.ones(states)])
    share = np.linalg.solve(system, np.append(np.zeros(states - 1), 1.0))
    return float(share @ area / (rate_rps * (share @ length))), float(share @ batch)


@pytest.mark.parametrize("load", [0.2, 0.5, 0.8])
def test_the_greedy_batcher_follows_its_embedded_chain(load: float) -> None:
    """Batch service with times that depend on the batch: waits and mean batch size."""
    curve = ((1.0, 4.0), (8.0, 11.0))
    times_s = [(4.0 + (b - 1)) / 1000.0 for b in range(1, 9)]
    rate_rps = load * 8 / times_s[-1]
    ledger = run(rate_rps, curve=curve, batch_max=8)
    wait_s, batch = batch_service_wait_s(rate_rps, times_s)
    assert mean_wait_s(ledger) == pytest.approx(wait_s, rel=0.02)
    assert ledger.executed_requests / ledger.executions == pytest.approx(batch, rel=0.02)


def test_quantiles_follow_the_exponential_sojourn_of_a_markov_queue() -> None:
    """M/M/1: the latency is exponential with mean 1 / (mu - lambda)."""
    ledger = run(0.5 / SERVICE_S, distribution="exponential")
    mean_s = SERVICE_S / 0.5
    for q in (0.5, 0.95, 0.99):
        assert ledger.latency_quantile_s(q) == pytest.approx(-mean_s * math.log(1 - q), rel=0.02)
    assert ledger.attainment_ratio == pytest.approx(1 - math.exp(-0.1 / mean_s), rel=0.02)


def test_random_balancing_splits_one_poisson_stream_into_independent_ones() -> None:
    """Two pods at random are two M/D/1 queues; in turn or by load they wait less."""
    profile = ServiceProfile(
        name="two pods",
        batch_latency_ms=((1.0, 10.0),),
        noise_cv=0.0,
        batching=Batching(enabled=False),
    )

    def wait_s(balancing: str) -> float:
        ledger = measure(
            profile,
            replicas=2,
            arrivals=SteadyArrivals(140.0, seed=3),
            duration_s=10_000.0,
            targets=TARGETS,
            seed=2,
            balancing=balancing,  # type: ignore[arg-type]
        )
        return mean_wait_s(ledger)

    expected = 0.7 * SERVICE_S / (2.0 * 0.3)
    assert wait_s("random") == pytest.approx(expected, rel=0.02)
    assert wait_s("round_robin") < 0.6 * expected
    assert wait_s("least_loaded") < 0.6 * expected
