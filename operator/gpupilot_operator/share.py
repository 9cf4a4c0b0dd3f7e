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


def _has_started(generation: Generation) -> bool:
    return generation.is_begun and generation.ready >= max(generation.replicas, 1)


def _selected(generations: Sequence[Generation], selector: Mapping[str, str]) -> Generation | None:
    share = selector.get(SHARE_LABEL)
    return next((each for each in generations if str(each.share_milli) == share), None)
