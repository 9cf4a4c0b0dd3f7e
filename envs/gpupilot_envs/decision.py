"""One decision path over arrays of services: observe, decode, restrain; one service is n = 1.

The Gymnasium environments, training and a fleet of a thousand services all pass here, and a
single policy at the controls calls the same kernels on its own history, so that what was learned
is what runs, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.actions import (
    AXES,
    KNOB_FIELDS,
    Controller,
    advise,
    decode,
    knobs_row,
    remember,
)
from gpupilot_envs.compiled import compiled
from gpupilot_envs.guardrail import (
    fresh_memory_rows,
    limits_row,
    remember_change,
    restrain_replicas,
)
from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.observation import (
    BUDGET_FIELDS,
    FIELDS,
    HISTORY_ROWS,
    SERVICE_FIELDS,
    account,
    encode,
    service_row,
)
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.serving.capacity import Capacity
from gpupilot_envs.signals import SIGNAL_FIELDS, SIGNAL_INDEX

_AT = SIGNAL_INDEX["at_s"]
_AGE = SIGNAL_INDEX["age_s"]
_RATE = SIGNAL_INDEX["rate_rps"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the decision path must know of a service before its first reading.

    Attributes:
        profile: What it costs to run.
        capacity: What one replica carries.
        targets: Its objective.
        limits: Its envelope.
        controller: The classical controller that the actions move around.
        gpu_share_milli: Share of a GPU of each replica in thousandths.
    """

    profile: ServiceProfile
    capacity: Capacity
    targets: Targets
    limits: Limits
    controller: Controller
    gpu_share_milli: int = 1000

    def row(self) -> NDArray[np.float64]:
        """Return the constants as one row of :data:`SERVICE_FIELDS`."""
        return service_row(
            self.profile, self.capacity, self.targets, self.limits, self.gpu_share_milli
        )

    def knobs_row(self) -> NDArray[np.float64]:
        """Return the controller's setting as one row of :data:`KNOB_FIELDS`."""
        return knobs_row(self.controller.knobs(self.profile.cold_start_s.mean))


class Seats:
    """The controls of ``n`` services: their readings, memories and constants as arrays.

    Attributes:
        observations: Newest observation of every service, float32, shape ``(n, len(FIELDS))``.
        advice: What the classical controller makes of it, see :func:`actions.advise`, ``(n, 3)``.
        budget: Decaying requests and late requests, ``(n, 2)``.
        before: Previous action of every service in -1..1, ``(n, 3)``.
        reasons: Bits of the guardrail's reasons at the last decision, int64, ``(n,)``.
    """

    def __init__(self, n: int, *, flaps_per_hour_max: int = 60) -> None:
        """Lay out the arrays of ``n`` services; :meth:`seat` or :meth:`seat_rows` fills them."""
        self.n = n
        self._rows = np.full((n, HISTORY_ROWS, len(SIGNAL_FIELDS)), np.nan)
        self._newest = np.zeros(n, dtype=np.int64)
        self._count = np.zeros(n, dtype=np.int64)
        self._service = np.ones((n, len(SERVICE_FIELDS)))
        self._knobs = np.zeros((n, len(KNOB_FIELDS)))
        self._limits = np.zeros((n, len(limits_row(Limits()))))
        self._memory = fresh_memory_rows(n, flaps_per_hour_max)
        self.before = np.zeros((n, len(AXES)))
        self.observations = np.zeros((n, len(FIELDS)), dtype=np.float32)
        self.advice = np.full((n, 3), np.nan)
        self.budget = np.zeros((n, len(BUDGET_FIELDS)))
        self.reasons = np.zeros(n, dtype=np.int64)

    def seat(self, services: Sequence[Service]) -> None:
        """Give every seat a service and an empty history."""
        self.seat_rows(
            np.arange(self.n),
            service=np.stack([s.row() for s in services]),
            knobs=np.stack([s.knobs_row() for s in services]),
            limits=np.stack([limits_row(s.limits) for s in services]),
        )

    def seat_rows(
        self,
        indices: NDArray[np.int64],
        *,
        service: NDArray[np.float64],
        knobs: NDArray[np.float64],
        limits: NDArray[np.float64],
    ) -> None:
        """Put new services into the seats ``indices``: constants as rows, histories empty."""
        self._service[indices] = service
        self._knobs[indices] = knobs
        self._limits[indices] = limits
        self._rows[indices] = np.nan
        self._newest[indices] = -1
        self._count[indices] = 0
        self._memory[indices] = fresh_memory_rows(1, self._memory.shape[1] - 3)[0]
        self.before[indices] = 0.0
        self.budget[indices] = 0.0

    def observe(
        self,
        indices: NDArray[np.int64],
        readings: NDArray[np.float64],
        running: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Take a reading of some services; return the observations of all, not a copy.

        Args:
            indices: Services that are read, int64.
            readings: :meth:`Signals.row` of every service, shape ``(n, len(SIGNAL_FIELDS))``.
            running: Replicas each service was last told to run, shape ``(n,)``.
        """
        _observe_some(
            indices,
            readings,
            running,
            self._rows,
            self._newest,
            self._count,
            self._service,
            self._knobs,
            self.budget,
            self.before,
            self.advice,
            self.observations,
        )
        return self.observations

    def decide(
        self, actions: NDArray[np.int64], running: NDArray[np.int64], now_s: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Return the replicas granted to every service, shape ``(n,)``.

        Args:
            actions: One index per axis, int64, shape ``(n, len(AXES))``.
            running: Replicas each service was last told to run, shape ``(n,)``.
            now_s: Time of the decision, shape ``(n,)``.
        """
        granted = np.empty(self.n, dtype=np.int64)
        _decide_all(
            actions,
            running,
            now_s,
            self._rows,
            self._newest,
            self._count,
            self._service,
            self._knobs,
            self._limits,
            self._memory,
            self.before,
            granted,
            self.reasons,
        )
        return granted


@compiled
def _observe_some(
    indices: NDArray[np.int64],
    readings: NDArray[np.float64],
    running: NDArray[np.int64],
    rows: NDArray[np.float64],
    newest: NDArray[np.int64],
    count: NDArray[np.int64],
    service: NDArray[np.float64],
    knobs: NDArray[np.float64],
    budget: NDArray[np.float64],
    before: NDArray[np.float64],
    advice: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None:
    size = rows.shape[1]
    for i in indices:
        newest[i] = (newest[i] + 1) % size
        count[i] = min(count[i] + 1, size)
        rows[i, newest[i]] = readings[i]
        start = (newest[i] + 1 - count[i]) % size
        account(readings[i], budget[i])
        advise(rows[i], start, count[i], service[i, 0], knobs[i], running[i], advice[i])
        encode(
            rows[i],
            newest[i],
            count[i],
            service[i],
            float(running[i]),
            advice[i],
            budget[i],
            before[i],
            out[i],
        )


@compiled
def _decide_all(
    actions: NDArray[np.int64],
    running: NDArray[np.int64],
    now_s: NDArray[np.float64],
    rows: NDArray[np.float64],
    newest: NDArray[np.int64],
    count: NDArray[np.int64],
    service: NDArray[np.float64],
    knobs: NDArray[np.float64],
    limits: NDArray[np.float64],
    memory: NDArray[np.float64],
    before: NDArray[np.float64],
    granted: NDArray[np.int64],
    reasons: NDArray[np.int64],
) -> None:
    size = rows.shape[1]
    for i in range(actions.shape[0]):
        last, filled = newest[i], count[i]
        start = (last + 1 - filled) % size
        ask = decode(actions[i], rows[i], start, filled, service[i, 0], knobs[i], running[i])
        remember(actions[i], before[i])
        age_s, history_s, rate_rps = np.nan, 0.0, np.nan
        if filled > 0:
            behind_s = rows[i, last, _AGE]
            age_s = max(now_s[i] - rows[i, last, _AT], 0.0)
            age_s += behind_s if behind_s == behind_s else 0.0
            history_s = rows[i, last, _AT] - rows[i, start, _AT] if filled < size else np.inf
            rate_rps = rows[i, last, _RATE]
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
            int(service[i, 9]),
        )
        remember_change(memory[i], running[i], granted[i], now_s[i])
