"""One namespace's GPUs among its services: nobody is made to shrink, the most pressed grows first.

The room that a ResourceQuota leaves is dealt out replica by replica, each to the service that has
the smallest share of what the guardrail granted it, so that no service waits for another's last
replica while it still lacks its first.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gpupilot_envs.allocation import Allocation


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one service of a namespace holds and was granted.

    Attributes:
        running: What it runs with.
        granted: What its guardrail granted.
    """

    running: Allocation
    granted: Allocation

    @property
    def held_milli(self) -> int:
        """GPU it holds, in thousandths."""
        return self.running.replicas * self.running.gpu_share_milli

    @property
    def moves(self) -> bool:
        """Whether pods of another share take over: for a while both generations are there."""
        return self.granted.gpu_share_milli != self.running.gpu_share_milli

    @property
    def grows(self) -> bool:
        """Whether it would hold more pods of the share it has."""
        return not self.moves and self.granted.replicas > self.running.replicas


def within_quota(claims: Sequence[Claim], quota_milli: int) -> tuple[Allocation, ...]:
    """Return what each service may have, in the order of the claims.

    What a service holds and what it gives back in this very round count as held: a pod that goes
    still has its GPU. Another GPU share is granted whole or not at all.

    Args:
        claims: Every service of the namespace.
        quota_milli: GPU they may hold together, in thousandths.
    """
    room_milli = quota_milli - sum(each.held_milli for each in claims)
    granted = []
    for each in claims:
        both_milli = each.granted.replicas * each.granted.gpu_share_milli
        refused = each.moves and both_milli > room_milli
        if each.moves and not refused:
            room_milli -= both_milli
        granted.append(each.running if refused else each.granted)
    counts = _dealt(claims, room_milli)
    return tuple(
        # limits and batching cost no GPU and are granted as they are
        replace(shape, replicas=counts.get(index, shape.replicas))
        for index, shape in enumerate(granted)
    )


def _dealt(claims: Sequence[Claim], room_milli: int) -> dict[int, int]:
    """Return the replicas of the claims that grow, the room dealt out one replica at a time."""
    counts = {index: each.running.replicas for index, each in enumerate(claims) if each.grows}
    waiting = [(count / claims[index].granted.replicas, index) for index, count in counts.items()]
    heapq.heapify(waiting)
    while waiting:
        _, index = heapq.heappop(waiting)
        granted = claims[index].granted
        if granted.gpu_share_milli > room_milli:
            continue
        room_milli -= granted.gpu_share_milli
        counts[index] += 1
        if counts[index] < granted.replicas:
            heapq.heappush(waiting, (counts[index] / granted.replicas, index))
    return counts
