"""The kernels of the one decision path: take in a reading, and carry out an action, restrained."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.actions import (
    KNOB_FIELDS,
    NEUTRAL,
    advise,
    allow,
    decode,
    patience,
    remember,
)
from gpupilot_envs.compiled import borrowed, compiled
from gpupilot_envs.doubt import doubt
from gpupilot_envs.following import Known, Ring, follow
from gpupilot_envs.gear_guard import remember_gear, restrain_gear
from gpupilot_envs.gear_sight import ask_for_gear, see_gears, weigh_gears
from gpupilot_envs.gears import GEAR_FIELDS
from gpupilot_envs.guardrail import (
    remember_change,
    restrain_replicas,
)
from gpupilot_envs.observation import (
    ADVICE_FIELDS,
    GEAR_SEEN,
    encode,
)
from gpupilot_envs.reasons import Reason
from gpupilot_envs.service_row import SERVICE_FIELDS
from gpupilot_envs.signals import SIGNAL_INDEX

Floats = NDArray[np.float64]

_AGE = SIGNAL_INDEX["age_s"]
_RATE = SIGNAL_INDEX["rate_rps"]
_COLD_START = SERVICE_FIELDS.index("cold_start_s")
_SHARE = SERVICE_FIELDS.index("gpu_share_milli")
_GEAR_SHARE = GEAR_FIELDS.index("gpu_share_milli")
_NEED = ADVICE_FIELDS.index("need")
_ASK = ADVICE_FIELDS.index("ask")
_AT = SIGNAL_INDEX["at_s"]
_REPLICAS_MAX = SERVICE_FIELDS.index("replicas_max")
_HORIZON = KNOB_FIELDS.index("horizon_s")
_ALPHA = KNOB_FIELDS.index("alpha")
_BETA = KNOB_FIELDS.index("beta")
_DRAIN = KNOB_FIELDS.index("drain_s")
_NEWEST = int(Known.NEWEST)
_COUNT = int(Known.COUNT)
_RING_AT = int(Ring.AT)
_CLASSICAL = np.array(NEUTRAL, dtype=np.int64)
_GEARS_SEEN = len(GEAR_SEEN)
_CAPACITY = 3
"""Columns that a gear's row and a service's row begin with alike: what one replica carries."""

_STRANGE = Reason.OUT_OF_DISTRIBUTION.bit


@compiled
def observe_some(
    indices: NDArray[np.int64],
    readings: Floats,
    running: NDArray[np.int64],
    rows: Floats,
    ring: Floats,
    ordered: Floats,
    known: Floats,
    service: Floats,
    knobs: Floats,
    before: Floats,
    menu: Floats,
    gears: NDArray[np.int64],
    gear: NDArray[np.int64],
    limits: Floats,
    actuators: Floats,
    advice: Floats,
    costs: Floats,
    masks: NDArray[np.bool_],
    out: NDArray[np.float32],
) -> None:
    """Take in a reading of the services ``indices``, see :meth:`.decision.Seats.observe`."""
    rows, ring, ordered, known = borrowed(rows), borrowed(ring), borrowed(ordered), borrowed(known)
    service, knobs, before = borrowed(service), borrowed(knobs), borrowed(before)
    menu, limits, actuators = borrowed(menu), borrowed(limits), borrowed(actuators)
    advice, costs, masks, out = borrowed(advice), borrowed(costs), borrowed(masks), borrowed(out)
    seen = np.empty(_GEARS_SEEN)
    for i in indices:
        rows[i] = readings[i]
        observe_one(
            rows[i],
            ring[i],
            ordered[i],
            known[i],
            service[i],
            knobs[i],
            running[i],
            before[i],
            menu[i],
            gears[i],
            gear[i],
            limits[i],
            actuators[i],
            advice[i],
            costs[i],
            masks[i],
            seen,
            out[i],
        )


@compiled
def observe_one(
    row: Floats,
    ring: Floats,
    ordered: Floats,
    known: Floats,
    service: Floats,
    knobs: Floats,
    running: int,
    before: Floats,
    menu: Floats,
    gears: int,
    gear: int,
    limits: Floats,
    actuators: Floats,
    advice: Floats,
    costs: Floats,
    mask: NDArray[np.bool_],
    seen: Floats,
    out: NDArray[np.float32],
) -> None:
    """Take in a reading of one service and fill advice, mask and observation, in place.

    Args:
        row: :meth:`Signals.row`.
        ring: See :func:`gpupilot_envs.following.follow` for this and the next two.
        ordered: Forecast errors, ascending.
        known: Plain numbers.
        service: One row of :data:`SERVICE_FIELDS`.
        knobs: One row of :data:`KNOB_FIELDS`.
        running: Replicas the service was last told to run.
        before: Previous action in -1..1, one per axis.
        menu: ``Menu.rows()``.
        gears: Gears on it, 1 where there is nothing to choose.
        gear: Gear the service was last told to run in.
        limits: One row of :func:`guardrail.limits_row`.
        actuators: When each actuator was last moved.
        advice: See :func:`gpupilot_envs.actions.advise`.
        costs: See :func:`gpupilot_envs.gear_sight.weigh_gears`.
        mask: See :func:`gpupilot_envs.actions.allow`.
        seen: See :func:`gpupilot_envs.gear_sight.see_gears`.
        out: The observation, float32, shape ``(len(FIELDS),)``.
    """
    follow(row, knobs[_ALPHA], knobs[_BETA], knobs[_HORIZON], knobs[_DRAIN], ring, ordered, known)
    advise(ring, ordered, known, service[0], knobs, running, advice)
    weigh_gears(menu, gears, gear, ring, known, advice[_NEED], limits, costs)
    movable = see_gears(
        menu,
        gears,
        gear,
        running,
        costs,
        advice[_NEED],
        advice[_ASK],
        service[_COLD_START],
        limits,
        actuators,
        row[_AT],
        seen,
    )
    allow(known, advice, service[_REPLICAS_MAX], running, movable, mask)
    encode(row, ring, known, service, float(running), advice, seen, before, out)


@compiled
def ask_all(
    actions: NDArray[np.int64],
    running: NDArray[np.int64],
    ring: Floats,
    ordered: Floats,
    known: Floats,
    service: Floats,
    knobs: Floats,
    advice: Floats,
    menu: Floats,
    gears: NDArray[np.int64],
    gear: NDArray[np.int64],
    costs: Floats,
    asked: NDArray[np.int64],
    asked_gear: NDArray[np.int64],
) -> None:
    """Fill in what one action per service asks for, see :meth:`.decision.Seats.asks`."""
    for i in range(actions.shape[0]):
        action = actions[i]
        ask = decode(action, ring[i], ordered[i], known[i], service[i, 0], knobs[i], running[i])
        asked_gear[i] = gear[i]
        if gears[i] > 1:
            asked_gear[i], ask = ask_for_gear(
                menu[i],
                gears[i],
                gear[i],
                running[i],
                costs[i],
                advice[i, _NEED],
                ask,
                service[i, _COLD_START],
                patience(action),
            )
        asked[i] = ask


@compiled
def decide_all(
    actions: NDArray[np.int64],
    running: NDArray[np.int64],
    now_s: Floats,
    strange: NDArray[np.bool_],
    rows: Floats,
    ring: Floats,
    ordered: Floats,
    known: Floats,
    service: Floats,
    knobs: Floats,
    limits: Floats,
    memory: Floats,
    before: Floats,
    doubts: NDArray[np.int64],
    advice: Floats,
    menu: Floats,
    gears: NDArray[np.int64],
    gear: NDArray[np.int64],
    costs: Floats,
    actuators: Floats,
    granted: NDArray[np.int64],
    changed: NDArray[np.int64],
    reasons: NDArray[np.int64],
) -> None:
    """Carry out one action per service, restrained, see :meth:`.decision.Seats.decide`."""
    rows, ring, ordered, known = borrowed(rows), borrowed(ring), borrowed(ordered), borrowed(known)
    service, knobs, limits = borrowed(service), borrowed(knobs), borrowed(limits)
    memory, before, advice = borrowed(memory), borrowed(before), borrowed(advice)
    menu, costs, actuators = borrowed(menu), borrowed(costs), borrowed(actuators)
    actions = borrowed(actions)
    size = ring.shape[2]
    for i in range(actions.shape[0]):
        last, filled = int(known[i, _NEWEST]), int(known[i, _COUNT])
        doubts[i] = doubt(doubts[i], strange[i])
        action = _CLASSICAL if doubts[i] > 0 else actions[i]
        ask = decode(action, ring[i], ordered[i], known[i], service[i, 0], knobs[i], running[i])
        remember(action, before[i])
        age_s, history_s, rate_rps = np.nan, 0.0, np.nan
        if filled > 0:
            newest_s, behind_s = ring[i, _RING_AT, last], rows[i, _AGE]
            age_s = max(now_s[i] - newest_s, 0.0)
            age_s += behind_s if behind_s == behind_s else 0.0
            history_s = newest_s - ring[i, _RING_AT, 0] if filled < size else np.inf
            rate_rps = rows[i, _RATE]
        before_i = running[i]
        if gears[i] <= 1:
            granted[i], reasons[i] = restrain_replicas(
                ask,
                running[i],
                limits[i],
                memory[i],
                now_s[i],
                age_s,
                history_s,
                rate_rps,
                service[i, 1],
                int(service[i, _SHARE]),
            )
        else:
            asked, ask = ask_for_gear(
                menu[i],
                gears[i],
                gear[i],
                running[i],
                costs[i],
                advice[i, _NEED],
                ask,
                service[i, _COLD_START],
                patience(action),
            )
            taken, granted[i], before_i, reasons[i] = restrain_gear(
                menu[i, asked],
                menu[i, gear[i]],
                ask,
                running[i],
                limits[i],
                memory[i],
                actuators[i],
                now_s[i],
                age_s,
                history_s,
                rate_rps,
            )
            if taken:
                remember_gear(actuators[i], menu[i, gear[i]], menu[i, asked], now_s[i])
                gear[i] = asked
                service[i, :_CAPACITY] = menu[i, asked, :_CAPACITY]
                service[i, _SHARE] = menu[i, asked, _GEAR_SHARE]
        if doubts[i] > 0:
            reasons[i] |= _STRANGE
        remember_change(memory[i], before_i, granted[i], now_s[i])
        changed[i] = abs(granted[i] - before_i)
