"""What Kubernetes does with the pods of a service: create, bind, start, replace, drain, restart.

What a change of the allocation costs:

========================  ====================================================================
``replicas``              new pods are scheduled and start cold; surplus pods drain
``gpu_share_milli``       rolling replacement, one pod more than asked for at a time (surge 1)
``cpu_milli``             in-place resize, at once; ``memory_bytes`` too, without effect here
``instances_per_replica`` Triton adds or removes instances without reloading, after 0.24 s
``batch_max``,            the model is loaded again beside the old one, which serves on
``queue_delay_us``        meanwhile (Triton's model management guide); in effect after 1.5 s
========================  ====================================================================

Times of instance updates and model loads were measured on a real server.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.serving.agenda import Agenda
from gpupilot_envs.serving.cluster import Cluster, Gpus
from gpupilot_envs.serving.engine import Engine, Seat
from gpupilot_envs.serving.pod import Phase, Pod, removal_order
from gpupilot_envs.serving.speed import share_held_milli, slowdown

INSTANCE_UPDATE_S = 0.24
MODEL_LOAD_S = 1.5
SURGE = 1
STATUS_S = 0.1
"""The end of a pod is noticed, and its GPU released, at multiples of this."""


class Deployment:
    """The pods of one service."""

    def __init__(
        self,
        profile: ServiceProfile,
        allocation: Allocation,
        *,
        cluster: Cluster,
        engine: Engine,
        agenda: Agenda,
        seed: int,
    ) -> None:
        """Start with no pods; :meth:`start_warm` or :meth:`reconcile` creates them."""
        self.allocation = allocation
        self.starts = 0
        self.restarts = 0
        self._running = allocation
        self._profile = profile
        self._cluster = cluster
        self._engine = engine
        self._agenda = agenda
        self._seed = seed
        self._gpus = Gpus(cluster.gpus)
        self._slow: dict[int, float] = {}
        self._pods: list[Pod] = []
        self._created = 0

    @property
    def ready(self) -> int:
        """Pods that take requests."""
        return sum(pod.phase is Phase.READY for pod in self._pods)

    @property
    def pending(self) -> int:
        """Pods asked for that do not take requests yet."""
        return sum(pod.phase < Phase.READY for pod in self._pods)

    def start_warm(self, now_s: float) -> None:
        """Create the pods asked for, ready at once where a GPU is free."""
        for _ in range(self.allocation.replicas):
            pod = self._create()
            if self._bind(pod, now_s):
                self._become_ready(pod, now_s)
        self.reconcile(now_s)

    def change(self, allocation: Allocation, now_s: float) -> None:
        """Carry out a new allocation, each part at its own pace."""
        before, self.allocation = self.allocation, allocation
        if allocation.cpu_milli != before.cpu_milli:
            self._running = replace(self._running, cpu_milli=allocation.cpu_milli)
            self._set_speeds()
        if allocation.instances_per_replica != before.instances_per_replica:
            settings = {"instances_per_replica": allocation.instances_per_replica}
            self._agenda.add(now_s + INSTANCE_UPDATE_S, partial(self._reconfigure, settings))
        batching = ("batch_max", "queue_delay_us")
        if any(getattr(allocation, name) != getattr(before, name) for name in batching):
            settings = {name: getattr(allocation, name) for name in batching}
            self._agenda.add(now_s + MODEL_LOAD_S, partial(self._reconfigure, settings))
        self.reconcile(now_s)

    def reconcile(self, now_s: float) -> None:
        """Create and remove pods until their number and share are those asked for."""
        wanted = self.allocation.replicas
        new, old = self._live()
        for pod in sorted(new, key=removal_order)[: max(len(new) - wanted, 0)]:
            self._remove(pod, now_s)
        self._retire(old, now_s)
        new, old = self._live()
        room = wanted + (SURGE if old else 0) - len(new) - len(old)
        for _ in range(min(wanted - len(new), room)):
            pod = self._create()
            self._agenda.add(now_s + self._cluster.scheduling_s, partial(self._schedule, pod))
        self._publish()

    def _live(self) -> tuple[list[Pod], list[Pod]]:
        """Return the pods that are to stay up: those of the share asked for, and others."""
        share_milli = share_held_milli(self._profile, self.allocation)
        live = [pod for pod in self._pods if pod.phase <= Phase.READY]
        new = [pod for pod in live if pod.share_milli == share_milli]
        return new, [pod for pod in live if pod.share_milli != share_milli]

    def _retire(self, old: list[Pod], now_s: float) -> None:
        """Remove pods of another share: not ready ones at once, others as new ones are ready."""
        for pod in sorted(old, key=removal_order):
            if pod.phase < Phase.READY or self.ready > self.allocation.replicas:
                self.restarts += pod.phase is Phase.READY
                self._remove(pod, now_s)

    def crash(self, now_s: float) -> None:
        """Let the container of one ready pod die and start again on its GPU."""
        ready = [pod for pod in self._pods if pod.phase is Phase.READY]
        if not ready:
            return
        self.restarts += 1
        draw = np.random.default_rng([self._seed, 1, self.restarts])
        pod = ready[int(draw.integers(len(ready)))]
        assert pod.slot is not None
        self._engine.kill(pod.slot, now_s)
        self._engine.close_slot(pod.slot)
        pod.slot = None
        pod.restarts += 1
        self._start(pod, now_s)
        self._publish()

    def set_gpu_factor(self, gpu: int, factor: float) -> None:
        """Make executions on one GPU take ``factor`` times as long from now on."""
        self._slow[gpu] = factor
        self._set_speeds()

    def _create(self) -> Pod:
        self._created += 1
        share_milli = share_held_milli(self._profile, self.allocation)
        pod = Pod(number=self._created, share_milli=share_milli)
        self._pods.append(pod)
        return pod

    def _schedule(self, pod: Pod, now_s: float) -> None:
        if pod.phase is Phase.PENDING and pod.gpu is None and self._bind(pod, now_s):
            self._start(pod, now_s)
            self._publish()

    def _bind(self, pod: Pod, now_s: float) -> bool:
        pod.gpu = self._gpus.take(pod.share_milli)
        if pod.gpu is None:
            return False
        self.starts += 1
        self._meter(now_s)
        return True

    def _start(self, pod: Pod, now_s: float) -> None:
        pod.phase = Phase.STARTING
        cold = self._profile.cold_start_s
        draw = np.random.default_rng([self._seed, 2, pod.number, pod.restarts])
        sigma = math.sqrt(math.log1p(cold.cv**2))
        took_s = cold.mean * float(draw.lognormal(-0.5 * sigma**2, sigma))
        self._agenda.add(now_s + took_s, partial(self._started, pod, pod.restarts))

    def _started(self, pod: Pod, restarts: int, now_s: float) -> None:
        if pod.phase is Phase.STARTING and pod.restarts == restarts:
            self._become_ready(pod, now_s)
            self.reconcile(now_s)

    def _become_ready(self, pod: Pod, now_s: float) -> None:
        assert pod.gpu is not None
        mig = self._profile.gpu.sharing.mode == "mig"
        key = np.random.SeedSequence([self._seed, 3, pod.number, pod.restarts])
        seat = Seat(
            opened_s=now_s,
            series=pod.number,
            domain=None if mig else pod.gpu,
            share_milli=pod.share_milli,
            slowdown=self._slowdown(pod),
            noise_key=int(key.generate_state(1, np.uint64)[0] >> np.uint64(1)),
        )
        pod.slot = self._engine.open_slot(seat, self._running)
        pod.phase = Phase.READY
        pod.ready_s = now_s

    def _remove(self, pod: Pod, now_s: float) -> None:
        if pod.phase is not Phase.READY:
            self._end(pod, now_s)
            return
        pod.phase = Phase.DRAINING
        self._agenda.add(_next_status_s(now_s), partial(self._check, pod, now_s))

    def _check(self, pod: Pod, since_s: float, now_s: float) -> None:
        """See whether a draining pod is done, and end it when its grace is over."""
        assert pod.slot is not None
        if now_s - since_s >= self._cluster.drain_s:
            self._engine.kill(pod.slot, now_s)
        if self._engine.holds(pod.slot):
            self._agenda.add(_next_status_s(now_s), partial(self._check, pod, since_s))
            return
        self._end(pod, now_s)
        self._publish()

    def _end(self, pod: Pod, now_s: float) -> None:
        """Forget a pod; its GPU goes to the pods that wait for one, oldest first."""
        pod.phase = Phase.GONE
        self._pods.remove(pod)
        if pod.slot is not None:
            self._engine.close_slot(pod.slot)
        if pod.gpu is None:
            return
        self._gpus.give_back(pod.gpu, pod.share_milli)
        self._meter(now_s)
        for waiting in [p for p in self._pods if p.phase is Phase.PENDING]:
            self._agenda.add(now_s, partial(self._schedule, waiting))

    def _reconfigure(self, settings: dict[str, int], now_s: float) -> None:
        self._running = replace(self._running, **settings)
        for pod in self._pods:
            if pod.slot is not None:
                self._engine.configure(pod.slot, self._running, now_s=now_s)

    def _slowdown(self, pod: Pod) -> float:
        share = replace(self._running, gpu_share_milli=pod.share_milli)
        factor = self._slow.get(-1 if pod.gpu is None else pod.gpu, 1.0)
        return factor * slowdown(self._profile, share)

    def _set_speeds(self) -> None:
        for pod in self._pods:
            if pod.slot is not None:
                self._engine.set_slowdown(pod.slot, self._slowdown(pod))

    def _meter(self, now_s: float) -> None:
        held = sum(pod.share_milli for pod in self._pods if pod.gpu is not None)
        self._engine.set_held(held, now_s)

    def _publish(self) -> None:
        ready = [p.slot for p in self._pods if p.phase is Phase.READY and p.slot is not None]
        self._engine.set_endpoints(tuple(ready), self.pending)


def _next_status_s(now_s: float) -> float:
    """Return the first multiple of ``STATUS_S`` after ``now_s``."""
    return (math.floor(now_s / STATUS_S + 1e-9) + 1) * STATUS_S
