"""Pods: what scaling, rolling changes, crashes, drains and full clusters do and cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.limits import Targets
from gpupilot_envs.profile import Batching, ColdStart, Gpu, Power, ServiceProfile, Sharing
from gpupilot_envs.serving.cluster import Cluster, Gpus
from gpupilot_envs.serving.faults import Faults, SlowNode
from gpupilot_envs.serving.pod import Phase, Pod, removal_order
from gpupilot_envs.serving.world import SimulatedWorld
from gpupilot_envs.workload.arrivals import ExactArrivals, SteadyArrivals

TARGETS = Targets(latency_s=0.05)
ONE = Allocation(replicas=1, batch_max=4)


def service(**settings: object) -> ServiceProfile:
    return ServiceProfile.model_validate(
        {
            "name": "pods",
            "batch_latency_ms": ((1, 10.0), (4, 20.0)),
            "noise_cv": 0.0,
            "batching": Batching(max_batch=4),
            "cold_start_s": ColdStart(mean=20.0, cv=0.0),
            **settings,
        }
    )


def world(
    profile: ServiceProfile | None = None,
    *,
    rate_rps: float = 100.0,
    allocation: Allocation = ONE,
    cluster: Cluster | None = None,
    faults: Faults | None = None,
    warm: bool = True,
) -> SimulatedWorld:
    return SimulatedWorld(
        profile or service(),
        SteadyArrivals(rate_rps, seed=1),
        targets=TARGETS,
        allocation=allocation,
        seed=1,
        cluster=cluster,
        faults=faults,
        warm=warm,
    )


def test_a_new_pod_is_scheduled_and_then_starts_cold() -> None:
    """Asked for at 10 s, bound at 11 s, ready 20 s later; it costs from its binding on."""
    it = world()
    it.advance(10.0)
    it.apply(replace(ONE, replicas=2))
    for until_s, ready, pending in ((10.5, 1, 1), (30.9, 1, 1), (31.0, 2, 0)):
        it.advance(until_s)
        assert (it.replicas_ready, it.replicas_pending) == (ready, pending)
    it.advance(41.0)
    assert it.ledger().gpu_seconds == pytest.approx(41.0 + 30.0)


def test_a_pod_pends_while_no_gpu_is_free() -> None:
    """On a full cluster the third pod waits until a drained one gives its GPU back."""
    it = world(allocation=replace(ONE, replicas=3), cluster=Cluster(gpus=2))
    it.advance(60.0)
    assert (it.replicas_ready, it.replicas_pending) == (2, 1)
    assert it.ledger().gpu_seconds == pytest.approx(120.0)
    it.apply(replace(ONE, replicas=1))
    it.advance(61.0)
    assert (it.replicas_ready, it.replicas_pending) == (1, 0)


def test_a_draining_pod_finishes_what_it_holds_and_then_frees_its_gpu() -> None:
    """40 requests in one burst: scaled away at once, all are answered, the GPU is paid for."""
    it = SimulatedWorld(
        service(),
        ExactArrivals(np.linspace(1.0, 1.001, 40)),
        targets=TARGETS,
        allocation=ONE,
        seed=1,
    )
    it.advance(1.01)
    it.apply(replace(ONE, replicas=0))
    it.advance(5.0)
    ledger = it.ledger()
    assert (ledger.answered, ledger.failed) == (40, 0)
    assert ledger.gpu_seconds == pytest.approx(1.3)


def test_a_draining_pod_is_killed_when_its_grace_is_over() -> None:
    """What it still holds then has failed."""
    it = SimulatedWorld(
        service(),
        ExactArrivals(np.linspace(1.0, 1.001, 400)),
        targets=TARGETS,
        allocation=ONE,
        seed=1,
        cluster=Cluster(drain_s=1.0),
    )
    it.advance(1.01)
    it.apply(replace(ONE, replicas=0))
    it.advance(5.0)
    ledger = it.ledger()
    assert ledger.in_flight == 0
    assert 190 <= ledger.answered <= 230
    assert ledger.failed == 400 - ledger.answered
    assert ledger.gpu_seconds == pytest.approx(2.1)


def test_without_a_ready_pod_requests_fail() -> None:
    """No endpoint: the connection is refused, nothing waits."""
    it = world(warm=False)
    it.advance(20.0)
    ledger = it.ledger()
    assert ledger.failed == ledger.requests > 1500
    it.advance(40.0)
    assert (it.ledger() - ledger).answered > 1500


def test_scaling_down_takes_pods_that_do_not_serve_yet_first() -> None:
    """Pending before starting before ready; among ready ones the newest."""
    pods = [
        Pod(number=1, share_milli=1000, phase=Phase.READY, ready_s=0.0),
        Pod(number=2, share_milli=1000, phase=Phase.READY, ready_s=50.0),
        Pod(number=3, share_milli=1000, phase=Phase.STARTING, gpu=2),
        Pod(number=4, share_milli=1000, phase=Phase.PENDING),
    ]
    assert [pod.number for pod in sorted(pods, key=removal_order)] == [4, 3, 2, 1]
    it = world()
    it.advance(10.0)
    it.apply(replace(ONE, replicas=2))
    it.advance(15.0)
    it.apply(ONE)
    it.advance(20.0)
    assert (it.replicas_ready, it.replicas_pending) == (1, 0)
    assert it.ledger().gpu_seconds == pytest.approx(20.0 + 4.0)


SHARED = Sharing(mode="mps", speed_by_share=((250, 0.35), (500, 0.6), (1000, 1.0)))


def shared(replicas: int, share_milli: int, **settings: object) -> SimulatedWorld:
    """A world that has run for 10 s with pods of one share."""
    share = replace(ONE, replicas=replicas, gpu_share_milli=share_milli)
    it = world(service(gpu=Gpu(sharing=SHARED)), allocation=share, **settings)  # type: ignore[arg-type]
    it.advance(10.0)
    return it


def test_pods_of_a_new_share_take_over_when_all_are_warm() -> None:
    """Both generations hold their GPUs meanwhile; each pod starts cold, all at once."""
    it = shared(3, 1000)
    it.apply(replace(it.allocation, gpu_share_milli=500))
    it.advance(30.9)
    assert (it.replicas_ready, it.replicas_pending) == (3, 3)
    it.advance(31.1)
    assert (it.replicas_ready, it.replicas_pending) == (3, 0)
    before = it.ledger()
    assert before.pod_restarts == 3
    it.advance(41.1)
    assert (it.ledger() - before).gpu_seconds == pytest.approx(3 * 0.5 * 10.0, abs=1.0)
    assert before.gpu_seconds == pytest.approx(3 * 31.0 + 3 * 0.5 * 20.0, rel=0.01)


@pytest.mark.parametrize(("before", "after"), [((4, 250), (1, 1000)), ((1, 1000), (4, 250))])
def test_a_change_of_share_never_serves_with_less_than_before_or_asked(
    before: tuple[int, int], after: tuple[int, int]
) -> None:
    """Four quarters become one whole and back: no request is lost and no queue builds up."""
    it = shared(*before, rate_rps=0.75 * 200.0)
    settled = it.ledger()
    replicas, share_milli = after
    it.apply(replace(it.allocation, replicas=replicas, gpu_share_milli=share_milli))
    it.advance(60.0)
    during = it.ledger() - settled
    assert it.replicas_ready == replicas
    assert during.failed == 0
    assert during.latency_quantile_s(0.999) < 0.3  # type: ignore[operator]


def test_a_share_taken_back_before_it_serves_leaves_the_old_pods_alone() -> None:
    """The new generation goes, the old one never stopped."""
    it = shared(2, 1000)
    old = it.allocation
    it.apply(replace(old, gpu_share_milli=500))
    it.advance(20.0)
    it.apply(old)
    it.advance(60.0)
    assert (it.replicas_ready, it.replicas_pending) == (2, 0)
    assert it.ledger().pod_restarts == 0
    assert it.ledger().gpu_seconds == pytest.approx(2 * 60.0 + 2 * 0.5 * 9.0)


def test_a_share_changes_together_with_its_batching() -> None:
    """The old generation keeps its own settings to the end; the new one starts with its own."""
    it = shared(1, 1000, rate_rps=150.0)
    it.apply(replace(it.allocation, replicas=3, gpu_share_milli=500, batch_max=1))
    it.advance(15.0)
    before = it.ledger()
    it.advance(30.0)
    during = it.ledger() - before
    assert during.executed_requests > 1.5 * during.executions
    it.advance(35.0)
    before = it.ledger()
    it.advance(45.0)
    after = it.ledger() - before
    assert after.executed_requests == after.executions


def test_without_room_for_both_generations_the_old_one_serves_on() -> None:
    """One GPU, four quarters: the whole one pends until a person or a guardrail steps in."""
    it = shared(4, 250, cluster=Cluster(gpus=1))
    it.apply(replace(it.allocation, replicas=1, gpu_share_milli=1000))
    it.advance(200.0)
    assert (it.replicas_ready, it.replicas_pending) == (4, 1)


def test_a_share_draws_the_power_its_profile_states() -> None:
    """Idle by the share held; computing by the stated part, whatever the share."""
    power = Power(idle=40.0, busy=140.0, dynamic_by_share=((500, 0.6), (1000, 1.0)))
    profile = service(gpu=Gpu(sharing=SHARED, power_w=power))
    half = replace(ONE, gpu_share_milli=500)
    it = world(profile, allocation=half)
    it.advance(100.0)
    ledger = it.ledger()
    expected_j = 100.0 * 0.5 * 40.0 + ledger.busy_s * 0.6 * 100.0
    assert ledger.energy_j == pytest.approx(expected_j, rel=1e-3)


def test_core_seconds_follow_the_limit_at_once() -> None:
    """Two pods of one core for 10 s, then of half a core, then one of them."""
    it = world(allocation=replace(ONE, replicas=2), rate_rps=5.0)
    it.advance(10.0)
    it.apply(replace(ONE, replicas=2, cpu_milli=500))
    it.advance(20.0)
    assert it.ledger().cpu_seconds == pytest.approx(2 * 10.0 + 10.0)
    it.apply(replace(ONE, replicas=1, cpu_milli=500))
    it.advance(30.0)
    assert it.ledger().cpu_seconds == pytest.approx(30.0 + 5.0, abs=0.2)


def test_instances_come_live_and_double_the_throughput() -> None:
    """An instance is added within 0.24 s, without a restart."""
    it = world(rate_rps=1000.0)
    it.advance(10.0)
    slow = it.ledger()
    it.apply(replace(ONE, instances_per_replica=2))
    it.advance(10.24)
    before = it.ledger()
    it.advance(20.24)
    assert (it.ledger() - before).answered == pytest.approx(2 * slow.answered, rel=0.03)
    assert it.ledger().pod_restarts == 0


def test_batching_changes_when_the_model_is_loaded_again() -> None:
    """1.5 s with the old batch size, then the new one; no request is lost."""
    it = world(rate_rps=300.0)
    it.advance(10.0)
    it.apply(replace(ONE, batch_max=1))
    before = it.ledger()
    it.advance(11.4)
    assert (it.ledger() - before).executed_requests > 1.5 * (it.ledger() - before).executions
    it.advance(12.0)
    before = it.ledger()
    it.advance(20.0)
    after = it.ledger() - before
    assert after.executed_requests == after.executions
    assert it.ledger().failed == 0


def test_a_crash_loses_what_the_pod_holds_and_starts_cold() -> None:
    """The GPU stays held; requests fail while nothing is ready."""
    it = world(faults=Faults(pod_crashes_s=(10.0,)))
    it.advance(10.0)
    assert (it.replicas_ready, it.replicas_pending) == (0, 1)
    it.advance(30.0)
    assert it.replicas_ready == 1
    it.advance(40.0)
    ledger = it.ledger()
    assert ledger.failed == pytest.approx(2000, rel=0.1)
    assert ledger.pod_restarts == 1
    assert ledger.gpu_seconds == pytest.approx(40.0)


def test_a_slow_node_slows_its_executions_for_its_spell() -> None:
    """Three times slower while it lasts."""
    node = SlowNode(gpu=0, from_s=10.0, until_s=20.0, factor=3.0)
    it = world(rate_rps=5.0, faults=Faults(slow_nodes=(node,)))
    means = []
    for until_s in (10.0, 20.0, 30.0):
        before = it.ledger()
        it.advance(until_s)
        after = it.ledger() - before
        means.append(after.compute_s_sum / after.answered)
    assert means == pytest.approx([0.010, 0.030, 0.010], rel=0.05)


def test_tenants_of_one_gpu_slow_each_other_only_while_both_execute() -> None:
    """Two busy pods on one GPU at a contention of 2 answer what one alone does."""
    sharing = Sharing(
        mode="time_slicing",
        speed_by_share=((500, 1.0), (1000, 1.0)),
        contention_by_tenants=((1, 1.0), (2, 2.0)),
    )
    alone = Allocation(replicas=1, gpu_share_milli=500, batch_max=4)

    def answered(allocation: Allocation, mode: str) -> int:
        profile = service(gpu=Gpu(sharing=sharing.model_copy(update={"mode": mode})))
        it = world(profile, rate_rps=1000.0, allocation=allocation, cluster=Cluster(gpus=1))
        it.advance(20.0)
        return it.ledger().answered

    single = answered(alone, "time_slicing")
    assert answered(replace(alone, replicas=2), "time_slicing") == pytest.approx(single, rel=0.03)
    assert answered(replace(alone, replicas=2), "mig") == pytest.approx(2 * single, rel=0.03)


def test_a_cpu_limit_slows_at_once() -> None:
    """In-place resize: no restart, half the limit, half the speed."""
    it = world(rate_rps=5.0)
    it.advance(50.0)
    it.apply(replace(ONE, cpu_milli=500))
    before = it.ledger()
    it.advance(100.0)
    after = it.ledger() - before
    assert after.compute_s_sum / after.answered == pytest.approx(0.020, rel=0.05)


def test_shares_are_packed_onto_the_fullest_gpu() -> None:
    """Best fit, lowest index first."""
    gpus = Gpus(2)
    assert [gpus.take(share) for share in (600, 300, 600, 400, 200)] == [0, 0, 1, 1, None]
    gpus.give_back(0, 300)
    assert gpus.take(200) == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("replicas", -1),
        ("gpu_share_milli", 0),
        ("gpu_share_milli", 1001),
        ("instances_per_replica", 17),
        ("batch_max", 0),
        ("queue_delay_us", -1),
    ],
)
def test_an_impossible_allocation_is_refused(field: str, value: int) -> None:
    """The error names the field and the value, and nothing has changed."""
    it = world()
    with pytest.raises(InputInvalid, match=rf"allocation.{field}: {value}"):
        it.apply(replace(ONE, **{field: value}))
    assert it.allocation == ONE


def test_time_does_not_run_backwards() -> None:
    """Advancing to the past is refused."""
    it = world()
    it.advance(10.0)
    with pytest.raises(InputInvalid, match="until_s"):
        it.advance(9.0)
