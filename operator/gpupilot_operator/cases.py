"""One service in one tick: what is seen of it, what follows from its spec, what hands have set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from math import isfinite

from gpupilot_envs.decision import Service as Constants
from gpupilot_envs.signals import Signals
from gpupilot_operator.facts import Cause, Grant, MetricsState, Rung
from gpupilot_operator.ladder import Look, Step
from gpupilot_operator.manual import (
    Hand,
    Pauses,
    hand_of,
    manual_status,
    mode_of,
    pauses_of,
)
from gpupilot_operator.memory import Known, Record, State
from gpupilot_operator.ports import Seen
from gpupilot_operator.proofs import Candidate, Standing, candidate_of, standing_of
from gpupilot_operator.seating import Opinion, Sitter
from gpupilot_operator.sizing import Size, Unsized
from gpupilot_operator.spec_autoscaling import Mode, PolicyKind
from gpupilot_operator.status_fields import ManualStatus, Where

WITHOUT_PROFILE = frozenset({PolicyKind.HPA, PolicyKind.STATIC})
"""Policies that need not know what a replica carries."""
SEATED = frozenset({PolicyKind.LEARNED, PolicyKind.QUEUEING})
"""Policies that decide in :mod:`.seating`."""


@dataclass(slots=True, kw_only=True)
class Case:
    """One service in one tick.

    Attributes:
        seen: As the cluster shows it.
        reading: Its newest reading.
        metrics: Whether that is something to decide on.
        record: What is kept of it.
        known: What follows from its spec.
        standing: Whether its policy may act.
        mode: The mode in force.
        pauses: Directions that are paused.
        hand: A count set by hand, also when its time is over.
        step: Who decides, and why.
        opinion: What who decides would do; ``None`` where nobody in a seat was asked.
        shadow: What a learned policy that may not act would have had.
        grant: The decision; ``None`` in mode Paused.
        why: The decider's clause.
        fresh: Whether this is a decision of this tick, and no earlier one that still stands.
    """

    seen: Seen
    reading: Signals
    metrics: MetricsState
    record: Record
    known: Known
    standing: Standing
    mode: Mode
    pauses: Pauses
    hand: Hand | None
    step: Step = field(default=Step(rung=Rung.HOLD, cause=Cause.UNSIZED))
    opinion: Opinion | None = None
    shadow: Opinion | None = None
    grant: Grant | None = None
    why: str = ""
    fresh: bool = True

    @property
    def key(self) -> str:
        """What names the service."""
        return self.seen.service.key

    @property
    def kind(self) -> PolicyKind:
        """The policy its spec asks for."""
        return self.seen.service.spec.autoscaling.policy

    @property
    def size(self) -> Size | None:
        """What a replica carries, where it is known."""
        return self.known.size if isinstance(self.known.size, Size) else None

    @property
    def acts(self) -> bool:
        """Whether what is granted is carried out."""
        return self.mode is Mode.ACT and self.seen.other_writer is None

    @property
    def carried(self) -> int:
        """Replicas of the granted gear that carry what runs now."""
        if self.grant is None or self.opinion is None:
            return self.seen.running.replicas
        granted, opinion = self.grant.granted, self.opinion.granted
        same = replace(granted, replicas=opinion.replicas) == opinion
        return self.opinion.carried if same else self.seen.running.replicas


def case_of(state: State, seen: Seen, reading: Signals | None, now_s: float) -> Case:
    """Return the case of a service before anybody decides.

    Args:
        state: What is kept.
        seen: As the cluster shows it.
        reading: Its newest reading; ``None`` where nothing answered.
        now_s: Time of the tick.
    """
    record = state.records[seen.service.key]
    record.known = known = _known(state, record.known, seen)
    autoscaling, pauses = seen.service.spec.autoscaling, pauses_of(seen.annotations)
    cleaned = _cleaned(reading, seen, now_s)
    return Case(
        seen=seen,
        reading=cleaned,
        metrics=_metrics(cleaned, float(autoscaling.behavior.stale_after_seconds), now_s),
        record=record,
        known=known,
        standing=_standing(seen, known, now_s),
        mode=mode_of(autoscaling.mode, pauses),
        pauses=pauses,
        hand=_hand(record, seen, now_s),
    )


def sitter_of(case: Case) -> Sitter | None:
    """Return who sits at the controls for a case; ``None`` where it needs no seat."""
    if case.kind not in SEATED or case.known.constants is None:
        return None
    return Sitter(
        key=case.key,
        uid=case.seen.service.uid,
        service=case.known.constants,
        bundle=case.known.candidate.bundle,
        running=case.seen.running,
    )


def look_of(case: Case, doubted: Mapping[str, bool], now_s: float) -> Look:
    """Return what the ladder must know of a case."""
    learned = case.kind is PolicyKind.LEARNED
    spec = case.seen.service.spec
    return Look(
        now_s=now_s,
        reading=case.reading,
        objective=spec.targets.attainment_ratio,
        metrics=case.metrics,
        policy=case.standing.state,
        doubted=learned and doubted.get(case.key, False),
        rehearsing=case.mode is not Mode.ACT,
        fallback=spec.autoscaling.fallback,
    )


def _known(state: State, before: Known | None, seen: Seen) -> Known:
    """Return what follows from a spec, worked out anew only where something of it changed."""
    shape = replace(seen.running, replicas=1)
    if (
        before is not None
        and before.service is seen.service
        and before.artefacts == seen.artefacts
        and before.running == shape
        and isinstance(before.size, Size)
    ):
        return before
    candidate, size = candidate_of(seen, state.shipped), state.sizes.of(seen)
    return Known(
        service=seen.service,
        artefacts=seen.artefacts,
        running=shape,
        candidate=candidate,
        size=size,
        constants=_constants(seen, candidate, size) if isinstance(size, Size) else None,
    )


def _constants(seen: Seen, candidate: Candidate, size: Size) -> Constants:
    spec = seen.service.spec
    return Constants(
        profile=size.profile,
        capacity=size.capacity,
        targets=spec.targets,
        limits=spec.limits,
        controller=candidate.bundle.controller,
        gpu_share_milli=seen.running.gpu_share_milli,
        price=candidate.bundle.price(spec.targets.attainment_ratio),
        menu=size.menu,
    )


def _cleaned(reading: Signals | None, seen: Seen, now_s: float) -> Signals:
    """Return a reading without numbers that cannot be, the pods as the cluster counts them."""
    if reading is None:
        reading = Signals(at_s=now_s, window_s=0.0)
    wrong = {
        name: None
        for name in _NUMBERS
        if (value := getattr(reading, name)) is not None and not 0.0 <= value < float("inf")
    }
    pods = {"replicas_ready": seen.ready, "replicas_pending": seen.pending}
    # a reading from the future would look fresh for as long as it is ahead
    return replace(reading, at_s=min(reading.at_s, now_s), **(wrong | pods))  # type: ignore[arg-type]


_NUMBERS = tuple(part.name for part in fields(Signals) if part.name not in ("at_s", "window_s"))


def _metrics(reading: Signals, stale_after_s: float, now_s: float) -> MetricsState:
    """Return whether a reading can be decided on; no traffic is a rate of 0, not a missing one."""
    if reading.rate_rps is None or not isfinite(reading.at_s):
        return MetricsState.MISSING
    age_s = max(now_s - reading.at_s, 0.0) + (reading.age_s or 0.0)
    return MetricsState.STALE if age_s > stale_after_s else MetricsState.FOUND


def _standing(seen: Seen, known: Known, now_s: float) -> Standing:
    """Return whether the policy may act; without a size only some policies can decide at all."""
    standing = standing_of(seen, known.candidate, now_s)
    kind = seen.service.spec.autoscaling.policy
    if isinstance(known.size, Unsized) and kind not in WITHOUT_PROFILE:
        return replace(standing, state=known.size.state, said=known.size.said)
    return standing


def _hand(record: Record, seen: Seen, now_s: float) -> Hand | None:
    """Return the count set by hand: on the resource, else on the Deployment."""
    told = seen.status.autoscaling
    found = hand_of(
        seen.set_by_hand,
        seen.running.replicas,
        _last_hand(record) or (None if told is None else told.manual),
        float(seen.service.spec.autoscaling.manual_hold_seconds),
        now_s,
    )
    if found is None and record.hand is not None and not record.hand.holds(now_s):
        record.hand = None
    return found or record.hand


def _last_hand(record: Record) -> ManualStatus | None:
    """Return what the last tick told of a count on the resource: the status may lag behind."""
    last = None if record.facts is None else record.facts.hand
    return manual_status(last) if last is not None and last.at is Where.RESOURCE else None
