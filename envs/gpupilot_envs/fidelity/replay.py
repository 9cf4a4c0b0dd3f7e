"""Sends a run's own requests through the event level, at the times they were really sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.fidelity.outcome import BIN_S, QUANTILES, Outcome, growth_ratio, within
from gpupilot_envs.limits import Targets
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.runs import Requests, RunCard
from gpupilot_envs.serving.cluster import WHOLE_MILLI, Cluster
from gpupilot_envs.serving.ledger import Ledger
from gpupilot_envs.serving.measure import NO_SCRAPES
from gpupilot_envs.serving.speed import contention
from gpupilot_envs.serving.world import SimulatedWorld
from gpupilot_envs.workload.arrivals import ExactArrivals


def as_run(profile: ServiceProfile, card: RunCard) -> ServiceProfile:
    """Return the calibrated profile with the settings of a run."""
    changes = {"batching": card.batching, "instances_per_replica": card.instances}
    return profile.model_copy(update=changes)


def saturation_rps(profile: ServiceProfile, card: RunCard) -> float:
    """Return the requests/s that a run's replicas answer when work always waits."""
    service = as_run(profile, card)
    times_s = service.batch_latency_s()[1:]
    best_rps = float((np.arange(1, len(times_s) + 1) / times_s).max())
    if not card.batching.enabled:
        best_rps = float(1.0 / times_s[0])
    each = card.instances / float(contention(service)[card.instances])
    return card.replicas * each * best_rps


def predicted(profile: ServiceProfile, card: RunCard, requests: Requests, seed: int) -> Outcome:
    """Return what the event level says that a run comes to.

    Args:
        profile: The calibrated service; batching and instances are the run's.
        card: What ran.
        requests: Its requests, of which only the times they were sent are used.
        seed: Of balancing and execution noise.
    """
    world = _world(as_run(profile, card), card, requests, seed)
    edges_s = {edge for span in requests.calm_spans_s() for edge in span}
    ticks_s = np.arange(requests.counted_from_s, requests.counted_until_s, BIN_S)
    at_s = np.array(sorted(edges_s.union(map(float, ticks_s))))
    counted, means_s = [], []
    world.advance(float(at_s[0]))
    last = world.ledger()
    for until_s in at_s[1:]:
        world.advance(float(until_s))
        now = world.ledger()
        counted.append(now - last)
        means_s.append(counted[-1].latency_mean_s)
        last = now
    middle_s = 0.5 * (at_s[1:] + at_s[:-1])
    calm = within(middle_s, requests.calm_spans_s())
    series = np.array([np.nan if mean is None else mean for mean in means_s])
    kept = [piece for piece, counts in zip(counted, calm, strict=True) if counts]
    return _outcome(_total(kept), growth_ratio(middle_s, series))


def _world(service: ServiceProfile, card: RunCard, requests: Requests, seed: int) -> SimulatedWorld:
    allocation = Allocation(
        replicas=card.replicas,
        gpu_share_milli=WHOLE_MILLI,
        instances_per_replica=card.instances,
        batch_max=card.batching.max_batch,
        queue_delay_us=round(1000.0 * card.batching.queue_delay_ms),
    )
    return SimulatedWorld(
        service,
        ExactArrivals(requests.sent_s),
        targets=Targets(latency_s=card.target_ms / 1000.0),
        allocation=allocation,
        seed=seed,
        cluster=Cluster(gpus=card.replicas, balancing=card.balancing),
        scrape=NO_SCRAPES,
        # the emulated model takes pictures of any size, the real one 224 x 224
        free_shapes=card.flavour == "emulated",
    )


def _total(pieces: Sequence[Ledger]) -> Ledger:
    """Return what happened in several intervals together."""
    names = [field.name for field in fields(Ledger)]
    return Ledger(**{name: sum(getattr(piece, name) for piece in pieces) for name in names})


def _outcome(counted: Ledger, growth: float | None) -> Outcome:
    quantiles = {name: counted.latency_quantile_s(share) for name, share in QUANTILES.items()}
    return Outcome(
        throughput_rps=counted.answered / counted.at_s if counted.at_s else None,
        latency_mean_s=counted.latency_mean_s,
        attainment_ratio=counted.attainment_ratio,
        batch_mean=counted.executed_requests / counted.executions if counted.executions else None,
        growth_ratio=growth,
        **quantiles,
    )
