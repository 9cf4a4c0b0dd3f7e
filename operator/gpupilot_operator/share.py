"""The change of a GPU share as it stands between two Deployments: pure, remembered nowhere.

The newer one starts; when all its pods answer, the Service's selector moves to it; then the older
one is taken down (``docs/actuators.md``, changing the share without dropping load).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpupilot_operator.service import SHARE_LABEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """The pods of one share.

    Attributes:
        share_milli: The share.
        replicas: Pods asked for.
        pods: Pods there are.
        ready: Pods that answer.
        is_begun: Whether who made it also asked for its pods.
    """

    share_milli: int
    replicas: int
    pods: int
    ready: int
    is_begun: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """Where a change of share stands.

    Attributes:
        serving_milli: The share whose pods are to answer; ``None`` where nothing runs.
        starting_milli: The share that starts beside it; ``None`` where none does.
        leaving_milli: Shares that answer no more.
    """

    serving_milli: int | None
    starting_milli: int | None = None
    leaving_milli: tuple[int, ...] = ()


def shift(generations: Sequence[Generation], selector: Mapping[str, str]) -> Shift:
    """Return where a change of share stands.

    Args:
        generations: Deployments of a service, oldest first.
        selector: Of the Service in front of them, empty where there is none yet.
    """
    if not generations:
        return Shift(serving_milli=None)
    newest = generations[-1]
    answering = _selected(generations, selector) or max(generations, key=lambda each: each.ready)
    if answering is newest or _has_started(newest):
        left = tuple(each.share_milli for each in generations[:-1])
        return Shift(serving_milli=newest.share_milli, leaving_milli=left)
    left = tuple(
        each.share_milli for each in generations if each is not answering and each is not newest
    )
    return Shift(
        serving_milli=answering.share_milli,
        starting_milli=newest.share_milli,
        leaving_milli=left,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pods:
    """How many pods are to be asked for while a share starts beside the one that serves.

    Attributes:
        serving: Of the share that serves.
        starting: Of the share that starts; ``None`` gives the change up.
    """

    serving: int
    starting: int | None


def grown(
    serving: Generation,
    starting: Generation,
    wanted: int,
    *,
    budget_milli: int,
    replicas_max: int,
) -> Pods:
    """Return what answers a decision for more pods of the share that starts.

    Its pods do not answer before all of them are ready, and each one more puts that off. So those
    that serve are to hold as much of a GPU as was granted; where both do not fit, the load goes
    before the change.

    Args:
        serving: Pods that answer.
        starting: Pods that are to take over.
        wanted: Pods of the starting share that were granted, more than it has.
        budget_milli: GPU that all may hold together, in thousandths.
        replicas_max: Most pods of a share.
    """
    as_much = -(-wanted * starting.share_milli // serving.share_milli)
    most = max(serving.replicas, min(as_much, replicas_max))
    held_milli = most * serving.share_milli + wanted * starting.share_milli
    if held_milli <= budget_milli:
        return Pods(serving=most, starting=wanted)
    affordable = budget_milli // serving.share_milli
    return Pods(serving=max(serving.replicas, min(most, affordable)), starting=None)


def _has_started(generation: Generation) -> bool:
    return generation.is_begun and generation.ready >= max(generation.replicas, 1)


def _selected(generations: Sequence[Generation], selector: Mapping[str, str]) -> Generation | None:
    share = selector.get(SHARE_LABEL)
    return next((each for each in generations if str(each.share_milli) == share), None)
