"""Records a world while a policy drives it: readings on a fixed grid, and every decision."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from gpupilot_agent.bundle import Bundle
from gpupilot_agent.comparison.building import build
from gpupilot_agent.comparison.contenders import contenders
from gpupilot_agent.comparison.scene import Scene, world
from gpupilot_agent.comparison.traffic import Piece, prepared
from gpupilot_agent.decision_log import DecisionLog, Entry
from gpupilot_agent.explanation.setting import described
from gpupilot_agent.rollout import Decision, ScoredWorld, rollout
from gpupilot_agent.wrapped import WrappedWorld
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.signals import Signals
from gpupilot_envs.workload.recording import Recording
from gpupilot_envs.workload.trace import RateTrace


class Recorder(WrappedWorld):
    """A world that behaves as the one inside it and keeps what a metrics source would have seen.

    The policy's own readings are kept beside the grid, because its window and period are its own.
    """

    def __init__(
        self,
        world: ScoredWorld,
        *,
        every_s: float,
        on_progress: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Record ``world`` from now on.

        Args:
            world: The world to drive.
            every_s: Seconds between two rows, and the window of each.
            on_progress: Told the world's time after every row.
        """
        super().__init__(world)
        self._every_s = every_s
        self._on_progress = on_progress
        # counted, not derived from the time: no row is lost to rounding
        self._next_row = math.floor(world.now_s / every_s) + 1
        self._rows: list[tuple[Signals, Allocation]] = []
        self._seen: dict[float, tuple[Signals, Allocation]] = {}

    def advance(self, until_s: float) -> None:
        """Let time pass, stopping for a row at every multiple of the grid."""
        while self._next_row * self._every_s <= until_s:
            self._world.advance(self._next_row * self._every_s)
            self._rows.append((self._world.read(self._every_s), self._world.allocation))
            self._on_progress(self._world.now_s)
            self._next_row += 1
        self._world.advance(until_s)

    def read(self, window_s: float) -> Signals:
        """Return the reading the policy asks for, and remember it."""
        reading = self._world.read(window_s)
        self._seen[self.now_s] = (reading, self.allocation)
        return reading

    def recording(self, service: str) -> Recording:
        """Return the rows so far."""
        readings, allocations = zip(*self._rows, strict=True) if self._rows else ((), ())
        return Recording(service=service, readings=readings, allocations=allocations)

    def log(
        self,
        service: str,
        policy: str,
        decisions: tuple[Decision, ...],
        *,
        bundle_sha256: str | None = None,
        setting: Mapping[str, Any] | None = None,
    ) -> DecisionLog:
        """Return the decisions beside what each was taken on; see :class:`DecisionLog`."""
        entries = tuple(
            Entry(seen=seen, running=running, decision=decision)
            for decision in decisions
            for seen, running in [self._seen[decision.at_s]]
        )
        return DecisionLog(
            service=service,
            policy=policy,
            entries=entries,
            bundle_sha256=bundle_sha256,
            setting=setting or {},
        )


def record(
    scene: Scene,
    trace: RateTrace,
    policy: str,
    *,
    seed: int,
    every_s: float,
    replicas: int | None = None,
    bundle: Bundle | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> tuple[Recording, DecisionLog]:
    """Return what a policy's run over the whole trace leaves behind; gaps are bridged.

    Args:
        scene: Service, objective and surroundings.
        trace: The traffic, as it was read.
        policy: Name of the policy, as a comparison knows it.
        seed: Of arrivals and world.
        every_s: Seconds between two rows.
        replicas: Of ``static``: how many, instead of its default.
        bundle: The learned policy, for ``ppo``.
        on_progress: Told the seconds of the trace that have been recorded.

    Raises:
        InputInvalid: The policy is unknown or lacks what it needs, or the trace has no traffic.
        SloInfeasible: No batch size meets the latency target.
    """
    piece = whole(scene, trace)
    capacity = scene.capacity()
    chosen = contenders(
        policy,
        asked=scene.targets.attainment_ratio,
        mean_replicas=piece.trace.mean_rps / capacity.slo_rps,
        tuned=None,
        bundles=() if bundle is None else (bundle,),
    )[0]
    if replicas is not None:
        chosen = replace(chosen, params=(("replicas", float(replicas)),))
    decider = build(chosen, scene, piece, (piece,), seed)
    recorder = Recorder(world(scene, piece, seed), every_s=every_s, on_progress=on_progress)
    run = rollout(
        decider,
        recorder,
        limits=scene.limits,
        targets=scene.targets,
        profile=scene.profile,
        capacity=capacity,
        duration_s=piece.scored_s,
        menu=scene.menu(),
    )
    service = scene.profile.name
    log = recorder.log(
        service,
        decider.name,
        run.decisions,
        bundle_sha256=chosen.bundle_sha256,
        setting=described(scene, chosen),
    )
    return recorder.recording(service), log


def whole(scene: Scene, trace: RateTrace) -> Piece:
    """Return all of a trace, scaled to the service, as one stretch without a warm-up."""
    capacity_rps = scene.capacity().slo_rps
    ready = prepared(trace, replicas=scene.scale_to_replicas, capacity_rps=capacity_rps).bridged()
    return Piece(
        trace=ready,
        origin=trace.name,
        origin_sha256=trace.sha256,
        start_s=0.0,
        end_s=ready.duration_s,
        warm_up_s=0.0,
    )
