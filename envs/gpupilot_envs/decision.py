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
    CHOICES,
    KNOB_FIELDS,
    knobs_row,
)
from gpupilot_envs.controller import REFERENCE_PRICE, Controller
from gpupilot_envs.deciding import ask_all, decide_all, observe_some
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.following import fresh_rows
from gpupilot_envs.gear_guard import fresh_actuator_rows
from gpupilot_envs.gears import GEAR_FIELDS, GEARS_MAX, Menu
from gpupilot_envs.guardrail import (
    GuardrailMemory,
    fresh_memory_rows,
    limits_row,
)
from gpupilot_envs.guardrail_rules import REVERSALS
from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.observation import (
    ADVICE_FIELDS,
    FIELDS,
)
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.service_row import SERVICE_FIELDS, service_row
from gpupilot_envs.serving.capacity import Capacity
from gpupilot_envs.signals import SIGNAL_FIELDS

Floats = NDArray[np.float64]

_PRICE = SERVICE_FIELDS.index("price")
_READ = ("_row", "_ring", "_ordered", "_known")
_TAKEN = ("before", "doubts")
_CARRIED_OUT = ("_service", "_memory", "_actuators", "gear")
_CONSTANT = ("_knobs", "_limits", "_menu", "_gears")
_ANSWERS = ("_costs", "changed", "observations", "advice", "masks", "reasons", "_familiar")
"""Arrays of a seat: readings; the policy's own memory; what a decision that is carried out
changes; constants; what is worked out anew from these."""
_Z = KNOB_FIELDS.index("z")


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
        price: Of a late request, in GPU time per request.
        menu: Gears it may run in, the stated one first; ``None`` where only replicas change.
    """

    profile: ServiceProfile
    capacity: Capacity
    targets: Targets
    limits: Limits
    controller: Controller
    gpu_share_milli: int = 1000
    price: float = REFERENCE_PRICE
    menu: Menu | None = None

    def row(self) -> NDArray[np.float64]:
        """Return the constants as one row of :data:`SERVICE_FIELDS`."""
        return service_row(
            self.profile,
            self.capacity,
            self.targets,
            self.limits,
            self.gpu_share_milli,
            self.price,
        )

    def knobs_row(self) -> NDArray[np.float64]:
        """Return the controller's setting as one row of :data:`KNOB_FIELDS`."""
        return knobs_row(self.controller.knobs(self.profile.cold_start_s.mean, self.price))


@dataclass(frozen=True, slots=True, kw_only=True)
class SeatedMenus:
    """The gears of ``k`` services.

    Attributes:
        rows: ``Menu.rows()`` of each, shape ``(k, GEARS_MAX, len(GEAR_FIELDS))``.
        gears: Gears on each menu, 1 or more, int64, shape ``(k,)``.
        running: Gear each starts in, int64, shape ``(k,)``.
    """

    rows: NDArray[np.float64]
    gears: NDArray[np.int64]
    running: NDArray[np.int64]

    @classmethod
    def of(cls, menus: Sequence[Menu | None]) -> SeatedMenus:
        """Return the menus of services that start in their stated gears."""
        none = np.full((GEARS_MAX, len(GEAR_FIELDS)), np.nan)
        return cls(
            rows=np.stack([none if menu is None else menu.rows() for menu in menus]),
            gears=np.array([1 if menu is None else len(menu) for menu in menus]),
            running=np.array([0 if menu is None else menu.base for menu in menus]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """What the guardrail would grant ``n`` services.

    Attributes:
        replicas: Granted, in the gear granted, int64, shape ``(n,)``.
        gears: Granted, int64, shape ``(n,)``.
        reasons: Bits of its reasons, int64, shape ``(n,)``.
    """

    replicas: NDArray[np.int64]
    gears: NDArray[np.int64]
    reasons: NDArray[np.int64]


class Seats:
    """The controls of ``n`` services: their readings, memories and constants as arrays.

    Attributes:
        observations: Newest observation of every service, float32, shape ``(n, len(FIELDS))``.
        advice: What the classical controller makes of it, see :func:`actions.advise`.
        masks: Which values of the action can be chosen, bool, shape ``(n, CHOICES)``.
        before: Previous action of every service in -1..1, shape ``(n, len(AXES))``.
        doubts: Decisions left to the classical controller, see :mod:`.doubt`, int64, ``(n,)``.
        reasons: Bits of the guardrail's reasons at the last decision, int64, ``(n,)``.
        gear: Gear each service was last told to run in, int64, ``(n,)``; 0 without a menu.
        changed: Replicas changed by the last decision, in the gear granted, int64, ``(n,)``.
    """

    def __init__(self, n: int, *, flaps_per_hour_max: int = 60) -> None:
        """Lay out the arrays of ``n`` services; :meth:`seat` or :meth:`seat_rows` fills them."""
        self.n = n
        self._row = np.full((n, len(SIGNAL_FIELDS)), np.nan)
        self._ring, self._ordered, self._known = fresh_rows(n)
        self._service = np.ones((n, len(SERVICE_FIELDS)))
        self._knobs = np.zeros((n, len(KNOB_FIELDS)))
        self._limits = np.zeros((n, len(limits_row(Limits()))))
        self._memory = fresh_memory_rows(n, flaps_per_hour_max)
        self._menu = np.full((n, GEARS_MAX, len(GEAR_FIELDS)), np.nan)
        self._gears = np.ones(n, dtype=np.int64)
        self._costs = np.full((n, GEARS_MAX), np.nan)
        self._actuators = fresh_actuator_rows(n)
        self.gear = np.zeros(n, dtype=np.int64)
        self.changed = np.zeros(n, dtype=np.int64)
        self.before = np.zeros((n, len(AXES)))
        self.observations = np.zeros((n, len(FIELDS)), dtype=np.float32)
        self.advice = np.full((n, len(ADVICE_FIELDS)), np.nan)
        self.masks = np.ones((n, CHOICES), dtype=np.bool_)
        self.doubts = np.zeros(n, dtype=np.int64)
        self.reasons = np.zeros(n, dtype=np.int64)
        self._familiar = np.zeros(n, dtype=np.bool_)

    def seat(self, services: Sequence[Service]) -> None:
        """Give every seat a service and an empty history."""
        self.seat_rows(
            np.arange(self.n),
            service=np.stack([s.row() for s in services]),
            knobs=np.stack([s.knobs_row() for s in services]),
            limits=np.stack([limits_row(s.limits) for s in services]),
            menus=SeatedMenus.of([s.menu for s in services]),
        )

    def seat_rows(
        self,
        indices: NDArray[np.int64],
        *,
        service: NDArray[np.float64],
        knobs: NDArray[np.float64],
        limits: NDArray[np.float64],
        menus: SeatedMenus | None = None,
    ) -> None:
        """Put new services into the seats ``indices``: constants as rows, histories empty.

        Args:
            indices: The seats, int64, shape ``(k,)``.
            service: One row of :data:`SERVICE_FIELDS` each, in the gear that runs.
            knobs: One row of :data:`KNOB_FIELDS` each.
            limits: One row of :func:`guardrail.limits_row` each.
            menus: Their gears; ``None`` where only replicas can change.
        """
        self.change_rows(indices, service=service, knobs=knobs, limits=limits, menus=menus)
        self._actuators[indices] = -np.inf
        self._row[indices] = np.nan
        fresh = fresh_rows(1)
        for kept, empty in zip((self._ring, self._ordered, self._known), fresh, strict=True):
            kept[indices] = empty
        self._memory[indices] = fresh_memory_rows(1, self._memory.shape[1] - REVERSALS)[0]
        self.before[indices] = 0.0
        self.doubts[indices] = 0

    def change_rows(
        self,
        indices: NDArray[np.int64],
        *,
        service: NDArray[np.float64],
        knobs: NDArray[np.float64],
        limits: NDArray[np.float64],
        menus: SeatedMenus | None = None,
    ) -> None:
        """Give the seats ``indices`` other constants, see :meth:`seat_rows`; histories stay."""
        self._gears[indices] = 1 if menus is None else menus.gears
        self.gear[indices] = 0 if menus is None else menus.running
        self._menu[indices] = np.nan if menus is None else menus.rows
        self._service[indices] = service
        self._knobs[indices] = knobs
        self._limits[indices] = limits

    def rearranged(self, rows: NDArray[np.int64], n: int) -> Seats:
        """Return ``n`` seats, the first of them copies of ``rows`` of these, the others empty."""
        made = Seats(n, flaps_per_hour_max=self._memory.shape[1] - REVERSALS)
        for name in (*_READ, *_TAKEN, *_CARRIED_OUT, *_CONSTANT, *_ANSWERS):
            getattr(made, name)[: len(rows)] = getattr(self, name)[rows]
        return made

    def remember(self, index: int, memory: GuardrailMemory) -> None:
        """Give the guardrail of one seat another memory: what has really been changed when."""
        self._memory[index] = memory.row(self._memory.shape[1] - REVERSALS)
        self._actuators[index] = memory.actuators()

    @property
    def slo_rps(self) -> NDArray[np.float64]:
        """What one replica of each service carries in the gear it was told, not a copy."""
        return self._service[:, 0]

    def reprice(self, price: NDArray[np.float64], z: NDArray[np.float64]) -> None:
        """Set the price of a late request and the margin that follows it, shape ``(n,)`` each."""
        self._service[:, _PRICE] = price
        self._knobs[:, _Z] = z

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
        observe_some(
            indices,
            readings,
            running,
            self._row,
            self._ring,
            self._ordered,
            self._known,
            self._service,
            self._knobs,
            self.before,
            self._menu,
            self._gears,
            self.gear,
            self._limits,
            self._actuators,
            self.advice,
            self._costs,
            self.masks,
            self.observations,
        )
        return self.observations

    def asks(
        self, actions: NDArray[np.int64], running: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the replicas and gears that actions ask for, shape ``(n,)`` each.

        Args:
            actions: One index per axis, int64, shape ``(n, len(AXES))``.
            running: Replicas each service was last told to run, shape ``(n,)``.

        Raises:
            InputInvalid: The actions have another shape.
        """
        self._check(actions)
        asked, gears = np.empty(self.n, dtype=np.int64), np.empty(self.n, dtype=np.int64)
        ask_all(
            actions,
            running,
            self._ring,
            self._ordered,
            self._known,
            self._service,
            self._knobs,
            self.advice,
            self._menu,
            self._gears,
            self.gear,
            self._costs,
            asked,
            gears,
        )
        return asked, gears

    def propose(
        self,
        actions: NDArray[np.int64],
        running: NDArray[np.int64],
        now_s: NDArray[np.float64],
        strange: NDArray[np.bool_],
        *,
        taken: bool,
    ) -> Proposed:
        """Return what :meth:`decide` would grant, without taking the grants as carried out.

        Args:
            actions: See :meth:`decide` for this and the next three.
            running: Replicas each service was last told to run, shape ``(n,)``.
            now_s: Time of the decision, shape ``(n,)``.
            strange: Whose observation the policy was not trained on, shape ``(n,)``.
            taken: Whether the policy itself remembers the action and its doubts.
        """
        names = _CARRIED_OUT if taken else (*_CARRIED_OUT, *_TAKEN)
        kept = {name: getattr(self, name).copy() for name in names}
        granted = self.decide(actions, running, now_s, strange)
        proposed = Proposed(replicas=granted, gears=self.gear.copy(), reasons=self.reasons.copy())
        for name, array in kept.items():
            getattr(self, name)[:] = array
        return proposed

    def _check(self, actions: NDArray[np.int64]) -> None:
        if actions.shape != self.before.shape:
            raise InputInvalid("actions", actions.shape, f"one index per axis, {self.before.shape}")

    def decide(
        self,
        actions: NDArray[np.int64],
        running: NDArray[np.int64],
        now_s: NDArray[np.float64],
        strange: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.int64]:
        """Return the replicas granted to every service, shape ``(n,)``; the gear is noted.

        Args:
            actions: One index per axis, int64, shape ``(n, len(AXES))``.
            running: Replicas each service was last told to run, shape ``(n,)``.
            now_s: Time of the decision, shape ``(n,)``.
            strange: Whose observation the policy was not trained on, shape ``(n,)``; ``None``
                where it is in training.

        Raises:
            InputInvalid: The actions have another shape: a kernel would read beyond them.
        """
        self._check(actions)
        granted = np.empty(self.n, dtype=np.int64)
        decide_all(
            actions,
            running,
            now_s,
            self._familiar if strange is None else strange,
            self._row,
            self._ring,
            self._ordered,
            self._known,
            self._service,
            self._knobs,
            self._limits,
            self._memory,
            self.before,
            self.doubts,
            self.advice,
            self._menu,
            self._gears,
            self.gear,
            self._costs,
            self._actuators,
            granted,
            self.changed,
            self.reasons,
        )
        return granted
