"""The compiled batcher against Triton's algorithm written out slowly, batch by batch."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.profile import Batching, ServiceProfile
from gpupilot_envs.serving.cluster import Cluster
from gpupilot_envs.serving.engine import Engine, Seat, service_record
from gpupilot_envs.serving.replica import step
from gpupilot_envs.serving.scrape import Scrape
from gpupilot_envs.serving.state import REJECTED, TIMED_OUT

INF = float("inf")
IDLE_WAIT_S = 0.5

Batch = tuple[float, list[float]]


@dataclass(kw_only=True)
class Config:
    """One model's configuration; seconds."""

    curve_s: NDArray[np.float64]
    batch_max: int
    delay_s: float = 0.0
    preferred: tuple[int, ...] = ()
    instances: int = 1
    timeout_s: float = INF
    max_queue: int = 0
    free_shapes: bool = False

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.preferred or (self.batch_max,)

    @property
    def prefetching(self) -> bool:
        return self.timeout_s == INF and self.max_queue == 0


@dataclass(eq=False)
class Payload:
    requests: list[float] = field(default_factory=list)
    state: str = "UNINITIALIZED"


class Triton:
    """``DynamicBatchScheduler``, ``RateLimiter`` and ``InstanceQueue``, request by request."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.queue: deque[float] = deque()
        self.payloads: deque[Payload] = deque()
        self.current = Payload()
        self.saturated = False
        self.next_preferred = 0
        self.finish_s = [INF] * config.instances
        self.wake_s = INF
        self.slept_s: float | None = 0.0
        self.batches: list[Batch] = []
        self.rejected = 0
        self.timed_out = 0

    def slot_available(self) -> bool:
        if self.config.prefetching:
            return len(self.payloads) < 2 * self.config.instances
        return INF in self.finish_s

    def enqueue(self, now: float) -> None:
        if self.config.max_queue and len(self.queue) >= self.config.max_queue:
            self.rejected += 1
            return
        self.queue.append(now)
        stale = self.current.state == "EXECUTING"
        # an input of free size is looked at as it comes: it may not fit the others' shape
        enough = self.config.free_shapes or len(self.queue) >= self.next_preferred
        if self.slot_available() and (self.saturated or stale or enough):
            self.batcher_thread(now)

    def batcher_thread(self, now: float) -> None:
        self.slept_s, self.wake_s = None, INF
        while True:
            if self.saturated or self.current.state == "EXECUTING":
                self.current, self.saturated, self.next_preferred = Payload(), False, 0
            self.drop_expired(now)
            if not self.queue or not self.slot_available():
                self.slept_s = now
                return
            pending, wait_until = self.get_dynamic_batch(now)
            if wait_until is not None:
                self.wake_s = wait_until
                return
            for _ in range(pending):
                self.current.requests.append(self.queue.popleft())
            if pending and self.current.state == "UNINITIALIZED":
                self.current.state = "SCHEDULED"
                self.payloads.append(self.current)
                self.dequeue(now)

    def drop_expired(self, now: float) -> None:
        while self.queue and now >= self.queue[0] + self.config.timeout_s:
            self.queue.popleft()
            self.timed_out += 1

    def get_dynamic_batch(self, now: float) -> tuple[int, float | None]:
        config, size = self.config, len(self.current.requests)
        largest = max(config.sizes)
        best, pending, send_now = 0, 0, False
        for _ in self.queue:
            if size + pending > 0:
                if size + pending + 1 > largest and best == 0:
                    best = pending
                    self.saturated = True
                if size + pending + 1 > config.batch_max:
                    send_now = True
                    break
            pending += 1
            if size + pending in config.sizes:
                best = pending
        deadline = self.queue[0] + config.delay_s
        exceeded = config.delay_s != 0 and now >= deadline
        if best != 0 and not exceeded:
            if config.delay_s == 0:
                self.saturated = True
            return best, None
        if pending == 0:
            return 0, None
        if send_now or size + pending >= largest:
            self.saturated = True
            return pending, None
        if exceeded or config.delay_s == 0:
            return pending, None
        above = [s for s in config.sizes if s > size + pending]
        self.next_preferred = (above or list(config.sizes))[0] - size
        if not self.saturated and size and size not in config.sizes:
            return pending, None
        return 0, min(deadline, self.queue[0] + config.timeout_s)

    def dequeue(self, now: float) -> bool:
        if not self.payloads or INF not in self.finish_s:
            return False
        payload = self.payloads.popleft()
        payload.state = "EXECUTING"
        while self.payloads and self.config.delay_s > 0 and self.config.batch_max > 1:
            front = self.payloads[0]
            if now - front.requests[0] <= self.config.delay_s:
                break
            front.state = "EXECUTING"
            if len(payload.requests) + len(front.requests) > self.config.batch_max:
                break
            payload.requests += self.payloads.popleft().requests
        self.batches.append((now, list(payload.requests)))
        instance = self.finish_s.index(INF)
        self.finish_s[instance] = now + float(self.config.curve_s[len(payload.requests)])
        return True

    def timer_s(self) -> float:
        if self.wake_s < INF:
            return self.wake_s
        if self.slept_s is None or not self.queue:
            return INF
        return self.slept_s + IDLE_WAIT_S

    def run(self, arrivals: list[float]) -> None:
        waiting = deque(arrivals)
        while True:
            arrival = waiting[0] if waiting else INF
            finish = min(self.finish_s)
            if self.slept_s is not None and not self.queue:
                while self.slept_s + IDLE_WAIT_S <= min(arrival, finish) < INF:
                    self.slept_s += IDLE_WAIT_S
            timer = self.timer_s()
            now = min(arrival, finish, timer)
            if now == INF:
                return
            if finish == now:
                self.finish_s[self.finish_s.index(now)] = INF
                self.dequeue(now)
                self.batcher_thread(now)
            elif timer == now:
                self.batcher_thread(now)
            else:
                self.enqueue(waiting.popleft())


def compiled_batches(config: Config, arrivals: list[float]) -> tuple[list[Batch], int, int]:
    """Step one pod of the real kernels through the same arrivals."""
    points = tuple((float(b), 1000.0 * t) for b, t in enumerate(config.curve_s) if b)
    profile = ServiceProfile(
        name="reference",
        batch_latency_ms=points,
        noise_cv=0.0,
        batching=Batching(max_batch=config.batch_max, preferred=config.preferred),
        timeout_ms=0.0 if config.timeout_s == INF else 1000.0 * config.timeout_s,
        max_queue=config.max_queue,
    )
    service = service_record(
        profile,
        bounds_s=np.array([1.0]),
        balancing="random",
        balance_key=0,
        distribution="lognormal",
        always_woken=config.free_shapes,
    )
    engine = Engine(profile, service=service, cluster=Cluster(), scrape=Scrape())
    seat = Seat(opened_s=0.0, series=1, domain=0, power_ratio=1.0, slowdown=1.0, noise_key=0)
    allocation = Allocation(
        replicas=1,
        batch_max=config.batch_max,
        queue_delay_us=round(config.delay_s * 1e6),
        instances_per_replica=config.instances,
    )
    slot = engine.open_slot(seat, allocation)
    times = np.zeros(1024)
    times[: len(arrivals)] = arrivals
    pod, tally = engine.pods[slot], engine.tally[0]
    pod["tail"] = len(arrivals)
    batches: list[Batch] = []
    seen = 0
    while pod["inbox"] < pod["tail"] or pod["next_finish_s"] < INF or pod["wake_at_s"] < INF:
        step(pod, times, 0, service[0], tally)
        while seen < pod["noise_drawn"]:
            started = np.flatnonzero(pod["finish_s"] < INF)
            lane = started[np.argsort(pod["first"][started])][seen - int(pod["noise_drawn"])]
            first, size = int(pod["first"][lane]), int(pod["size"][lane])
            batches.append((float(pod["start_s"][lane]), times[first : first + size].tolist()))
            seen += 1
    return batches, int(tally["totals"][REJECTED]), int(tally["totals"][TIMED_OUT])


sizes: st.SearchStrategy[set[int]] = st.one_of(
    st.just(set()), st.sets(st.integers(1, 4), max_size=2), st.sets(st.integers(1, 16), max_size=3)
)


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """Return any configuration, small preferred sizes and short queues among them."""
    batch_max = draw(st.integers(1, 16))
    base_s = draw(st.sampled_from([0.003, 0.011, 0.7]))
    slope_s = draw(st.sampled_from([0.0, 0.00071, 0.0023]))
    timeout_ms = draw(st.sampled_from([0, 0, 0, 7, 40]))
    return Config(
        curve_s=np.array([base_s + slope_s * b for b in range(batch_max + 1)]),
        batch_max=batch_max,
        delay_s=draw(st.sampled_from([0, 1, 2, 5, 13])) / 1000.0,
        preferred=tuple(sorted(b for b in draw(sizes) if b <= batch_max)),
        instances=draw(st.integers(1, 3)),
        timeout_s=timeout_ms / 1000.0 if timeout_ms else INF,
        max_queue=draw(st.sampled_from([0, 0, 0, 1, 5])),
        free_shapes=draw(st.booleans()),
    )


gap = st.sampled_from([0.00013, 0.00037, 0.0011, 0.0031, 0.0067, 0.0171, 0.31, 1.13])
gaps = st.lists(st.tuples(gap, st.integers(1, 12)), min_size=1, max_size=20).map(
    lambda runs: [gap_s * (1.0 + 1e-3 * k) for gap_s, count in runs for k in range(count)]
)


@settings(max_examples=600, deadline=None)
@given(config=configs(), gaps=gaps)
def test_the_kernel_forms_the_batches_that_triton_forms(config: Config, gaps: list[float]) -> None:
    """Same start times, same requests in each batch, same rejections and time-outs."""
    arrivals = np.cumsum(gaps).tolist()
    reference = Triton(config)
    reference.run(arrivals)
    batches, rejected, timed_out = compiled_batches(config, arrivals)
    expected = sorted(reference.batches)
    assert [b for _, b in sorted(batches)] == [b for _, b in expected]
    assert [t for t, _ in sorted(batches)] == pytest.approx([t for t, _ in expected], abs=1e-9)
    assert (rejected, timed_out) == (reference.rejected, reference.timed_out)


def batches_of(arrivals: list[float], **settings: object) -> list[Batch]:
    curve_s = np.array([0.0, *([0.010] * 16)])
    config = Config(curve_s=curve_s, batch_max=16, **settings)  # type: ignore[arg-type]
    return compiled_batches(config, arrivals)[0]


def test_a_lone_request_waits_the_whole_delay() -> None:
    """Measured on a real server: 2.0 ms in the queue for a delay of 2 ms."""
    [(start_s, _)] = batches_of([1.0], delay_s=0.002)
    assert start_s == pytest.approx(1.002)


def test_a_lone_request_does_not_wait_when_one_is_preferred() -> None:
    """Preferred sizes that contain 1 switch the delay off for it."""
    [(start_s, _)] = batches_of([1.0], delay_s=0.002, preferred=(1, 4))
    assert start_s == 1.0


def test_without_delay_an_instance_takes_all_that_waits() -> None:
    """Greedy: the first request runs alone, the five that came meanwhile run together."""
    sizes = [len(b) for _, b in batches_of([0.0, 0.001, 0.002, 0.003, 0.004, 0.005])]
    assert sizes == [1, 5]


def test_with_delay_late_requests_do_not_join_the_batch_sealed_ahead() -> None:
    """The batch of 2 was sealed 2 ms after its first request, long before the instance freed."""
    arrivals = [0.0, 0.003, 0.004, 0.007, 0.008]
    batches = batches_of(arrivals, delay_s=0.002)
    assert [b for _, b in batches] == [[0.0], [0.003, 0.004], [0.007, 0.008]]
    assert [t for t, _ in batches] == pytest.approx([0.002, 0.012, 0.022])


def test_requests_of_free_shape_join_the_batch_sealed_ahead() -> None:
    """Each wakes the batcher's thread, which looks at the payload that still waits."""
    arrivals = [0.0, 0.003, 0.004, 0.007, 0.008]
    batches = batches_of(arrivals, delay_s=0.002, free_shapes=True)
    assert [b for _, b in batches] == [[0.0], [0.003, 0.004, 0.007, 0.008]]
    assert [t for t, _ in batches] == pytest.approx([0.002, 0.012])


def test_payloads_sealed_ahead_are_merged_when_the_instance_takes_them() -> None:
    """Two payloads of a small preferred size wait while the instance is busy; both run at once."""
    curve_s = np.array([0.0, *([0.3] * 16)])
    config = Config(curve_s=curve_s, batch_max=16, delay_s=0.002, preferred=(2,))
    arrivals = [0.0, 0.0001, *(0.01 + 0.0001 * k for k in range(9))]
    batches, _, _ = compiled_batches(config, arrivals)
    assert [len(b) for _, b in batches] == [2, 5, 4]


def test_expired_requests_are_swept_out_while_the_instance_is_busy() -> None:
    """Twice a second; so the third request finds room in a queue of one."""
    config = Config(curve_s=np.array([0.0, 0.7]), batch_max=1, timeout_s=0.007, max_queue=1)
    batches, rejected, timed_out = compiled_batches(config, [0.00013, 0.31013, 0.62044])
    assert (len(batches), rejected, timed_out) == (1, 0, 2)


def test_preferred_sizes_do_not_cap_the_batch_once_the_delay_is_exceeded() -> None:
    """Sizes above the largest preferred one are common at high load."""
    arrivals = [0.0, *np.linspace(0.011, 0.012, 11).tolist()]
    sizes = [len(b) for _, b in batches_of(arrivals, delay_s=0.010, preferred=(4, 8))]
    assert sizes[0] == 1
    assert max(sizes) <= 16
    assert sum(sizes) == 12
