"""Everything of a comparison that is not the policy, and one policy played in it.

Common random numbers: arrivals and the world's own noise depend on the stretch of traffic and
on the seed, never on the policy, so that two policies differ only by what they decide.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from gpupilot_agent.comparison.traffic import Piece, pieces, prepared
from gpupilot_agent.policies import Policy
from gpupilot_agent.rollout import Run, rollout
from gpupilot_agent.tracking import digest
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.serving.capacity import Capacity, capacity
from gpupilot_envs.serving.cluster import Cluster
from gpupilot_envs.serving.ledger import Ledger
from gpupilot_envs.serving.scrape import Scrape
from gpupilot_envs.serving.world import SimulatedWorld
from gpupilot_envs.workload.arrivals import RateArrivals
from gpupilot_envs.workload.trace import RateTrace


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The service, its surroundings and its objective, the same for every policy.

    Attributes:
        profile: What the service costs to run.
        targets: Its objective.
        limits: The envelope of every policy.
        cluster: GPUs and balancing.
        scrape: How metrics reach the policies.
        cv: Coefficient of variation of arrivals inside a bin of the trace; 1 is Poisson.
        scale_to_replicas: Mean demand of every trace in replicas; ``None`` keeps its rates.
        hours: Hours of each trace that are scored; ``None`` scores everything.
        warm_up_s: Seconds before every scored window.
        block_s: Length of the windows that intervals resample; ``None`` takes each scored stretch
            whole.
    """

    profile: ServiceProfile
    targets: Targets
    limits: Limits = field(default_factory=lambda: Limits(replicas_max=64))
    cluster: Cluster = field(default_factory=Cluster)
    scrape: Scrape = field(default_factory=Scrape)
    cv: float = 1.0
    scale_to_replicas: float | None = None
    hours: float | None = 4.0
    warm_up_s: float = 600.0
    block_s: float | None = None

    @property
    def allocation(self) -> Allocation:
        """One replica as the profile sets it up."""
        batching = self.profile.batching
        return Allocation(
            replicas=1,
            instances_per_replica=self.profile.instances_per_replica,
            batch_max=batching.max_batch if batching.enabled else 1,
            queue_delay_us=round(batching.queue_delay_ms * 1000.0),
        )

    def capacity(self) -> Capacity:
        """Return what one replica carries within the objective.

        Raises:
            SloInfeasible: No batch size meets the latency target.
        """
        return capacity(self.profile, self.targets)

    def pieces(self, trace: RateTrace) -> tuple[Piece, ...]:
        """Return what is replayed of a trace, see :mod:`.traffic`.

        Raises:
            TraceInvalid: The trace has no traffic or no data.
        """
        ready = prepared(
            trace, replicas=self.scale_to_replicas, capacity_rps=self.capacity().slo_rps
        )
        return pieces(ready, origin_sha256=trace.sha256, hours=self.hours, warm_up_s=self.warm_up_s)

    def identity(self) -> dict[str, Any]:
        """Return the scene as JSON-like values, for the record and for hashes."""
        plain = {
            part.name: getattr(self, part.name) for part in fields(self) if part.name != "profile"
        }
        for name in ("targets", "limits", "cluster", "scrape"):
            plain[name] = asdict(plain[name])
        return {"profile": self.profile.model_dump(mode="json"), **plain}


def arrivals(scene: Scene, piece: Piece, seed: int) -> RateArrivals:
    """Return the arrivals of a piece: the same for every policy, other ones for another seed."""
    return RateArrivals(piece.trace, cv=scene.cv, seed=random_seed("arrivals", piece, seed))


def world(scene: Scene, piece: Piece, seed: int) -> SimulatedWorld:
    """Return the event-level world at the start of a piece, warm, sized for its first minutes."""
    return SimulatedWorld(
        scene.profile,
        arrivals(scene, piece, seed),
        targets=scene.targets,
        allocation=replace(scene.allocation, replicas=first_replicas(scene, piece)),
        seed=random_seed("world", piece, seed),
        cluster=scene.cluster,
        scrape=scene.scrape,
    )


def play(scene: Scene, piece: Piece, policy: Policy, seed: int, *, asked: float) -> Run:
    """Return what ``policy`` does on a piece when it is asked for an attainment of ``asked``."""
    return rollout(
        policy,
        world(scene, piece, seed),
        limits=scene.limits,
        targets=replace(scene.targets, attainment_ratio=asked),
        profile=scene.profile,
        capacity=scene.capacity(),
        duration_s=piece.warm_up_s + piece.scored_s,
        warm_up_s=piece.warm_up_s,
    )


def random_seed(purpose: str, piece: Piece, seed: int) -> int:
    """Return a seed that depends on the traffic, the window and ``seed`` only."""
    key = [purpose, piece.origin_sha256, piece.window(), seed]
    return int(digest(key)[:15], 16)


def total(ledgers: list[Ledger]) -> Ledger:
    """Return the sum of ledgers of separate pieces."""
    sums = {
        part.name: sum(getattr(ledger, part.name) for ledger in ledgers) for part in fields(Ledger)
    }
    return Ledger(**sums)


def first_replicas(scene: Scene, piece: Piece) -> int:
    """Return how many replicas run when a piece begins: enough for its first five minutes."""
    first_bins = max(1, math.ceil(300.0 / piece.trace.bin_s))
    rate_rps = float(piece.trace.rps[:first_bins].max())
    needed = math.ceil(rate_rps / scene.capacity().slo_rps)
    return min(max(needed, 1, scene.limits.replicas_min), scene.limits.replicas_max)
