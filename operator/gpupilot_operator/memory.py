"""What the control loop keeps from tick to tick, and loses without harm when it is restarted.

Whatever must survive stands in the cluster: what runs, what was set by hand and since when. What
stands here is history; without it nothing is scaled down until there is enough again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.decision import Service as Constants
from gpupilot_envs.guardrail import GuardrailMemory, noted
from gpupilot_envs.reasons import Reason
from gpupilot_operator.classical import Chair
from gpupilot_operator.facts import Facts
from gpupilot_operator.ladder import Footing
from gpupilot_operator.manual import Hand, set_now
from gpupilot_operator.ports import Artefacts, Seen
from gpupilot_operator.proofs import Candidate, shipped
from gpupilot_operator.seating import Seating
from gpupilot_operator.service import Service
from gpupilot_operator.settling import Steady
from gpupilot_operator.sizing import Size, Sizes, Unsized
from gpupilot_operator.spec_autoscaling import Mode
from gpupilot_operator.status_fields import InferenceServiceStatus, Where

HOLE_S = 60.0
"""Longest time between two ticks over which a history still counts as one."""
ATTEMPT_S = 120.0
"""How long a change of ours may take to be seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What follows from a service's spec, files and limits; the same object while they stay.

    Attributes:
        service: The resource it was worked out for.
        artefacts: Its files.
        running: The limits it ran with, of one pod.
        candidate: Its learned policy.
        size: What a pod carries, or why nobody knows.
        constants: What the decision path must know; ``None`` where it is not known.
    """

    service: Service
    artefacts: Artefacts
    running: Allocation
    candidate: Candidate
    size: Size | Unsized
    constants: Constants | None


@dataclass(slots=True)
class Record:
    """What is kept of one service.

    Attributes:
        uid: Tells it from an earlier one of the same name.
        guard: What the guardrail remembers of changes really made.
        footing: Where it stands on the ladder.
        chair: Its HPA, KEDA, KPA or constant.
        known: What follows from its spec.
        running: What ran at the last tick.
        attempts: What was lately tried to be carried out, and when.
        hand: A count set by hand on the Deployment.
        facts: What the last tick told.
        status: The status it was told to.
        told: Whether that said something new.
        held_since_s: Since when the status does not tell what was decided, because it may pass.
        steady: What is told of the readings.
        failure: What went wrong when it was last changed.
        limits_said_s: When each limit that held back what was asked last had an event.
    """

    uid: str
    guard: GuardrailMemory = field(default_factory=GuardrailMemory)
    footing: Footing = field(default_factory=Footing)
    chair: Chair | None = None
    known: Known | None = None
    running: Allocation | None = None
    attempts: list[tuple[float, Allocation]] = field(default_factory=list)
    hand: Hand | None = None
    facts: Facts | None = None
    status: InferenceServiceStatus | None = None
    told: bool = False
    held_since_s: float | None = None
    steady: Steady | None = None
    failure: str | None = None
    limits_said_s: dict[Reason, float] = field(default_factory=dict)


class State:
    """All of it.

    Attributes:
        sizes: What pods carry.
        seating: The learned policies and their controller.
        shipped: The policy that ships with the package.
        records: Each service's, by key.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """Begin without any history.

        Args:
            clock: Counts the seconds of durations.

        Raises:
            BundleRefused: The package is damaged.
        """
        self._clock = clock
        self._last_s: float | None = None
        self.shipped = shipped()
        self.sizes = Sizes()
        self.seating = Seating(clock)
        self.records: dict[str, Record] = {}

    def forget(self) -> None:
        """Begin again without any history, as after a restart: for who comes to lead anew."""
        self._last_s = None
        self.seating = Seating(self._clock)
        self.records = {}

    def open(self, services: Sequence[Seen], now_s: float) -> None:
        """Begin a tick: drop who is gone, take in who came, note what others changed.

        A hole in time, or a clock that was put back, makes histories worthless: all is forgotten.
        """
        last_s, self._last_s = self._last_s, now_s
        if last_s is not None and not 0.0 < now_s - last_s <= HOLE_S:
            self.forget()
            self._last_s = now_s
        self.records = {seen.service.key: self._record(seen.service) for seen in services}
        for seen in services:
            record = self.records[seen.service.key]
            _note_others(record, seen, now_s)
            record.running = seen.running

    def changed(self, seen: Seen, granted: Allocation, carried: int, now_s: float) -> None:
        """Note that a change was carried out.

        Args:
            seen: The service before it.
            granted: What it runs with from now on.
            carried: Replicas of the new gear that carry what ran before.
            now_s: Time of the decision.
        """
        key = seen.service.key
        record = self.records[key]
        record.guard = noted(
            record.guard,
            seen.service.spec.limits,
            before=seen.running,
            after=granted,
            now_s=now_s,
            carried=carried,
        )
        self.seating.remember(key, record.guard)

    def _record(self, service: Service) -> Record:
        found = self.records.get(service.key)
        return found if found is not None and found.uid == service.uid else Record(uid=service.uid)


def _note_others(record: Record, seen: Seen, now_s: float) -> None:
    """Note a change that was not ours; of replicas alone it counts as set by hand."""
    before, running = record.running, seen.running
    record.attempts = [each for each in record.attempts if now_s - each[0] <= ATTEMPT_S]
    if before is None or running in (before, *(tried for _, tried in record.attempts)):
        return
    # what we tried before somebody else's change does not explain what comes after it
    record.attempts.clear()
    limits = seen.service.spec.limits
    record.guard = noted(record.guard, limits, before=before, after=running, now_s=now_s)
    autoscaling = seen.service.spec.autoscaling
    alone = replace(running, replicas=before.replicas) == before
    # pods that were too few before were brought to the minimum by us, in keeping the objects
    least, most = limits.replicas_min, limits.replicas_max
    inside = least <= before.replicas and least <= running.replicas <= most
    if alone and inside and seen.other_writer is None and autoscaling.mode is Mode.ACT:
        hold_s = float(autoscaling.manual_hold_seconds)
        record.hand = set_now(running.replicas, Where.DEPLOYMENT, hold_s, now_s)
