"""The simulated world: arrivals, pods, scrapes and faults behind the port ``World``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.carbon import HOUR_S, WORLD_MEAN, CarbonIntensity, grams
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.limits import Targets
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.serving import samples as rows
from gpupilot_envs.serving.agenda import Agenda
from gpupilot_envs.serving.chance import ServiceDistribution
from gpupilot_envs.serving.cluster import Cluster
from gpupilot_envs.serving.deployment import Deployment
from gpupilot_envs.serving.engine import Engine, service_record
from gpupilot_envs.serving.faults import Faults
from gpupilot_envs.serving.ledger import Ledger
from gpupilot_envs.serving.queries import evaluate
from gpupilot_envs.serving.scrape import Scrape
from gpupilot_envs.serving.state import (
    ANSWERED,
    FAILED,
    REJECTED,
    REQUESTS,
    TIMED_OUT,
)
from gpupilot_envs.signals import Signals

if TYPE_CHECKING:
    from gpupilot_envs.workload.arrivals import ArrivalStream

FAULT_MODES = {"outage": rows.DOWN, "nan": rows.GARBLED, "silent": rows.SILENT}

CHUNK_REQUESTS = 200_000
"""Arrivals taken from the stream at once, about."""


class SimulatedWorld:
    """A service in an event-level simulation: every request, every batch, every pod.

    Events up to and including a time belong to it, requests that arrive at it to what
    follows; so a run is the same, bit for bit, however it is cut into steps.
    """

    def __init__(
        self,
        profile: ServiceProfile,
        arrivals: ArrivalStream,
        *,
        targets: Targets,
        allocation: Allocation,
        seed: int,
        cluster: Cluster | None = None,
        scrape: Scrape | None = None,
        carbon: CarbonIntensity | None = None,
        faults: Faults | None = None,
        warm: bool = True,
        service_distribution: ServiceDistribution = "lognormal",
        free_shapes: bool = False,
    ) -> None:
        """Set the service up at time 0.

        Args:
            profile: What the service costs to run.
            arrivals: Requests, from time 0.
            targets: The objective; its latency is a bound of the gateway's histogram.
            allocation: What the service runs with at first.
            seed: Of balancing, execution noise, cold starts and crashes.
            cluster: Where the pods run; 64 GPUs by default.
            scrape: How metrics are collected; every second by default.
            carbon: Grid intensity; the world's mean by default.
            faults: What goes wrong; nothing by default.
            warm: Whether the first replicas are ready at time 0.
            service_distribution: Of one execution's time round its mean.
            free_shapes: Whether the model takes inputs of any size (a dimension of -1): Triton's
                batcher then looks at every request as it arrives, to compare its shape.

        Raises:
            InputInvalid: An allocation or target cannot be.
        """
        _check_targets(targets)
        _check(allocation)
        cluster = cluster or Cluster()
        self._arrivals = arrivals
        self._scrape = scrape or Scrape()
        self._carbon = carbon or WORLD_MEAN
        self._now_s = 0.0
        self._taken_s = 0.0
        self._chunk_s = 1.0
        self._chunk = np.empty(0, dtype=np.float64)
        self._begin = 0
        self._replica_changes = 0
        self._agenda = Agenda()
        key = int(np.random.SeedSequence([seed, 0]).generate_state(1, np.uint32)[0])
        self._bounds_s = self._scrape.bounds_s(targets.latency_s)
        self._target = int(np.searchsorted(self._bounds_s, targets.latency_s))
        service = service_record(
            profile,
            bounds_s=self._bounds_s,
            balancing=cluster.balancing,
            balance_key=key,
            distribution=service_distribution,
            always_woken=free_shapes,
        )
        self._engine = Engine(profile, service=service, cluster=cluster, scrape=self._scrape)
        self._deployment = Deployment(
            profile,
            allocation,
            cluster=cluster,
            engine=self._engine,
            agenda=self._agenda,
            seed=seed,
        )
        self._co2_g = 0.0
        self._emitted_j = 0.0
        self._plan(faults or Faults())
        if warm:
            self._deployment.start_warm(0.0)
        else:
            self._deployment.reconcile(0.0)
        self._agenda.run_due(0.0)

    @property
    def now_s(self) -> float:
        """Current time in seconds."""
        return self._now_s

    @property
    def allocation(self) -> Allocation:
        """What the service was last told to run with."""
        return self._deployment.allocation

    @property
    def replicas_ready(self) -> int:
        """Pods that answer requests now."""
        return self._deployment.ready

    @property
    def replicas_pending(self) -> int:
        """Pods asked for that do not answer yet."""
        return self._deployment.pending

    def advance(self, until_s: float) -> None:
        """Let time pass until ``until_s``.

        Raises:
            InputInvalid: ``until_s`` lies before ``now_s``.
        """
        if not until_s >= self._now_s:
            raise InputInvalid("until_s", until_s, f"a time not before now ({self._now_s} s)")
        while self._now_s < until_s:
            if self._now_s >= self._taken_s:
                self._take(until_s)
            stop_s = min(until_s, self._taken_s, self._agenda.next_s)
            self._begin = self._engine.run(self._chunk, self._begin, stop_s)
            self._now_s = stop_s
            self._agenda.run_due(stop_s)

    def read(self, window_s: float) -> Signals:
        """Return what Prometheus answers now for a window of ``window_s`` seconds.

        Raises:
            InputInvalid: The window is not positive or longer than scrapes are kept.
        """
        kept_s = self._scrape.interval_s * (rows.RETAINED - 1) - self._scrape.delay_s
        if not 0.0 < window_s <= kept_s:
            raise InputInvalid("window_s", window_s, f"seconds above 0, at most {kept_s:g}")
        row = evaluate(
            self._engine.samples,
            self._now_s,
            float(window_s),
            self._scrape.delay_s,
            self._bounds_s,
            self._target,
        )
        return Signals.from_row(row)

    def apply(self, allocation: Allocation) -> None:
        """Tell the service to run with ``allocation`` from now on.

        Raises:
            InputInvalid: A field is out of its range.
        """
        _check(allocation)
        if allocation == self._deployment.allocation:
            return
        self._replica_changes += allocation.replicas != self._deployment.allocation.replicas
        self._deployment.change(allocation, self._now_s)

    def ledger(self) -> Ledger:
        """Return what has truly happened since time 0."""
        tally = self._engine.tally[0]
        totals = tally["totals"]
        pods = self._engine.pods
        energy_j = self._engine.energy_j(self._now_s)
        return Ledger(
            at_s=self._now_s,
            requests=int(totals[REQUESTS]),
            answered=int(totals[ANSWERED]),
            in_time=int(tally["gateway"][: self._target + 1].sum()),
            rejected=int(totals[REJECTED]),
            timed_out=int(totals[TIMED_OUT]),
            failed=int(totals[FAILED]),
            gpu_seconds=self._engine.gpu_seconds(self._now_s),
            cpu_seconds=self._deployment.cpu_seconds(self._now_s),
            energy_j=energy_j,
            co2_g=self._co2_g + self._grams_since(energy_j),
            queue_s_sum=float(pods["queue_s"].sum()),
            compute_s_sum=float(pods["compute_s"].sum()),
            latency_s_sum=float(pods["latency_s"].sum()),
            executions=int(pods["executions"].sum()),
            executed_requests=int(pods["executed_requests"].sum()),
            busy_s=float(pods["busy_s"].sum()),
            latency_counts=tally["latency"].copy(),
            replica_changes=self._replica_changes,
            pod_starts=self._deployment.starts,
            pod_restarts=self._deployment.restarts,
        )

    def _take(self, until_s: float) -> None:
        """Fetch the next arrivals, about as many as a chunk should have."""
        self._taken_s = min(until_s, self._taken_s + self._chunk_s)
        self._chunk = self._arrivals.take(self._taken_s)
        self._begin = 0
        wanted = CHUNK_REQUESTS / max(len(self._chunk), 1)
        self._chunk_s = min(max(self._chunk_s * min(max(wanted, 0.5), 4.0), 1e-3), 3600.0)

    def _plan(self, faults: Faults) -> None:
        """Enter the faults and the hourly emissions."""
        for at_s in faults.pod_crashes_s:
            self._agenda.add(at_s, self._deployment.crash)
        for node in faults.slow_nodes:
            self._agenda.add(node.from_s, partial(self._set_gpu_factor, node.gpu, node.factor))
            self._agenda.add(node.until_s, partial(self._set_gpu_factor, node.gpu, 1.0))
        for fault in faults.metrics:
            mode = FAULT_MODES[fault.kind]
            self._agenda.add(fault.from_s, partial(self._set_scrape_mode, mode))
            self._agenda.add(fault.until_s, partial(self._set_scrape_mode, rows.SCRAPED))
        if not self._carbon.constant:
            self._agenda.add(HOUR_S, self._emit)

    def _set_gpu_factor(self, gpu: int, factor: float, _: float) -> None:
        self._deployment.set_gpu_factor(gpu, factor)

    def _set_scrape_mode(self, mode: int, _: float) -> None:
        self._engine.set_scrape_mode(mode)

    def _grams_since(self, energy_j: float) -> float:
        """Return the emissions of the energy drawn in the hour that has not ended."""
        hour_s = max(self._now_s - 1e-9, 0.0)
        return grams(energy_j - self._emitted_j, self._carbon.at(hour_s))

    def _emit(self, now_s: float) -> None:
        """Book the emissions of the hour that ends now."""
        energy_j = self._engine.energy_j(now_s)
        self._co2_g += grams(energy_j - self._emitted_j, self._carbon.at(now_s - 0.5 * HOUR_S))
        self._emitted_j = energy_j
        self._agenda.add(now_s + HOUR_S, self._emit)


def _check_targets(targets: Targets) -> None:
    if not 0.0 < targets.latency_s < float("inf"):
        raise InputInvalid("targets.latency_s", targets.latency_s, "seconds, more than 0")


def _check(allocation: Allocation) -> None:
    """Refuse an allocation that no cluster could run."""
    bounds = {
        "replicas": (0, 1_000_000),
        "gpu_share_milli": (1, 1000),
        "cpu_milli": (1, 1_000_000_000),
        "memory_bytes": (1, 1 << 62),
        "instances_per_replica": (1, 16),
        "batch_max": (1, 1024),
        "queue_delay_us": (0, 60_000_000),
    }
    for name, (least, most) in bounds.items():
        value = getattr(allocation, name)
        if not least <= value <= most:
            raise InputInvalid(f"allocation.{name}", value, f"a whole number {least} to {most}")
