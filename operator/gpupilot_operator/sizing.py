"""What one replica of a service carries, as it runs and in the gears it may be given.

Measured by simulating the service's profile, which takes a second or so for a combination of
profile, objective and setting that was never asked for. So it is done beside the loop, once, and
until it is known the service is held.
"""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import yaml

from gpupilot_envs import embedded
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.errors import GpupilotError, ProfileInvalid
from gpupilot_envs.gears import Menu, menu
from gpupilot_envs.limits import Targets
from gpupilot_envs.profile import ServiceProfile, parse_profile
from gpupilot_envs.serving.capacity import Capacity, capacity
from gpupilot_envs.serving.measure import allocation_of
from gpupilot_operator.facts import PolicyState
from gpupilot_operator.ports import Seen
from gpupilot_operator.service import SERVICE_LABEL, Service

Answer = TypeVar("Answer", covariant=True)

KEPT_MOST = 4096
"""Answers that are kept: of a thousand services with profiles of their own, four settings each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What is known of a service's replicas.

    Attributes:
        profile: What it costs to run.
        capacity: What one replica carries as it runs.
        menu: Gears it may be given, of the limits as they run; ``None`` where only replicas may
            change.
    """

    profile: ServiceProfile
    capacity: Capacity
    menu: Menu | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsized:
    """Why nothing is known of them.

    Attributes:
        state: In a word.
        said: In a clause.
    """

    state: PolicyState
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gears:
    """The question which gears are worth having."""

    profile: ServiceProfile
    targets: Targets

    def measured(self) -> Menu:
        return menu(self.profile, self.targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Able:
    """The question what a replica carries in some setting."""

    profile: ServiceProfile
    targets: Targets
    setting: Allocation

    def measured(self) -> Capacity:
        return capacity(self.profile, self.targets, self.setting)


class _Question(Protocol[Answer]):
    """Something that is measured once, however many services ask it."""

    def measured(self) -> Answer: ...


class Sizes:
    """Measures in a thread of its own and remembers."""

    def __init__(self, most: int = KEPT_MOST) -> None:
        """Nothing is measured yet.

        Args:
            most: Answers that are kept.
        """
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sizing")
        self._asked: OrderedDict[object, Future[Any]] = OrderedDict()
        self._most = most

    def of(self, seen: Seen) -> Size | Unsized:
        """Return what is known of a service now; the first time it is being measured."""
        profile, targets = profile_of(seen), seen.service.spec.targets
        if isinstance(profile, Unsized):
            return profile
        gears = None
        if seen.service.spec.predictor.model is not None:
            found = self._answer(_Gears(profile=profile, targets=targets))
            if isinstance(found, Unsized):
                return found
            gears = _allowed(found, seen.service, seen.running, profile)
            running = None if gears is None else gears.index_of(seen.running)
            if gears is not None and running is not None:
                return Size(profile=profile, capacity=gears.gears[running].capacity, menu=gears)
        setting = _setting(profile, seen.running)
        able = self._answer(_Able(profile=profile, targets=targets, setting=setting))
        if isinstance(able, Unsized):
            return able
        return Size(profile=profile, capacity=able, menu=gears)

    def _answer(self, question: _Question[Answer]) -> Answer | Unsized:
        """Return the answer to a question; the first time it is being worked out."""
        if question not in self._asked:
            self._asked[question] = self._worker.submit(question.measured)
            self._forget()
        answer: Future[Answer] = self._asked[question]
        self._asked.move_to_end(question)
        if not answer.done():
            said = "what a replica carries is being measured"
            return Unsized(state=PolicyState.MEASURING, said=said)
        error = answer.exception()
        if error is not None:
            # one service's profile must not end the tick of all the others
            foreseen = isinstance(error, GpupilotError)
            said = str(error) if foreseen else f"its profile cannot be simulated: {error!r}"
            return Unsized(state=PolicyState.INFEASIBLE, said=said)
        return answer.result()

    def _forget(self) -> None:
        """Let go of the answers that were not asked for the longest, beyond what is kept."""
        done = [question for question, answer in self._asked.items() if answer.done()]
        for question in done[: max(len(self._asked) - self._most, 0)]:
            del self._asked[question]

    def wait(self) -> None:
        """Wait until everything asked for so far is measured."""
        for answer in tuple(self._asked.values()):
            answer.exception()

    def close(self) -> None:
        """Stop measuring."""
        self._worker.shutdown(wait=False, cancel_futures=True)


def profile_of(seen: Seen) -> ServiceProfile | Unsized:
    """Return a service's own profile, else the shipped one its spec names."""
    own, name = seen.artefacts.profile, seen.service.spec.autoscaling.profile
    try:
        if own is not None:
            return _parsed(own)
        if name in embedded.names():
            return shipped_profile(str(name))
    except ProfileInvalid as error:
        return Unsized(state=PolicyState.PROFILE_REFUSED, said=str(error))
    if name is None:
        said = "spec.autoscaling.profile names none, so it is not known what a replica carries"
    else:
        known = ", ".join(embedded.names())
        said = f"{name!r} is no ConfigMap with the label {SERVICE_LABEL}, and shipped are {known}"
    return Unsized(state=PolicyState.PROFILE_MISSING, said=said)


@lru_cache(maxsize=256)
def _parsed(data: bytes) -> ServiceProfile:
    try:
        return parse_profile(yaml.safe_load(data), origin="profile")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProfileInvalid("profile", "malformed", "a gpupilot/profile-v1 document") from error


@lru_cache(maxsize=64)
def shipped_profile(name: str) -> ServiceProfile:
    """Return a profile of the package by its name."""
    return embedded.find_profile(name)


def _setting(profile: ServiceProfile, running: Allocation) -> Allocation:
    """Return what runs without what does not decide how fast a replica is."""
    stated = allocation_of(profile)
    kept = replace(running, replicas=1, memory_bytes=stated.memory_bytes)
    return kept if profile.device == "cpu" else replace(kept, cpu_milli=stated.cpu_milli)


def _allowed(
    found: Menu, service: Service, running: Allocation, profile: ServiceProfile
) -> Menu | None:
    """Return the gears a service may be given, in the limits it runs with; ``None`` for one."""
    on_cpu = profile.device == "cpu"
    gears = tuple(
        replace(
            gear,
            allocation=replace(
                gear.allocation,
                memory_bytes=running.memory_bytes,
                cpu_milli=gear.allocation.cpu_milli if on_cpu else running.cpu_milli,
                gpu_share_milli=running.gpu_share_milli
                if on_cpu
                else gear.allocation.gpu_share_milli,
            ),
        )
        for gear in found.gears
        if on_cpu or _has_share(service, gear.allocation.gpu_share_milli)
    )
    return Menu(gears=gears, base=0) if len(gears) > 1 else None


def _has_share(service: Service, share_milli: int) -> bool:
    gpu = service.spec.gpu
    if not gpu.min_share_milli <= share_milli <= gpu.max_share_milli:
        return False
    try:
        gpu.asked(share_milli)
    except ValueError:
        return False
    return True
