"""Speed and truth of the event-level world, beside SimPy and Ciw, in one run.

    python benchmarks/bench_serving.py [--requests 20000000]

Speed is process time on one core, arrivals generated on the way: one scrape a second, a
reading every 15 s, latency histograms, execution noise, random balancing, and one pod that
starts cold while the others serve.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Callable, Iterator

import ciw
import simpy
from rich.console import Console
from rich.table import Table

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.limits import Targets
from gpupilot_envs.profile import Batching, ColdStart, ServiceProfile
from gpupilot_envs.serving.chance import ServiceDistribution
from gpupilot_envs.serving.cluster import Balancing, Cluster
from gpupilot_envs.serving.ledger import Ledger
from gpupilot_envs.serving.measure import measure
from gpupilot_envs.serving.world import SimulatedWorld
from gpupilot_envs.workload.arrivals import SteadyArrivals

TARGETS = Targets(latency_s=0.03)
BATCH = 16
BATCH_S = 0.0065
LOAD = 0.7


def profile(delay_ms: float = 0.0, preferred: tuple[int, ...] = ()) -> ServiceProfile:
    """Return the service under test: 2 ms for one request, 6.5 ms for sixteen."""
    return ServiceProfile(
        name="bench",
        batch_latency_ms=((1.0, 2.0), (float(BATCH), 1000.0 * BATCH_S)),
        noise_cv=0.1,
        batching=Batching(max_batch=BATCH, queue_delay_ms=delay_ms, preferred=preferred),
        cold_start_s=ColdStart(mean=5.0, cv=0.2),
    )


def requests_per_s(
    replicas: int, requests: int, *, balancing: Balancing = "random", delay_ms: float = 0.0
) -> float:
    """Return simulated requests per second of process time, all features on."""
    rate_rps = LOAD * replicas * BATCH / BATCH_S
    duration_s = requests / rate_rps
    service = profile(delay_ms, (4, 8) if delay_ms else ())
    running = Allocation(replicas=replicas, batch_max=BATCH, queue_delay_us=round(1000 * delay_ms))
    world = SimulatedWorld(
        service,
        SteadyArrivals(rate_rps, seed=1),
        targets=TARGETS,
        allocation=running,
        seed=1,
        cluster=Cluster(gpus=replicas + 1, balancing=balancing),
    )
    world.advance(0.01)
    started = time.process_time()
    stops = [min(15.0 * k, duration_s) for k in range(1, math.ceil(duration_s / 15.0) + 1)]
    world.apply(
        Allocation(replicas=replicas + 1, batch_max=BATCH, queue_delay_us=running.queue_delay_us)
    )
    for until_s in stops:
        world.advance(until_s)
        world.read(min(15.0, until_s))
    return world.ledger().requests / (time.process_time() - started)


def speed_table(requests: int) -> Table:
    """Return requests per second by replicas, batching and balancing."""
    table = Table(title=f"million requests/s on one core ({requests:,} requests a cell)")
    for name in ("replicas", "random", "round robin", "2 ms delay, preferred 4 8", "least loaded"):
        table.add_column(name, justify="right")
    requests_per_s(2, 20_000, delay_ms=2.0)
    for replicas in (1, 2, 4, 16, 64):
        cells = (
            requests_per_s(replicas, requests),
            requests_per_s(replicas, requests, balancing="round_robin"),
            requests_per_s(replicas, requests // 4, delay_ms=2.0),
            requests_per_s(replicas, requests // 8, balancing="least_loaded"),
        )
        table.add_row(str(replicas), *(f"{cell / 1e6:.1f}" for cell in cells))
    return table


SERVERS = 4
ARRIVAL_RPS = 2.8
SERVICE_RPS = 1.0


def simpy_wait_s(requests: int) -> float:
    """Return the mean wait of M/M/4 simulated with SimPy."""
    draw = random.Random(1)
    environment = simpy.Environment()
    servers = simpy.Resource(environment, capacity=SERVERS)
    waits: list[float] = []

    def customer() -> Iterator[simpy.Event]:
        arrived = environment.now
        with servers.request() as turn:
            yield turn
            waits.append(environment.now - arrived)
            yield environment.timeout(draw.expovariate(SERVICE_RPS))

    def source() -> Iterator[simpy.Event]:
        for _ in range(requests):
            yield environment.timeout(draw.expovariate(ARRIVAL_RPS))
            environment.process(customer())  # type: ignore[arg-type]

    environment.process(source())  # type: ignore[arg-type]
    environment.run()
    return sum(waits) / len(waits)


def ciw_wait_s(requests: int) -> float:
    """Return the mean wait of M/M/4 simulated with Ciw."""
    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Exponential(rate=ARRIVAL_RPS)],
        service_distributions=[ciw.dists.Exponential(rate=SERVICE_RPS)],
        number_of_servers=[SERVERS],
    )
    ciw.seed(1)
    simulation = ciw.Simulation(network)
    simulation.simulate_until_max_time(requests / ARRIVAL_RPS)
    records = simulation.get_all_records()
    return float(sum(record.waiting_time for record in records) / len(records))


def steady(
    rate_rps: float,
    requests: int,
    *,
    noise_cv: float = 0.0,
    instances: int = 1,
    service_ms: float = 1000.0 / SERVICE_RPS,
    distribution: ServiceDistribution = "lognormal",
) -> Ledger:
    """Measure one pod without batching."""
    service = ServiceProfile(
        name="closed form",
        batch_latency_ms=((1.0, service_ms),),
        noise_cv=noise_cv,
        instances_per_replica=instances,
        batching=Batching(enabled=False),
    )
    return measure(
        service,
        replicas=1,
        arrivals=SteadyArrivals(rate_rps, seed=11),
        duration_s=requests / rate_rps,
        warm_up_s=0.01 * requests / rate_rps,
        targets=TARGETS,
        seed=5,
        service_distribution=distribution,
    )


def our_wait_s(requests: int) -> float:
    """Return the mean wait of M/M/4 in the event-level world: one pod, four instances."""
    ledger = steady(ARRIVAL_RPS, requests, instances=SERVERS, distribution="exponential")
    return ledger.queue_s_sum / ledger.answered


def erlang_c_wait_s(offered: float, servers: int, service_s: float) -> float:
    """Return the mean wait of M/M/c by Erlang's second formula."""
    below = sum(offered**k / math.factorial(k) for k in range(servers))
    top = offered**servers / math.factorial(servers) * servers / (servers - offered)
    return top / (below + top) * service_s / (servers - offered)


def rival_table(requests: int) -> Table:
    """Return speed and error of the three simulators on the same M/M/4."""
    expected_s = erlang_c_wait_s(ARRIVAL_RPS / SERVICE_RPS, SERVERS, 1.0 / SERVICE_RPS)
    table = Table(title=f"M/M/{SERVERS} at load 0.7: mean wait {expected_s:.4f} s by Erlang")
    for name in ("simulator", "requests", "requests/s", "ours is faster by", "error of the wait"):
        table.add_column(name, justify="right")
    rivals: list[tuple[str, Callable[[int], float], int]] = [
        ("gpupilot", our_wait_s, requests),
        ("SimPy " + simpy.__version__, simpy_wait_s, 200_000),
        ("Ciw " + ciw.__version__, ciw_wait_s, 50_000),
    ]
    ours = 0.0
    for name, simulate, count in rivals:
        started = time.process_time()
        wait_s = simulate(count)
        speed = count / (time.process_time() - started)
        ours = ours or speed
        error = wait_s / expected_s - 1.0
        table.add_row(name, f"{count:,}", f"{speed:,.0f}", f"{ours / speed:,.0f}", f"{error:+.2%}")
    return table


def truth_table(requests: int) -> Table:
    """Return the error of mean waits against closed forms."""
    table = Table(title=f"mean wait against closed forms, {requests:,} requests each")
    for name in ("system", "load", "closed form ms", "simulated ms", "error"):
        table.add_column(name, justify="right")
    for cv in (0.0, 0.5, 1.5):
        for load in (0.3, 0.6, 0.8, 0.9):
            name = "M/D/1" if cv == 0.0 else f"M/G/1, lognormal, cv {cv}"
            expected_s = load * (1.0 + cv * cv) / (2.0 * (1.0 - load)) * 0.01
            ledger = steady(100.0 * load, requests, noise_cv=cv, service_ms=10.0)
            table.add_row(name, f"{load}", *_compared(expected_s, ledger))
    for servers, load in ((1, 0.7), (2, 0.5), (4, 0.8), (8, 0.9)):
        expected_s = erlang_c_wait_s(load * servers, servers, 0.01)
        ledger = steady(
            100.0 * load * servers,
            requests,
            instances=servers,
            service_ms=10.0,
            distribution="exponential",
        )
        table.add_row(f"M/M/{servers}", f"{load}", *_compared(expected_s, ledger))
    return table


def _compared(expected_s: float, ledger: Ledger) -> tuple[str, str, str]:
    wait_s = ledger.queue_s_sum / ledger.answered
    return f"{1e3 * expected_s:.3f}", f"{1e3 * wait_s:.3f}", f"{wait_s / expected_s - 1.0:+.2%}"


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000_000)
    requests = parser.parse_args().requests
    console = Console(width=110)
    for table in (speed_table(requests), rival_table(requests // 4), truth_table(requests // 4)):
        console.print(table)


if __name__ == "__main__":
    main()
