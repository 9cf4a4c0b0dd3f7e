"""The guardrail: what a policy may have of what it asked for, learned or not.

The same compiled rules on plain rows serve the operator, the environment and a loop over thousands
of services: those on replicas are in :mod:`gpupilot_envs.guardrail_rules`, those on limits,
instances and batching in :mod:`gpupilot_envs.gear_guard`. Here they meet allocations and histories.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.gear_guard import remember_gear, restrain_gear, same_gear
from gpupilot_envs.guardrail_rules import (
    CHANGED_AT,
    DIRECTION,
    LIMIT_FIELDS,
    OLDEST,
    REVERSALS,
    flap_budget_spent,
    fresh_memory_rows,
    limits_row,
    remember_change,
    restrain_replicas,
)
from gpupilot_envs.limits import Limits
from gpupilot_envs.reasons import Reason, reasons_of
from gpupilot_envs.signals import History

__all__ = [
    "LIMIT_FIELDS",
    "GuardrailMemory",
    "Verdict",
    "flap_budget_spent",
    "fresh_memory_rows",
    "limits_row",
    "noted",
    "remember_change",
    "restrain",
    "restrain_replicas",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardrailMemory:
    """What the guardrail must remember between decisions.

    Attributes:
        changed_at_s: Time of the last change of replicas; minus infinity before the first.
        direction: Direction of that change: -1, 0 before the first, or +1.
        reversals_s: Times of the latest reversals of direction, oldest first.
        share_changed_at_s: Time of the last change of the GPU share.
        cpu_changed_at_s: Time of the last change of the CPU limit.
        batching_changed_at_s: Time of the last change of instances or batching.
    """

    changed_at_s: float = -np.inf
    direction: int = 0
    reversals_s: tuple[float, ...] = ()
    share_changed_at_s: float = -np.inf
    cpu_changed_at_s: float = -np.inf
    batching_changed_at_s: float = -np.inf

    def row(self, flaps_per_hour_max: int) -> NDArray[np.float64]:
        """Return one row of :func:`fresh_memory_rows`."""
        row: NDArray[np.float64] = fresh_memory_rows(1, flaps_per_hour_max)[0]
        row[CHANGED_AT], row[DIRECTION] = self.changed_at_s, self.direction
        if flaps_per_hour_max:
            kept = self.reversals_s[-flaps_per_hour_max:]
            row[REVERSALS : REVERSALS + len(kept)] = kept
            row[OLDEST] = len(kept) % flaps_per_hour_max
        return row

    def actuators(self) -> NDArray[np.float64]:
        """Return one row of :func:`fresh_actuator_rows`."""
        return np.array(
            [self.share_changed_at_s, self.cpu_changed_at_s, self.batching_changed_at_s]
        )

    @classmethod
    def from_row(cls, row: NDArray[np.float64], actuators: NDArray[np.float64]) -> GuardrailMemory:
        """Rebuild the memory from :meth:`row` and :meth:`actuators`."""
        times = np.roll(row[REVERSALS:], -int(row[OLDEST]))
        return cls(
            changed_at_s=float(row[CHANGED_AT]),
            direction=int(row[DIRECTION]),
            reversals_s=tuple(times[np.isfinite(times)].tolist()),
            share_changed_at_s=float(actuators[0]),
            cpu_changed_at_s=float(actuators[1]),
            batching_changed_at_s=float(actuators[2]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was granted, and why not more.

    Attributes:
        allocation: What the service is to run with.
        held: Whether a rule kept the policy from what it asked for.
        reasons: The rules that bit, in the order they were applied; never empty.
        memory: What the guardrail wants back at the next decision, the grant taken as applied.
    """

    allocation: Allocation
    held: bool
    reasons: tuple[Reason, ...]
    memory: GuardrailMemory


def restrain(
    ask: Allocation,
    current: Allocation,
    history: History,
    limits: Limits,
    now_s: float,
    memory: GuardrailMemory,
    saturation_rps: float | None,
    asked_saturation_rps: float | None = None,
    instead: Allocation | None = None,
) -> Verdict:
    """Return what a policy may have of what it asked for.

    Args:
        ask: The policy's proposal.
        current: What the service was last told to run with.
        history: Readings so far, newest last. A full history counts as warm.
        limits: The envelope.
        now_s: Time of the decision.
        memory: The memory of the previous verdict, ``GuardrailMemory()`` at first.
        saturation_rps: Most requests per second one replica carries as it runs; ``None`` skips
            the consolidation check.
        asked_saturation_rps: The same with the limits asked for, where they differ; ``None``
            takes a replica to carry the same.
        instead: What the classical controller asks for, where the policy does not know what it
            sees: it is restrained in place of ``ask``. ``None`` where the policy does know.
    """
    wish = ask if instead is None else instead
    age_s, history_s, rate_rps = _evidence(history, now_s)
    row, actuators = memory.row(limits.flaps_per_hour_max), memory.actuators()
    able_rps = np.nan if saturation_rps is None else float(saturation_rps)
    running = _gear_row(current, able_rps)
    asked = _gear_row(wish, able_rps if asked_saturation_rps is None else asked_saturation_rps)
    taken, replicas, before, bits = restrain_gear(
        asked,
        running,
        wish.replicas,
        current.replicas,
        limits_row(limits),
        row,
        actuators,
        float(now_s),
        age_s,
        history_s,
        rate_rps,
    )
    blind = not (age_s <= limits.stale_after_s and rate_rps == rate_rps)
    wanted = wish if not blind and (taken or same_gear(asked, running)) else current
    if taken:
        remember_gear(actuators, running, asked, float(now_s))
    remember_change(row, before, replicas, float(now_s))
    granted = replace(wanted, replicas=replicas)
    return Verdict(
        allocation=granted,
        held=granted != ask,
        reasons=reasons_of(bits if instead is None else bits | Reason.OUT_OF_DISTRIBUTION.bit),
        memory=GuardrailMemory.from_row(row, actuators),
    )


def noted(
    memory: GuardrailMemory,
    limits: Limits,
    *,
    before: Allocation,
    after: Allocation,
    now_s: float,
    carried: int | None = None,
) -> GuardrailMemory:
    """Return the memory after a change that was really made, whoever made it.

    Args:
        memory: Before it.
        limits: The envelope, for the reversals it counts.
        before: What ran.
        after: What runs from now on.
        now_s: Time of the change.
        carried: Replicas of the new gear that carry what ran before; where the gear stays, those
            that ran.
    """
    row, actuators = memory.row(limits.flaps_per_hour_max), memory.actuators()
    remember_gear(actuators, _gear_row(before, np.nan), _gear_row(after, np.nan), float(now_s))
    as_new = before.replicas if carried is None else carried
    remember_change(row, as_new, after.replicas, float(now_s))
    return GuardrailMemory.from_row(row, actuators)


def _gear_row(allocation: Allocation, saturation_rps: float) -> NDArray[np.float64]:
    """Return the columns of ``gears.GEAR_FIELDS`` that the rules read."""
    unknown = np.nan
    return np.array(
        [
            unknown,
            saturation_rps,
            unknown,
            allocation.gpu_share_milli,
            allocation.cpu_milli,
            allocation.instances_per_replica,
            allocation.batch_max,
            allocation.queue_delay_us,
            unknown,
        ],
        dtype=np.float64,
    )


def _evidence(history: History, now_s: float) -> tuple[float, float, float]:
    latest = history.latest
    if latest is None:
        return np.nan, 0.0, np.nan
    age_s = max(0.0, now_s - latest.at_s) + (latest.age_s or 0.0)
    full = len(history.readings) >= history.capacity
    rate_rps = np.nan if latest.rate_rps is None else float(latest.rate_rps)
    return age_s, np.inf if full else history.span_s, rate_rps
