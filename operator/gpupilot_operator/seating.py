"""The learned policies and their controller at the controls of all services at once.

Every service has a seat in arrays; one pass of the compiled kernels observes all of them, one
evaluation of each bundle's networks answers for all of its services, another pass restrains. The
kernels are those of training and of the simulator (:mod:`gpupilot_envs.deciding`), bit for bit.
What is granted here is a proposal: the guardrail's memory moves only with what is carried out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.bundle import Bundle
from gpupilot_agent.learned import moved
from gpupilot_envs.actions import NEUTRAL
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.decision import SeatedMenus, Seats, Service
from gpupilot_envs.gear_guard import translated
from gpupilot_envs.gears import GEAR_FIELDS, GEARS_MAX
from gpupilot_envs.guardrail import GuardrailMemory, limits_row
from gpupilot_envs.reasons import Reason, reasons_of
from gpupilot_envs.signals import Signals

_CLASSICAL = np.array(NEUTRAL, dtype=np.int64)
_STRANGE = Reason.OUT_OF_DISTRIBUTION.bit
BY_ITSELF = "classical controller, by itself"
_NO_GEARS = np.full((1, GEARS_MAX, len(GEAR_FIELDS)), np.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sitter:
    """A service at the controls.

    Attributes:
        key: What names it in the cluster.
        uid: Tells it from an earlier one of the same name.
        service: Its constants; the same object while nothing of them changes.
        bundle: The learned policy.
        running: What runs.
    """

    key: str
    uid: str
    service: Service
    bundle: Bundle
    running: Allocation

    @property
    def gear(self) -> int | None:
        """The gear that runs; ``None`` where it is on no menu."""
        menu = self.service.menu
        return None if menu is None else menu.index_of(self.running)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What would be done about one service.

    Attributes:
        asked: What the policy, or the controller in its place, asks for.
        granted: What the guardrail would grant.
        reasons: The limits that bit, never empty.
        why: Its clause.
        carried: Replicas of the granted gear that carry what runs now.
        observation: What the network saw, in the order of ``observation.FIELDS``; ``None`` where
            none was asked, as the next two.
        logits: Its answer, minus infinity where a value could not be chosen.
        action: Index it would take on every axis.
    """

    asked: Allocation
    granted: Allocation
    reasons: tuple[Reason, ...]
    why: str
    carried: int
    observation: NDArray[np.float32] | None = None
    logits: NDArray[np.float32] | None = None
    action: NDArray[np.int64] | None = None


@dataclass(slots=True)
class _Table:
    """The seats of services that count as many reversals an hour."""

    seats: Seats
    sitters: tuple[Sitter, ...]
    places: dict[str, int]
    gears: list[int | None]
    running: NDArray[np.int64]
    actions: NDArray[np.int64]
    logits: NDArray[np.float32]
    strange: NDArray[np.bool_]


class Seating:
    """Seats every service, and keeps their histories from tick to tick."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Nobody is seated yet.

        Args:
            clock: Counts the seconds of :attr:`inference_s`.
        """
        self._tables: dict[int, _Table] = {}
        self._clock = clock
        self.inference_s = 0.0

    def observe(
        self, sitters: Sequence[Sitter], readings: Mapping[str, Signals]
    ) -> Mapping[str, bool]:
        """Take in a reading of every service; return who does not know what it sees, by key.

        Services that are not among the sitters lose their seats and histories.
        """
        by_flaps: dict[int, list[Sitter]] = {}
        for sitter in sitters:
            by_flaps.setdefault(sitter.service.limits.flaps_per_hour_max, []).append(sitter)
        self._tables = {
            flaps: _arranged(self._tables.get(flaps), group, flaps)
            for flaps, group in by_flaps.items()
        }
        for table in self._tables.values():
            rows = np.stack([readings[sitter.key].row() for sitter in table.sitters])
            table.seats.observe(np.arange(len(rows)), rows, table.running)
        started_s = self._clock()
        self._answer()
        self.inference_s = self._clock() - started_s
        return {
            sitter.key: bool(strange or doubts > 1)
            for table in self._tables.values()
            for sitter, strange, doubts in zip(
                table.sitters, table.strange, table.seats.doubts, strict=True
            )
        }

    def _answer(self) -> None:
        """Ask every bundle once about all services that have it."""
        asked: dict[int, tuple[Bundle, list[tuple[_Table, NDArray[np.int64]]]]] = {}
        for table in self._tables.values():
            for identity in {id(sitter.bundle) for sitter in table.sitters}:
                mine = [
                    i for i, sitter in enumerate(table.sitters) if id(sitter.bundle) == identity
                ]
                bundle = table.sitters[mine[0]].bundle
                asked.setdefault(identity, (bundle, []))[1].append((table, np.array(mine)))
        for bundle, places in asked.values():
            observations = np.concatenate([t.seats.observations[rows] for t, rows in places])
            masks = np.concatenate([t.seats.masks[rows] for t, rows in places])
            answer = bundle.answer(observations, masks)
            start = 0
            for table, rows in places:
                end = start + len(rows)
                table.actions[rows] = answer.actions[start:end]
                table.logits[rows] = answer.logits[start:end]
                table.strange[rows] = answer.strange[start:end]
                start = end

    def decide(self, classical: Collection[str], now_s: float) -> Mapping[str, Opinion]:
        """Return what is to be done about every service.

        Args:
            classical: Keys of those whose controller decides by itself.
            now_s: Time of the decision.
        """
        return self._opinions(classical, now_s, taken=True)

    def rehearse(self, now_s: float) -> Mapping[str, Opinion]:
        """Return what the learned policies would do; nobody will remember."""
        return self._opinions((), now_s, taken=False)

    def remember(self, key: str, memory: GuardrailMemory) -> None:
        """Tell the guardrail of one service what was really changed when."""
        for table in self._tables.values():
            if key in table.places:
                table.seats.remember(table.places[key], memory)

    def _opinions(
        self, classical: Collection[str], now_s: float, *, taken: bool
    ) -> Mapping[str, Opinion]:
        return {
            sitter.key: opinion
            for table in self._tables.values()
            for sitter, opinion in zip(
                table.sitters, _opinions(table, classical, now_s, taken=taken), strict=True
            )
        }


def _arranged(before: _Table | None, sitters: Sequence[Sitter], flaps: int) -> _Table:
    """Return the table of these services; who was there keeps history and memory."""
    known = {} if before is None else before.places
    stayed: list[Sitter] = []
    came: list[Sitter] = []
    for sitter in sitters:
        place = known.get(sitter.key)
        same = place is not None and before is not None and before.sitters[place].uid == sitter.uid
        (stayed if same else came).append(sitter)
    ordered = (*stayed, *came)
    gears = [sitter.gear for sitter in ordered]
    places = np.array([known[sitter.key] for sitter in stayed], dtype=np.int64)
    if before is not None and not came and len(stayed) == before.seats.n:
        seats = before.seats
        if not np.array_equal(places, np.arange(seats.n)):
            seats = seats.rearranged(places, seats.n)
    else:
        empty = Seats(len(ordered), flaps_per_hour_max=flaps)
        seats = empty if before is None else before.seats.rearranged(places, len(ordered))
    _seat(seats, ordered, gears, np.arange(len(stayed), len(ordered)), fresh=True)
    if before is not None:
        changed = [
            index
            for index, (sitter, place) in enumerate(zip(stayed, places.tolist(), strict=True))
            if before.sitters[place].service is not sitter.service
            or before.gears[place] != gears[index]
        ]
        _seat(seats, ordered, gears, np.array(changed, dtype=np.int64), fresh=False)
    n = len(ordered)
    return _Table(
        seats=seats,
        sitters=ordered,
        places={sitter.key: index for index, sitter in enumerate(ordered)},
        gears=gears,
        running=np.array([sitter.running.replicas for sitter in ordered], dtype=np.int64),
        actions=np.tile(_CLASSICAL, (n, 1)),
        logits=np.zeros(seats.masks.shape, dtype=np.float32),
        strange=np.zeros(n, dtype=np.bool_),
    )


def _seat(
    seats: Seats,
    sitters: Sequence[Sitter],
    gears: Sequence[int | None],
    indices: NDArray[np.int64],
    *,
    fresh: bool,
) -> None:
    """Write the constants of some seats; fresh ones begin with empty histories."""
    if not len(indices):
        return
    services = [sitters[index].service for index in indices.tolist()]
    running = [gears[index] for index in indices.tolist()]
    write = seats.seat_rows if fresh else seats.change_rows
    write(
        indices,
        service=np.stack([service.row() for service in services]),
        knobs=np.stack([service.knobs_row() for service in services]),
        limits=np.stack([limits_row(service.limits) for service in services]),
        menus=SeatedMenus(
            rows=np.concatenate(
                [
                    _NO_GEARS if service.menu is None or gear is None else service.menu.rows()[None]
                    for service, gear in zip(services, running, strict=True)
                ]
            ),
            gears=np.array(
                [
                    1 if service.menu is None or gear is None else len(service.menu)
                    for service, gear in zip(services, running, strict=True)
                ]
            ),
            running=np.array([gear or 0 for gear in running]),
        ),
    )


def _opinions(
    table: _Table, classical: Collection[str], now_s: float, *, taken: bool
) -> list[Opinion]:
    alone = np.array([sitter.key in classical for sitter in table.sitters], dtype=np.bool_)
    actions = np.where(alone[:, None], _CLASSICAL[None, :], table.actions)
    asked, asked_gears = table.seats.asks(actions, table.running)
    proposed = table.seats.propose(
        actions, table.running, np.full(len(alone), now_s), table.strange, taken=taken
    )
    wishes = zip(asked.tolist(), asked_gears.tolist(), strict=True)
    grants = zip(
        proposed.replicas.tolist(), proposed.gears.tolist(), proposed.reasons.tolist(), strict=True
    )
    return [
        _opinion(table, index, wish, grant, by_itself=bool(alone[index]))
        for index, (wish, grant) in enumerate(zip(wishes, grants, strict=True))
    ]


def _opinion(
    table: _Table,
    index: int,
    wish: tuple[int, int],
    grant: tuple[int, int, int],
    *,
    by_itself: bool,
) -> Opinion:
    sitter, running = table.sitters[index], table.gears[index]
    replicas, gear, bits = grant
    opinion = Opinion(
        asked=_allocated(sitter, running, wish[1], wish[0]),
        granted=_allocated(sitter, running, gear, replicas),
        # who decides without the policy is not told that things are strange to it
        reasons=reasons_of(bits & ~_STRANGE if by_itself else bits),
        why=BY_ITSELF,
        carried=_carried(sitter, running, gear),
    )
    if by_itself:
        return opinion
    action, mask = table.actions[index], table.seats.masks[index]
    return replace(
        opinion,
        why=moved(action),
        observation=table.seats.observations[index].copy(),
        logits=np.where(mask, table.logits[index], np.float32(-np.inf)),
        action=action,
    )


def _allocated(sitter: Sitter, running: int | None, gear: int, replicas: int) -> Allocation:
    """Return so many replicas in a gear; the limits that run where it is the gear that runs."""
    menu = sitter.service.menu
    if menu is None or running is None or gear == running:
        return replace(sitter.running, replicas=replicas)
    shape = menu.gears[gear].allocated(replicas)
    return replace(shape, memory_bytes=sitter.running.memory_bytes)


def _carried(sitter: Sitter, running: int | None, gear: int) -> int:
    """Return the replicas of a gear that carry what runs now."""
    menu = sitter.service.menu
    if menu is None or running is None or gear == running:
        return sitter.running.replicas
    before, after = menu.gears[running].row(), menu.gears[gear].row()
    return int(translated(sitter.running.replicas, before, after))
