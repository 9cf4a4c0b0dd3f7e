"""What must hold in every run of the simulated world, whatever happens in it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.limits import Targets
from gpupilot_envs.profile import Batching, ColdStart, Gpu, ServiceProfile, Sharing
from gpupilot_envs.serving.cluster import BALANCINGS, Balancing, Cluster
from gpupilot_envs.serving.faults import Faults, MetricFault, SlowNode
from gpupilot_envs.serving.ledger import LATENCY_EDGES_S, Ledger
from gpupilot_envs.serving.measure import measure
from gpupilot_envs.serving.world import SimulatedWorld
from gpupilot_envs.workload.arrivals import SteadyArrivals

TARGETS = Targets(latency_s=0.05)
END_S = 40.0


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A profile, a cluster and what is done to the service when."""

    profile: ServiceProfile
    rate_rps: float
    cv: float
    balancing: Balancing
    gpus: int
    seed: int
    changes: tuple[tuple[float, Allocation], ...]
    faults: Faults

    def world(self) -> SimulatedWorld:
        return SimulatedWorld(
            self.profile,
            SteadyArrivals(self.rate_rps, cv=self.cv, seed=self.seed),
            targets=TARGETS,
            allocation=Allocation(replicas=2, gpu_share_milli=500, batch_max=8),
            seed=self.seed,
            cluster=Cluster(gpus=self.gpus, balancing=self.balancing, drain_s=3.0),
            faults=self.faults,
        )

    def play(self, stops: list[float]) -> SimulatedWorld:
        world = self.world()
        pauses = sorted({*stops, END_S, *(at_s for at_s, _ in self.changes)})
        for until_s in pauses:
            world.advance(until_s)
            for at_s, allocation in self.changes:
                if at_s == until_s:
                    world.apply(allocation)
        return world


profiles = st.builds(
    lambda mode, enabled, preferred, timeout_ms, max_queue, noise_cv: ServiceProfile(
        name="any",
        batch_latency_ms=((1.0, 4.0), (8.0, 12.0)),
        noise_cv=noise_cv,
        batching=Batching(enabled=enabled, max_batch=8, preferred=preferred),
        overhead_ms=0.5,
        timeout_ms=timeout_ms,
        max_queue=max_queue,
        cold_start_s=ColdStart(mean=3.0, cv=0.3),
        gpu=Gpu(
            sharing=Sharing(
                mode=mode,
                speed_by_share=((250.0, 0.4), (1000.0, 1.0)),
                contention_by_tenants=((1.0, 1.0), (4.0, 2.5)),
            )
        ),
    ),
    mode=st.sampled_from(["exclusive", "time_slicing", "mps", "mig"]),
    enabled=st.booleans(),
    preferred=st.sampled_from([(), (4,), (2, 8)]),
    timeout_ms=st.sampled_from([0.0, 30.0]),
    max_queue=st.sampled_from([0, 0, 20]),
    noise_cv=st.sampled_from([0.0, 0.3]),
)
allocations = st.builds(
    Allocation,
    replicas=st.integers(0, 6),
    gpu_share_milli=st.sampled_from([250, 500, 1000]),
    cpu_milli=st.sampled_from([500, 1000]),
    instances_per_replica=st.integers(1, 3),
    batch_max=st.sampled_from([1, 4, 8, 12]),
    queue_delay_us=st.sampled_from([0, 0, 2000, 8000]),
)
scenes = st.builds(
    Scene,
    profile=profiles,
    rate_rps=st.sampled_from([3.0, 200.0, 1500.0]),
    cv=st.sampled_from([0.5, 1.0, 3.0]),
    balancing=st.sampled_from(BALANCINGS),
    gpus=st.integers(1, 8),
    seed=st.integers(0, 1000),
    changes=st.lists(
        st.tuples(st.sampled_from([1.0, 6.5, 7.0, 13.25, 22.0, 31.0]), allocations), max_size=5
    ).map(lambda changes: tuple(dict(changes).items())),
    faults=st.builds(
        Faults,
        pod_crashes_s=st.sampled_from([(), (5.0,), (8.0, 8.5, 20.0)]),
        slow_nodes=st.sampled_from([(), (SlowNode(gpu=0, from_s=4.0, until_s=18.0, factor=3.0),)]),
        metrics=st.sampled_from([(), (MetricFault(kind="outage", from_s=5.0, until_s=9.0),)]),
    ),
)


def same(a: Ledger, b: Ledger) -> bool:
    """Whether two ledgers agree bit for bit."""
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Ledger))


@settings(max_examples=60, deadline=None)
@given(scene=scenes, stops=st.lists(st.floats(0.0, END_S), max_size=12))
def test_a_run_is_the_same_however_it_is_cut(scene: Scene, stops: list[float]) -> None:
    """One go or many steps: the same ledger and the same reading, bit for bit."""
    at_once, in_steps = scene.play([]), scene.play(stops)
    assert same(at_once.ledger(), in_steps.ledger())
    assert at_once.read(10.0) == in_steps.read(10.0)


@settings(max_examples=60, deadline=None)
@given(scene=scenes)
def test_no_request_is_lost_or_invented(scene: Scene) -> None:
    """Requests are answered, rejected, timed out, failed or held by a pod, at all times."""
    world = scene.world()
    for until_s in np.linspace(1.0, END_S, 14):
        world.advance(float(until_s))
        for at_s, allocation in scene.changes:
            if until_s - END_S / 14 < at_s <= until_s:
                world.apply(allocation)
        ledger = world.ledger()
        held = sum(world._engine.holds(slot) for slot in world._engine._active)
        assert ledger.in_flight == held
        assert ledger.latency_counts.sum() == ledger.answered == ledger.executed_requests
        assert 0 <= ledger.in_time <= ledger.answered


@settings(max_examples=40, deadline=None)
@given(scene=scenes)
def test_nothing_is_answered_before_the_fastest_execution(scene: Scene) -> None:
    """No time travel: without noise no latency is below overhead plus a batch of one."""
    profile = scene.profile.model_copy(update={"noise_cv": 0.0})
    ledger = replace(scene, profile=profile).play([]).ledger()
    fastest_s = 0.0005 + 0.004
    impossible = LATENCY_EDGES_S[1:] < fastest_s
    assert ledger.latency_counts[impossible].sum() == 0
    assert ledger.queue_s_sum >= -1e-6


@settings(max_examples=40, deadline=None)
@given(scene=scenes)
def test_the_gpu_bill_is_that_of_the_pods(scene: Scene) -> None:
    """GPU seconds stay within what the cluster has, and energy between idle and busy power."""
    ledger = scene.play([]).ledger()
    assert 0.0 <= ledger.gpu_seconds <= scene.gpus * END_S + 1e-9
    power = scene.profile.gpu.power_w
    assert ledger.energy_j >= power.idle * ledger.gpu_seconds - 1e-6
    assert ledger.energy_j <= power.busy * ledger.gpu_seconds + 1e-6
    assert ledger.co2_g == pytest.approx(ledger.energy_j / 3.6e6 * 481.0)


@settings(max_examples=25, deadline=None)
@given(
    replicas=st.integers(1, 5),
    load=st.floats(0.3, 1.2),
    cv=st.sampled_from([0.5, 1.0, 3.0]),
    balancing=st.sampled_from(BALANCINGS),
    seed=st.integers(0, 50),
)
def test_one_more_replica_never_hurts(
    replicas: int, load: float, cv: float, balancing: Balancing, seed: int
) -> None:
    """On the same arrivals attainment does not fall by more than 0.5 percentage points."""
    profile = ServiceProfile(
        name="more", batch_latency_ms=((1.0, 4.0), (8.0, 12.0)), batching=Batching(max_batch=8)
    )

    def attainment(count: int) -> float:
        ledger = measure(
            profile,
            replicas=count,
            arrivals=SteadyArrivals(load * replicas * 8 / 0.012, cv=cv, seed=seed),
            duration_s=20.0,
            targets=Targets(latency_s=0.03),
            seed=seed,
            balancing=balancing,
        )
        assert ledger.attainment_ratio is not None
        return ledger.attainment_ratio

    assert attainment(replicas + 1) >= attainment(replicas) - 0.005


@settings(max_examples=25, deadline=None)
@given(load=st.floats(0.05, 0.95), batch_max=st.integers(1, 8), seed=st.integers(0, 99))
def test_a_greedy_pod_never_idles_while_requests_wait(
    load: float, batch_max: int, seed: int
) -> None:
    """Work conservation, looked at at times that have nothing to do with events."""
    profile = ServiceProfile(
        name="busy",
        batch_latency_ms=((1.0, 4.0), (8.0, 12.0)),
        batching=Batching(max_batch=batch_max),
    )
    world = SimulatedWorld(
        profile,
        SteadyArrivals(load * 250.0, seed=seed),
        targets=TARGETS,
        allocation=Allocation(replicas=1, batch_max=batch_max),
        seed=seed,
    )
    for k in range(1, 300):
        world.advance(k * 0.0371)
        pod = world._engine.pods[0]
        assert pod["executing"] == 1 or pod["admitted"] == pod["head"]


@pytest.mark.parametrize("balancing", BALANCINGS)
def test_the_seed_decides(balancing: Balancing) -> None:
    """The same seed gives the same run; another seed another one."""

    def run(seed: int) -> Ledger:
        profile = ServiceProfile(name="seeded", batch_latency_ms=((1.0, 4.0),), noise_cv=0.3)
        return measure(
            profile,
            replicas=3,
            arrivals=SteadyArrivals(300.0, seed=1),
            duration_s=20.0,
            targets=TARGETS,
            seed=seed,
            balancing=balancing,
        )

    assert same(run(4), run(4))
    assert not same(run(4), run(5))
