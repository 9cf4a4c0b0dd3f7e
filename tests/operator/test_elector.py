"""The election in made-up time: one leader at most, whatever fails; another soon, when one goes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from gpupilot_envs.errors import ClusterUnavailable
from gpupilot_operator.elector import LEASE_S, RENEW_WITHIN_S, RETRY_S, Elector, Record

STEP_S = 0.5


@dataclass
class Shared:
    """A Lease as the API server keeps it: a write to a state that is past is refused."""

    record: Record | None = None
    version: int = 0


@dataclass
class Door:
    """One replica's way to the Lease, which may be shut."""

    shared: Shared
    is_shut: bool = False

    def read(self) -> Record | None:
        self.pass_()
        return self.shared.record

    def write(self, record: Record) -> Record:
        self.pass_()
        kept = self.shared.record
        if (None if kept is None else kept.version) != record.version:
            raise ClusterUnavailable("409: changed meanwhile")
        self.shared.version += 1
        self.shared.record = replace(record, version=str(self.shared.version))
        return self.shared.record

    def pass_(self) -> None:
        if self.is_shut:
            raise ClusterUnavailable("no way")


@dataclass
class Replica:
    """One replica: it tries when its time comes, unless it is stopped."""

    elector: Elector
    door: Door
    due_s: float = 0.0
    is_stopped: bool = False


@dataclass
class World:
    """Replicas in one time."""

    now_s: float = 0.0
    shared: Shared = field(default_factory=Shared)
    replicas: list[Replica] = field(default_factory=list)

    def add(self, name: str, draw: Callable[[], float] = lambda: 0.5) -> Replica:
        door = Door(self.shared)
        elector = Elector(
            door, name, clock=lambda: self.now_s, written=lambda: f"{self.now_s:.3f}", draw=draw
        )
        self.replicas.append(Replica(elector, door))
        return self.replicas[-1]

    def leaders(self) -> list[int]:
        return [i for i, each in enumerate(self.replicas) if each.elector.leads()]

    def step(self, seconds: float = STEP_S) -> None:
        self.now_s += seconds
        for each in self.replicas:
            if not each.is_stopped and self.now_s >= each.due_s:
                each.elector.attempt()
                each.due_s = self.now_s + RETRY_S

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.step()


def two() -> World:
    world = World()
    world.add("a")
    world.add("b")
    world.run(5.0)
    assert world.leaders() == [0]
    return world


def test_the_first_leads_and_goes_on_leading() -> None:
    world = two()
    world.run(120.0)
    assert world.leaders() == [0]
    kept = world.shared.record
    assert kept is not None
    assert (kept.holder, kept.lease_s, kept.transitions) == ("a", LEASE_S, 0)
    assert float(kept.renewed) > float(kept.acquired)


def test_a_leader_that_gives_up_the_lease_is_followed_at_once() -> None:
    world = two()
    world.replicas[0].elector.release()
    world.replicas[0].is_stopped = True
    assert world.leaders() == []
    world.run(RETRY_S + STEP_S)
    assert world.leaders() == [1]
    assert world.shared.record is not None
    assert world.shared.record.transitions == 1


def test_a_leader_that_dies_is_followed_within_15_s() -> None:
    world = two()
    world.replicas[0].is_stopped = True
    died_s = world.now_s
    while 1 not in world.leaders():
        world.step()
        assert world.now_s - died_s < 15.0


def test_a_leader_that_is_cut_off_stops_before_another_begins() -> None:
    world = two()
    world.replicas[0].door.is_shut = True
    ended_s = began_s = None
    begun_s = world.now_s
    while began_s is None:
        world.step()
        if ended_s is None and 0 not in world.leaders():
            ended_s = world.now_s - begun_s
        if 1 in world.leaders():
            began_s = world.now_s - begun_s
    assert ended_s is not None
    assert ended_s <= RENEW_WITHIN_S + STEP_S
    assert began_s - ended_s > 1.0
    world.replicas[0].door.is_shut = False
    world.run(30.0)
    assert world.leaders() == [1]


def test_a_process_that_was_stopped_knows_by_its_clock_that_its_time_is_over() -> None:
    world = two()
    world.replicas[0].is_stopped = True
    world.run(20.0)
    # it goes on exactly where it was: what it asks first is whether it still leads
    assert not world.replicas[0].elector.leads()
    assert world.leaders() == [1]
    world.replicas[0].is_stopped = False
    world.run(30.0)
    assert world.leaders() == [1]


def test_a_clock_that_is_wrong_in_the_record_changes_nothing() -> None:
    world = World(
        shared=Shared(
            Record(
                holder="gone",
                lease_s=LEASE_S,
                acquired="1970",
                renewed="2999",
                transitions=4,
                version="0",
            )
        )
    )
    world.add("a")
    world.run(LEASE_S - 1.0)
    assert world.leaders() == []
    world.run(3.0)
    assert world.leaders() == [0]
    assert world.shared.record is not None
    assert world.shared.record.transitions == 5


def test_the_same_pod_started_anew_leads_at_once() -> None:
    world = two()
    world.replicas[0].is_stopped = True
    again = world.add("a")
    world.step()
    assert again.elector.leads()


def test_the_lease_is_given_up_at_the_end() -> None:
    world = World()
    replica, stop = world.add("a"), threading.Event()
    stop.set()
    replica.elector.run(stop)
    assert world.shared.record is None
    replica.elector.attempt()
    replica.elector.run(stop)
    assert world.shared.record is not None
    assert world.shared.record.holder == ""


events = st.lists(
    st.tuples(
        st.sampled_from(["shut", "open", "stop", "go", "release"]),
        st.integers(0, 2),
        st.floats(0.0, 25.0),
    ),
    max_size=25,
)


@given(events, st.lists(st.floats(0.0, 1.0), min_size=1, max_size=5))
def test_there_are_never_two_leaders(
    happening: list[tuple[str, int, float]], draws: list[float]
) -> None:
    world = World()
    for number in range(3):
        world.add(str(number), draw=partial(draws.__getitem__, number % len(draws)))
    for what, who, then_s in happening:
        replica = world.replicas[who]
        if what in ("shut", "open"):
            replica.door.is_shut = what == "shut"
        elif what in ("stop", "go"):
            replica.is_stopped = what == "stop"
        else:
            replica.elector.release()
        until_s = world.now_s + then_s
        while world.now_s < until_s:
            world.step(0.25)
            assert len(world.leaders()) <= 1


@given(events)
def test_there_is_a_leader_again_once_all_is_well(happening: list[tuple[str, int, float]]) -> None:
    world = World()
    for number in range(3):
        world.add(str(number))
    for what, who, then_s in happening:
        world.replicas[who].door.is_shut = what == "shut"
        world.replicas[who].is_stopped = what == "stop"
        world.run(then_s)
    for each in world.replicas:
        each.door.is_shut = each.is_stopped = False
    world.run(15.0)
    assert len(world.leaders()) == 1
