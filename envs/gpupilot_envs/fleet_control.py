"""A fleet under control: reset, step and reward over arrays, without a Python loop over services.

The Gymnasium vector environment and the Stable-Baselines3 one are thin shells around it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.actions import NEUTRAL
from gpupilot_envs.controller import REFERENCE_PRICE
from gpupilot_envs.curriculum import FRESH, Curriculum
from gpupilot_envs.decision import Seats
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.fleet.world import FleetWorld
from gpupilot_envs.following import PERIOD_S
from gpupilot_envs.gears import GEARS_MAX
from gpupilot_envs.objective import reward_arrays
from gpupilot_envs.scenarios import CASE, Drawn, Scenarios
from gpupilot_envs.signals import SIGNAL_INDEX

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_AT = SIGNAL_INDEX["at_s"]
_NEUTRAL = np.array(NEUTRAL, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one decision interval brought every service, each array of shape ``(n, ...)``.

    Attributes:
        observations: After the interval; of a service that was reset, of its new episode.
        final_observations: Of the services in ``ended``, before they were reset, ``(k, fields)``.
        final_foresight: What those had ahead of them, ``(k, FORESIGHT)``.
        ended: Services whose episode was cut off by its length; nothing ever terminates.
        rewards: Sum of the terms, float32.
        terms: Named terms, shape ``(4, n)``: cost, lateness, churn, restarts.
        demand: Requests that arrived over those of an average interval.
        requests: Requests that arrived.
        late: Requests not answered within the target.
        gpu_seconds: GPU time held.
    """

    observations: NDArray[np.float32]
    final_observations: NDArray[np.float32]
    final_foresight: NDArray[np.float32]
    ended: Ints
    rewards: NDArray[np.float32]
    terms: Floats
    demand: Floats
    requests: Floats
    late: Floats
    gpu_seconds: Floats


FORESIGHT_S: Floats = np.array([0.0, 15.0, 30.0, 60.0, 120.0, 300.0])
"""Edges, seconds from now, of the spans over which a critic is told the rate to come."""

FORESIGHT = len(FORESIGHT_S) - 1
_NOTHING_AHEAD = np.zeros((0, FORESIGHT), dtype=np.float32)

ROOM = 0.1
"""Share of its saturation rate that a replica must carry at its objective not to be too tight."""

PART_S = 5.0
"""Seconds for which rates and ready pods are taken to hold."""


class FleetControl:
    """Services of a :class:`FleetWorld` whose controller an agent moves, in episodes.

    Attributes:
        n: Number of services.
        copies: How many neighbours are the same service on the same traffic.
        multipliers: Price of a late request of each of the scenarios' objectives;
            :meth:`reprice` changes it between steps.
        price: What a late request costs each service: its objective's price times its own factor.
        objective: Which of the scenarios' objectives each service has, int64, shape ``(n,)``.
        running: Replicas every service was last told to run, int64, shape ``(n,)``.
        references: Services that the classical controller runs whatever the agent says, bool,
            shape ``(n,)``: the first of each group of copies where there is a curriculum.
        curriculum: Which services come again; ``None`` where all are drawn alike.
        too_tight: Services whose target leaves hardly any room above a lone request: what is late
            there is late by chance, whatever is held ready, and tells no price; bool, ``(n,)``.
    """

    def __init__(
        self,
        n: int,
        scenarios: Scenarios,
        *,
        multiplier: float | Floats,
        copies: int = 1,
        curriculum: Curriculum | None = None,
        replicas_max: int = 64,
    ) -> None:
        """Lay out ``n`` services; :meth:`reset` fills them.

        Args:
            n: Number of services, a multiple of ``copies``.
            scenarios: Draws the services.
            multiplier: Price of a late request: one for all, or one per objective.
            copies: How many neighbours share service, traffic and chance, so that what they earn
                differs by their actions alone.
            curriculum: Lets services come again on which the classical controller still wins; it
                then runs the first of each group, so two copies are the least.
            replicas_max: Most replicas of a service.

        Raises:
            InputInvalid: ``n`` is not a multiple of ``copies``, or a curriculum has no copies.
        """
        if copies < 1 or n % copies:
            raise InputInvalid("services", n, f"a multiple of the {copies} copies")
        if curriculum is not None and copies == 1:
            raise InputInvalid("copies", copies, "2 or more with a curriculum")
        self.n = n
        self.copies = copies
        self.multipliers = np.broadcast_to(multiplier, len(scenarios.objectives)).astype(np.float64)
        self.price = np.full(n, REFERENCE_PRICE)
        self.objective = np.zeros(n, dtype=np.int64)
        self.running = np.zeros(n, dtype=np.int64)
        self.scenarios = scenarios
        self.curriculum = curriculum
        self.references = np.zeros(n, dtype=np.bool_)
        if curriculum is not None:
            self.references[::copies] = True
        self.too_tight = np.zeros(n, dtype=np.bool_)
        self._cases = np.zeros(n // copies, dtype=CASE)
        self._places = np.full(n // copies, FRESH, dtype=np.int64)
        self._paid = np.zeros(n)
        self._steps = np.zeros(n, dtype=np.int64)
        self._price_factor = np.ones(n)
        self._world = FleetWorld(
            n,
            scenarios.tables,
            scenarios.rates,
            interval_s=PERIOD_S,
            parts=max(1, round(PERIOD_S / PART_S)),
            replicas_max=replicas_max,
        )
        self._seats = Seats(n)
        self._demand_rps = np.ones(n)
        self._unit_rps = np.ones(n)
        self._unit_share = np.ones(n)
        self._tables = np.full((n, GEARS_MAX), -1, dtype=np.int64)
        self._left = np.zeros(n, dtype=np.int64)
        self._everyone = np.arange(n)

    @property
    def episode_steps(self) -> int:
        """Decisions of a whole episode."""
        return round(self.scenarios.episode_s / self._world.interval_s)

    @property
    def masks(self) -> NDArray[np.bool_]:
        """Which values of the action can be chosen now, shape ``(n, CHOICES)``; not a copy."""
        return self._seats.masks

    def reprice(self, multipliers: Floats) -> None:
        """Set the price of a late request per objective; margins that follow it move along."""
        self.multipliers = multipliers.copy()
        self._set_prices()

    def _set_prices(self) -> None:
        self.price = self.multipliers[self.objective] * self._price_factor
        controller = self.scenarios.controller
        margin = controller.z + controller.z_per_log_price * np.log(self.price / REFERENCE_PRICE)
        self._seats.reprice(self.price, np.maximum(margin, 0.0))

    def reset(self, random: np.random.Generator, *, stagger: bool) -> NDArray[np.float32]:
        """Give every service a new episode and return the observations.

        Args:
            random: Draws the services and everything about them.
            stagger: Whether the first episodes end at random times, so that later ones do not
                all end in the same step.
        """
        self._random = random
        self._seat(self._everyone)
        if stagger:
            left = random.integers(1, self.episode_steps + 1, size=self.n // self.copies)
            self._left = np.repeat(left, self.copies)
        return self._seats.observations.copy()

    def step(self, actions: Ints) -> Step:
        """Carry out one action per service, int64, shape ``(n, axes)``, and let time pass."""
        world, seats = self._world, self._seats
        chosen = actions
        if self.curriculum is not None:
            chosen = np.where(self.references[:, None], _NEUTRAL, actions)
        self.running = seats.decide(chosen, self.running, world.rows[:, _AT].copy())
        world.step(self.running, self._tables[self._everyone, seats.gear])
        self._seats.observe(self._everyone, world.rows, self.running)
        late = world.arrivals - world.in_time
        terms = self._reward_terms(seats.changed, late)
        requests, gpu_seconds = world.arrivals.copy(), world.gpu_seconds.copy()
        demand = requests / (world.interval_s * self._demand_rps)
        self._paid -= terms.sum(axis=0) * np.sqrt(REFERENCE_PRICE / self.price)
        self._steps += 1
        self._left -= 1
        ended = np.flatnonzero(self._left == 0)
        final, ahead = self._seats.observations[ended], _NOTHING_AHEAD
        if len(ended):
            ahead = self.foresight()[ended]
            self._judge(ended)
            self._seat(ended)
        return Step(
            observations=self._seats.observations.copy(),
            final_observations=final,
            final_foresight=ahead,
            ended=ended,
            rewards=terms.sum(axis=0).astype(np.float32),
            terms=terms,
            demand=demand,
            requests=requests,
            late=late,
            gpu_seconds=gpu_seconds,
        )

    def foresight(self) -> NDArray[np.float32]:
        """Return the true rates to come over what the running replicas carry, ``(n, FORESIGHT)``.

        For critics; no policy may see it.
        """
        carried = np.maximum(self.running, 1) * self._seats.slo_rps
        ahead = self._world.demand_over(FORESIGHT_S) / carried[:, None]
        return np.minimum(ahead, 8.0).astype(np.float32)

    def _reward_terms(self, changed: Ints, late: Floats) -> Floats:
        return reward_arrays(
            gpu_seconds=self._world.gpu_seconds,
            late_requests=late,
            replicas_changed=changed.astype(np.float64),
            interval_s=self._world.interval_s,
            demand_rps=self._demand_rps,
            slo_rps=self._unit_rps,
            multiplier=self.price,
            pods_replaced=self._world.restarts,
            gpu_share=self._unit_share,
        )

    def _seat(self, indices: Ints) -> None:
        """Start new episodes at ``indices`` and observe their first reading."""
        drawn = self._drawn(indices[:: self.copies] // self.copies).repeated(self.copies)
        self._world.reset(indices, drawn.episodes)
        self._seats.seat_rows(
            indices,
            service=drawn.service,
            knobs=drawn.knobs,
            limits=drawn.limits,
            menus=drawn.menus,
        )
        self.running[indices] = drawn.episodes.replicas
        self._demand_rps[indices] = drawn.demand_rps
        self._unit_rps[indices] = drawn.unit_rps
        self._unit_share[indices] = drawn.unit_share
        # a table of -1 leaves the world in the gear it is in, and costs it no look
        self._tables[indices] = np.where(drawn.menus.gears[:, None] > 1, drawn.tables, -1)
        self._left[indices] = self.episode_steps
        self._paid[indices], self._steps[indices] = 0.0, 0
        self.objective[indices] = drawn.objective
        self.too_tight[indices] = drawn.service[:, 0] < ROOM * drawn.service[:, 1]
        self._price_factor[indices] = drawn.price_factor
        self._set_prices()
        self._seats.observe(indices, self._world.rows, self.running)

    def _drawn(self, groups: Ints) -> Drawn:
        """Return new services for groups of copies, and remember what they are."""
        if self.curriculum is None:
            return self.scenarios.draw(self._random, len(groups))
        cases, places = self.curriculum.draw(self.scenarios, self._random, len(groups))
        self._cases[groups], self._places[groups] = cases, places
        return self.scenarios.cast(self._random, cases)

    def _judge(self, ended: Ints) -> None:
        """Tell the curriculum what the agent paid above the classical controller."""
        if self.curriculum is None:
            return
        groups = ended[:: self.copies] // self.copies
        # the first episodes are cut short at random, and say little
        groups = groups[2 * self._steps[groups * self.copies] >= self.episode_steps]
        paid = (self._paid / np.maximum(self._steps, 1)).reshape(-1, self.copies)[groups]
        regrets = paid[:, 1:].mean(axis=1) - paid[:, 0]
        self.curriculum.judge(self._cases[groups], self._places[groups], regrets)
