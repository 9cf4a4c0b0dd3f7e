"""What Kubernetes does with the pods of a service: create, bind, start, replace, drain, restart.

What a change of the allocation costs:

========================  ====================================================================
``replicas``              new pods are scheduled and start cold; surplus pods drain
``gpu_share_milli``       a second Deployment starts beside the first and takes over (see below)
``cpu_milli``             in-place resize, at once; ``memory_bytes`` too, without effect here
``instances_per_replica`` Triton adds or removes instances without reloading, after 0.24 s
``batch_max``,            the model is loaded again beside the old one, which serves on
``queue_delay_us``        meanwhile (Triton's model management guide); in effect after 1.5 s
========================  ====================================================================

Times of instance updates and model loads were measured on a real server.

The share of a GPU is a resource of the pod template and cannot be changed in place. An operator
keeps one Deployment per share: all pods of the new share start at once, each held back by a
readiness gate, while the old ones serve on. When those that have started carry as much as the old
ones, or as much as was asked for, their gates open, the Service's selector moves to them, and the
old pods drain. So the load is always carried by what carried it or by what was asked for, requests
are never spread evenly over pods of different size, and both generations hold their GPUs meanwhile.
Where the cluster has no room for both, the new pods pend and the old ones go on serving.
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
from gpupilot_envs.serving.speed import dynamic_ratio, share_held_milli, slowdown

INSTANCE_UPDATE_S = 0.24
MODEL_LOAD_S = 1.5
LIVE_CHANGES = (
    (("instances_per_replica",), INSTANCE_UPDATE_S),
    (("batch_max", "queue_delay_us"), MODEL_LOAD_S),
)
"""Fields changed in a running server, and the seconds after which they are in effect."""

CORE_MILLI = 1000
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
        self._share_milli = share_held_milli(profile, allocation)
        self._settings = {self._share_milli: allocation}
        self._profile = profile
        self._cluster = cluster
        self._engine = engine
        self._agenda = agenda
        self._seed = seed
        self._gpus = Gpus(cluster.gpus)
        self._slow: dict[int, float] = {}
        self._pods: list[Pod] = []
        self._created = 0
        self._cpu_s = 0.0
        self._cpu_held = 0.0
        self._cpu_since_s = 0.0

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

    def cpu_seconds(self, now_s: float) -> float:
        """Return the core-seconds of the CPU limits held so far."""
        return self._cpu_s + self._cpu_held * (now_s - self._cpu_since_s)

    def change(self, allocation: Allocation, now_s: float) -> None:
        """Carry out a new allocation, each part at its own pace."""
        before, self.allocation = self.allocation, allocation
        share_milli = self._share_milli = share_held_milli(self._profile, allocation)
        if all(pod.share_milli != share_milli for pod in self._pods):
            self._settings[share_milli] = allocation
        running = self._settings[share_milli]
        if allocation.cpu_milli != running.cpu_milli:
            self._settings[share_milli] = replace(running, cpu_milli=allocation.cpu_milli)
            self._set_speeds()
        asked = before if share_held_milli(self._profile, before) == share_milli else running
        for names, after_s in LIVE_CHANGES:
            if any(getattr(allocation, name) != getattr(asked, name) for name in names):
                settings = {name: getattr(allocation, name) for name in names}
                step = partial(self._reconfigure, share_milli, settings)
                self._agenda.add(now_s + after_s, step)
        self._meter(now_s)
        self.reconcile(now_s)

    def reconcile(self, now_s: float) -> None:
        """Create and remove pods until their number and share are those asked for."""
        wanted = self.allocation.replicas
        new, old = self._live()
        for pod in sorted(new, key=removal_order)[: max(len(new) - wanted, 0)]:
            self._remove(pod, now_s)
        for pod in old:
            if pod.phase is not Phase.READY:
                self._remove(pod, now_s)
        for _ in range(wanted - len(new)):
            pod = self._create()
            self._agenda.add(now_s + self._cluster.scheduling_s, partial(self._schedule, pod))
        self._take_over(now_s)
        self._publish()

    def _live(self) -> tuple[list[Pod], list[Pod]]:
        """Return the pods that are to stay up: those of the share asked for, and others."""
        live = [pod for pod in self._pods if pod.phase <= Phase.READY]
        new = [pod for pod in live if pod.share_milli == self._share_milli]
        return new, [pod for pod in live if pod.share_milli != self._share_milli]

    def _take_over(self, now_s: float) -> None:
        """Let the started pods serve in place of those of another share once they carry enough."""
        new, old = self._live()
        started = [pod for pod in new if pod.started]
        enough = min(self._carried(old), self.allocation.replicas * self._speed(self._share_milli))
        if self._carried(started) < enough - 1e-9:
            return
        for pod in started:
            if pod.phase is Phase.STARTING:
                self._become_ready(pod, now_s)
        for pod in old:
            self.restarts += 1
            self._remove(pod, now_s)

    def _carried(self, pods: list[Pod]) -> float:
        return sum(self._speed(pod.share_milli) for pod in pods)

    def _speed(self, share_milli: int) -> float:
        """Return the speed of a pod relative to one on a whole GPU without a CPU limit."""
        return 1.0 / slowdown(self._profile, self._settled(share_milli))

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
        pod = Pod(number=self._created, share_milli=self._share_milli)
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
        pod.started = False
        cold = self._profile.cold_start_s
        draw = np.random.default_rng([self._seed, 2, pod.number, pod.restarts])
        sigma = math.sqrt(math.log1p(cold.cv**2))
        took_s = cold.mean * float(draw.lognormal(-0.5 * sigma**2, sigma))
        self._agenda.add(now_s + took_s, partial(self._started, pod, pod.restarts))

    def _started(self, pod: Pod, restarts: int, now_s: float) -> None:
        if pod.phase is Phase.STARTING and pod.restarts == restarts:
            pod.started = True
            self.reconcile(now_s)

    def _become_ready(self, pod: Pod, now_s: float) -> None:
        assert pod.gpu is not None
        mig = self._profile.gpu.sharing.mode == "mig"
        key = np.random.SeedSequence([self._seed, 3, pod.number, pod.restarts])
        seat = Seat(
            opened_s=now_s,
            series=pod.number,
            domain=None if mig else pod.gpu,
            power_ratio=self._power(pod),
            slowdown=self._slowdown(pod),
            noise_key=int(key.generate_state(1, np.uint64)[0] >> np.uint64(1)),
        )
        pod.slot = self._engine.open_slot(seat, self._settings[pod.share_milli])
        pod.phase = Phase.READY
        pod.started = True
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

    def _reconfigure(self, share_milli: int, settings: dict[str, int], now_s: float) -> None:
        running = self._settings[share_milli] = replace(self._settings[share_milli], **settings)
        for pod in self._pods:
            if pod.slot is not None and pod.share_milli == share_milli:
                self._engine.configure(pod.slot, running, now_s=now_s)

    def _slowdown(self, pod: Pod) -> float:
        factor = self._slow.get(-1 if pod.gpu is None else pod.gpu, 1.0)
        return factor / self._speed(pod.share_milli)

    def _power(self, pod: Pod) -> float:
        return dynamic_ratio(self._profile, self._settled(pod.share_milli))

    def _settled(self, share_milli: int) -> Allocation:
        """Return what a pod of this share runs with."""
        return replace(self._settings[share_milli], gpu_share_milli=share_milli)

    def _set_speeds(self) -> None:
        for pod in self._pods:
            if pod.slot is not None:
                self._engine.set_speed(pod.slot, self._slowdown(pod), self._power(pod))

    def _meter(self, now_s: float) -> None:
        bound = [pod.share_milli for pod in self._pods if pod.gpu is not None]
        self._engine.set_held(sum(bound), now_s)
        self._cpu_s = self.cpu_seconds(now_s)
        self._cpu_since_s = now_s
        self._cpu_held = sum(self._settings[share].cpu_milli for share in bound) / CORE_MILLI

    def _publish(self) -> None:
        ready = [p.slot for p in self._pods if p.phase is Phase.READY and p.slot is not None]
        self._engine.set_endpoints(tuple(ready), self.pending)


def _next_status_s(now_s: float) -> float:
    """Return the first multiple of ``STATUS_S`` after ``now_s``."""
    return (math.floor(now_s / STATUS_S + 1e-9) + 1) * STATUS_S
