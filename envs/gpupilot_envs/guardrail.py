"""The guardrail: what a policy may have of what it asked for, learned or not.

One compiled rule on scalars and two rows serves the operator, the environment and a loop over
thousands of services. The rules, in the order they are applied:

1. signals missing or stale: what runs is kept, whatever was asked;
2. shrinking waits for a warm history, for the flap budget and for its cooldown, growing only
   for its cooldown;
3. shrinking stops where the remaining replicas would carry more than ``saturation_rps`` each
   (the check "load x N / (N - 1)" of NVIDIA Dynamo's and llm-d's planners);
4. no decision moves further than one step;
5. the bounds, then the GPU budget, hold at all times, even over rules 1 to 4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.compiled import compiled
from gpupilot_envs.limits import Limits
from gpupilot_envs.reasons import Reason, reasons_of
from gpupilot_envs.signals import History

FLAP_PERIOD_S = 3600.0
"""The flap budget counts reversals over a sliding hour."""

_MISSING = Reason.SIGNALS_MISSING.bit
_STALE = Reason.SIGNALS_STALE.bit
_WARMING = Reason.WARMING_UP.bit
_FLAPPED = Reason.FLAP_BUDGET_SPENT.bit
_COOLING = Reason.COOLING_DOWN.bit
_REFUSED = Reason.CONSOLIDATION_REFUSED.bit
_STEPPED = Reason.STEP_LIMITED.bit
_TOO_FEW = Reason.TOO_FEW_REPLICAS.bit
_TOO_MANY = Reason.TOO_MANY_REPLICAS.bit
_BUDGET = Reason.BUDGET_REACHED.bit

LIMIT_FIELDS = (
    "replicas_min",
    "replicas_max",
    "step_up_max",
    "step_down_max",
    "cooldown_up_s",
    "cooldown_down_s",
    "stale_after_s",
    "warm_up_s",
    "gpu_budget_milli",
)
"""Columns of :func:`limits_row`."""

_CHANGED_AT, _DIRECTION, _OLDEST, _REVERSALS = 0, 1, 2, 3


def limits_row(limits: Limits) -> NDArray[np.float64]:
    """Return the limits as the compiled rule reads them, shape ``(len(LIMIT_FIELDS),)``."""
    return np.array([getattr(limits, name) for name in LIMIT_FIELDS], dtype=np.float64)


def fresh_memory_rows(services: int, flaps_per_hour_max: int) -> NDArray[np.float64]:
    """Return what the guardrail remembers of services that never changed, one row each.

    Columns: time of the last change, its direction (-1, 0, +1), slot of the oldest reversal,
    then the times of the last ``flaps_per_hour_max`` reversals as a ring.
    """
    rows = np.full((services, _REVERSALS + flaps_per_hour_max), -np.inf)
    rows[:, _DIRECTION] = 0.0
    rows[:, _OLDEST] = 0.0
    return rows


@compiled
def flap_budget_spent(memory: NDArray[np.float64], now_s: float) -> bool:
    """Whether the last hour saw as many reversals as the row has slots for."""
    slots = memory.shape[0] - _REVERSALS
    return slots == 0 or bool(now_s - memory[_REVERSALS + int(memory[_OLDEST])] < FLAP_PERIOD_S)


@compiled
def remember_change(memory: NDArray[np.float64], before: int, after: int, now_s: float) -> None:
    """Note in place that the service went from ``before`` to ``after`` replicas."""
    if before == after:
        return
    direction = 1.0 if after > before else -1.0
    slots = memory.shape[0] - _REVERSALS
    if memory[_DIRECTION] == -direction and slots > 0:
        oldest = int(memory[_OLDEST])
        memory[_REVERSALS + oldest] = now_s
        memory[_OLDEST] = float((oldest + 1) % slots)
    memory[_CHANGED_AT] = now_s
    memory[_DIRECTION] = direction


@compiled
def restrain_replicas(
    ask: int,
    current: int,
    limits: NDArray[np.float64],
    memory: NDArray[np.float64],
    now_s: float,
    age_s: float,
    history_s: float,
    rate_rps: float,
    saturation_rps: float,
    gpu_share_milli: int,
) -> tuple[int, int]:
    """Return the replicas granted and the bits of the reasons; changes nothing.

    Args:
        ask: Replicas asked for.
        current: Replicas the service was last told to run with.
        limits: One row of :func:`limits_row`.
        memory: One row of :func:`fresh_memory_rows`.
        now_s: Time of the decision.
        age_s: Age of the newest sample; NaN when there is no reading.
        history_s: Span of the history so far.
        rate_rps: Present request rate; NaN when it was not answered.
        saturation_rps: Most requests per second one replica carries; NaN skips rule 3.
        gpu_share_milli: GPU share of each replica in thousandths.
    """
    granted, bits = ask, 0
    if np.isnan(age_s) or np.isnan(rate_rps):
        granted, bits = current, bits | _MISSING
    elif age_s > limits[6]:
        granted, bits = current, bits | _STALE
    since_change_s = now_s - memory[_CHANGED_AT]
    if granted > current and since_change_s < limits[4]:
        granted, bits = current, bits | _COOLING
    if granted < current and history_s < limits[7]:
        granted, bits = current, bits | _WARMING
    if granted < current and flap_budget_spent(memory, now_s):
        granted, bits = current, bits | _FLAPPED
    if granted < current and since_change_s < limits[5]:
        granted, bits = current, bits | _COOLING
    if granted < current and saturation_rps > 0.0 and rate_rps > granted * saturation_rps:
        carrying = np.ceil(rate_rps / saturation_rps)
        granted = current if carrying >= current else int(carrying)
        bits |= _REFUSED
    if granted > current + limits[2]:
        granted, bits = current + int(limits[2]), bits | _STEPPED
    if granted < current - limits[3]:
        granted, bits = current - int(limits[3]), bits | _STEPPED
    if granted < limits[0]:
        granted, bits = int(limits[0]), bits | _TOO_FEW
    if granted > limits[1]:
        granted, bits = int(limits[1]), bits | _TOO_MANY
    if granted * gpu_share_milli > limits[8]:
        granted, bits = int(limits[8]) // gpu_share_milli, bits | _BUDGET
    return granted, bits


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardrailMemory:
    """What the guardrail must remember between decisions.

    Attributes:
        changed_at_s: Time of the last change of replicas; minus infinity before the first.
        direction: Direction of that change: -1, 0 before the first, or +1.
        reversals_s: Times of the latest reversals of direction, oldest first.
    """

    changed_at_s: float = -np.inf
    direction: int = 0
    reversals_s: tuple[float, ...] = ()

    def row(self, flaps_per_hour_max: int) -> NDArray[np.float64]:
        """Return one row of :func:`fresh_memory_rows`."""
        row: NDArray[np.float64] = fresh_memory_rows(1, flaps_per_hour_max)[0]
        row[_CHANGED_AT], row[_DIRECTION] = self.changed_at_s, self.direction
        if flaps_per_hour_max:
            kept = self.reversals_s[-flaps_per_hour_max:]
            row[_REVERSALS : _REVERSALS + len(kept)] = kept
            row[_OLDEST] = len(kept) % flaps_per_hour_max
        return row

    @classmethod
    def from_row(cls, row: NDArray[np.float64]) -> GuardrailMemory:
        """Rebuild the memory from :meth:`row`."""
        times = np.roll(row[_REVERSALS:], -int(row[_OLDEST]))
        return cls(
            changed_at_s=float(row[_CHANGED_AT]),
            direction=int(row[_DIRECTION]),
            reversals_s=tuple(times[np.isfinite(times)].tolist()),
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
) -> Verdict:
    """Return what a policy may have of what it asked for.

    Args:
        ask: The policy's proposal; its limits other than replicas pass unless rule 1 holds.
        current: What the service was last told to run with.
        history: Readings so far, newest last. A full history counts as warm.
        limits: The envelope.
        now_s: Time of the decision.
        memory: The memory of the previous verdict, ``GuardrailMemory()`` at first.
        saturation_rps: Most requests per second one replica carries; ``None`` skips rule 3.
    """
    age_s, history_s, rate_rps = _evidence(history, now_s)
    blind = not (age_s <= limits.stale_after_s and rate_rps == rate_rps)
    wanted = current if blind else ask
    row = memory.row(limits.flaps_per_hour_max)
    replicas, bits = restrain_replicas(
        ask.replicas,
        current.replicas,
        limits_row(limits),
        row,
        float(now_s),
        age_s,
        history_s,
        rate_rps,
        np.nan if saturation_rps is None else float(saturation_rps),
        wanted.gpu_share_milli,
    )
    remember_change(row, current.replicas, replicas, float(now_s))
    granted = replace(wanted, replicas=replicas)
    return Verdict(
        allocation=granted,
        held=granted != ask,
        reasons=reasons_of(bits),
        memory=GuardrailMemory.from_row(row),
    )


def _evidence(history: History, now_s: float) -> tuple[float, float, float]:
    latest = history.latest
    if latest is None:
        return np.nan, 0.0, np.nan
    age_s = max(0.0, now_s - latest.at_s) + (latest.age_s or 0.0)
    full = len(history.readings) >= history.capacity
    rate_rps = np.nan if latest.rate_rps is None else float(latest.rate_rps)
    return age_s, np.inf if full else history.span_s, rate_rps
