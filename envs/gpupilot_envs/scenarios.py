"""Which services a fleet trains on: profile, traffic, size, burstiness, delays and faults drawn."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.actions import knobs_row
from gpupilot_envs.controller import REFERENCE_PRICE, Controller
from gpupilot_envs.decision import SeatedMenus
from gpupilot_envs.fleet.episodes import Episodes
from gpupilot_envs.fleet.menus import FleetMenus
from gpupilot_envs.fleet.rates import RateLibrary
from gpupilot_envs.fleet.table import FleetTables
from gpupilot_envs.guardrail import limits_row
from gpupilot_envs.limits import Limits
from gpupilot_envs.service_row import SERVICE_FIELDS

Floats = NDArray[np.float64]
Range = tuple[float, float]

CASE = np.dtype(
    [
        ("profile", np.int64),
        ("trace", np.int64),
        ("demand_replicas", np.float64),
        ("cold_start_s", np.float64),
        ("cv", np.float64),
        ("lag_s", np.float64),
        ("crashes_per_hour", np.float64),
        ("silences_per_hour", np.float64),
        ("geared", np.bool_),
        ("price_factor", np.float64),
    ]
)
"""One service on one trace: everything that is drawn but chance and the time of day."""

Cases = NDArray[np.void]
"""An array of :data:`CASE`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """Lowest and highest value of everything that differs between services.

    Attributes:
        demand_replicas: Mean demand in replicas at their capacity; drawn log-uniformly.
        cv: Variation of the gaps between arrivals inside a bin of the traffic.
        cold_start_s: Mean cold start in seconds, known to the policy; log-uniform.
        lag_s: How late metrics arrive.
        price: Factor on the price of a late request, so that one policy knows many prices;
            log-uniform.
        crashes_per_hour: Crashes of each pod, in the services that have any.
        silences_per_hour: Silences of the metrics, in the services that have any.
        faulty_share: Share of the services with crashes and silences, 0 to 1.
        geared_share: Share of the services with a menu of gears that may use it, 0 to 1; the
            others stay in the gear that was drawn.
    """

    demand_replicas: Range = (0.5, 20.0)
    cv: Range = (1.0, 2.0)
    cold_start_s: Range = (5.0, 120.0)
    lag_s: Range = (0.0, 10.0)
    price: Range = (0.4, 2.5)
    crashes_per_hour: Range = (0.05, 0.5)
    silences_per_hour: Range = (0.1, 1.0)
    faulty_share: float = 0.1
    geared_share: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """Services for ``k`` seats of a fleet.

    Attributes:
        episodes: What the world needs of them.
        service: Constants the policy divides by, shape ``(k, len(SERVICE_FIELDS))``.
        knobs: Their classical controllers, shape ``(k, len(KNOB_FIELDS))``.
        limits: Their envelopes, one row of :func:`guardrail.limits_row` each.
        demand_rps: Mean rate of each over its episode, shape ``(k,)``.
        objective: Which of :attr:`Scenarios.objectives` each has, shape ``(k,)``.
        price_factor: Factor of each on the price of a late request, shape ``(k,)``.
        menus: Their gears.
        tables: Table of each gear, -1 for none, shape ``(k, GEARS_MAX)``.
        unit_rps: What one replica of the stated gear carries, shape ``(k,)``.
        unit_share: What that replica is billed, in GPUs or cores, shape ``(k,)``.
    """

    episodes: Episodes
    service: Floats
    knobs: Floats
    limits: Floats
    demand_rps: Floats
    objective: NDArray[np.int64]
    price_factor: Floats
    menus: SeatedMenus
    tables: NDArray[np.int64]
    unit_rps: Floats
    unit_share: Floats

    def repeated(self, copies: int) -> Drawn:
        """Return every service ``copies`` times in a row, its randomness included."""
        rows = np.repeat(np.arange(len(self.demand_rps)), copies)
        columns = {part.name: getattr(self.episodes, part.name)[rows] for part in fields(Episodes)}
        return Drawn(
            episodes=Episodes(**columns),
            service=self.service[rows],
            knobs=self.knobs[rows],
            limits=self.limits[rows],
            demand_rps=self.demand_rps[rows],
            objective=self.objective[rows],
            price_factor=self.price_factor[rows],
            menus=SeatedMenus(
                rows=self.menus.rows[rows],
                gears=self.menus.gears[rows],
                running=self.menus.running[rows],
            ),
            tables=self.tables[rows],
            unit_rps=self.unit_rps[rows],
            unit_share=self.unit_share[rows],
        )


LEAST_DEMAND = 0.5
"""Replicas of mean demand below which an episode weighs as if it had so many.

Most of what an idle hour costs is the replica that waits; divided by the hour's own demand it
would drown every other service.
"""

FULLEST = 0.75
"""Share of the quota that the busiest minute of a service's traffic may need."""


class Scenarios:
    """Draws services from tables of profiles and a library of traffic."""

    def __init__(
        self,
        tables: FleetTables,
        rates: RateLibrary,
        *,
        batch_max: Sequence[int],
        controller: Controller,
        limits: Limits,
        episode_s: float,
        ranges: Ranges,
        menus: FleetMenus | None = None,
    ) -> None:
        """Keep what is drawn from.

        Args:
            tables: Fitted profiles.
            rates: Traffic to replay, any scale.
            batch_max: Largest batch of each profile of ``tables``.
            controller: Classical controller of every service.
            limits: Envelope of every service.
            episode_s: Length of an episode in seconds.
            ranges: What differs between services.
            menus: Which tables are gears of one service; ``None`` where none are.
        """
        self.tables = tables
        self.rates = rates
        self.episode_s = episode_s
        self.objectives: tuple[float, ...] = tuple(
            np.unique(tables.plants["attainment_ratio"]).tolist()
        )
        self._batch_max = np.array(batch_max, dtype=np.float64)
        self._peaks = busiest_minutes(rates)
        self.controller = controller
        self._limits = limits
        self.ranges = ranges
        self._menus = FleetMenus.none(tables) if menus is None else menus

    def moving(self, controller: Controller) -> Scenarios:
        """Return the same services over another classical controller."""
        same = copy(self)
        same.controller = controller
        return same

    def meeting(self, rates: RateLibrary) -> Scenarios:
        """Return the same services on other traffic."""
        same = copy(self)
        same.rates, same._peaks = rates, busiest_minutes(rates)
        return same

    def priced_alike(self) -> Scenarios:
        """Return the same services with no factors on the price of a late request."""
        same = copy(self)
        same.ranges = replace(self.ranges, price=(1.0, 1.0))
        return same

    def draw(self, random: np.random.Generator, k: int) -> Drawn:
        """Return ``k`` services; the same generator state gives the same services."""
        return self.cast(random, self.cases(random, k))

    def cases(self, random: np.random.Generator, k: int) -> Cases:
        """Return ``k`` services on traces, shape ``(k,)``, all equally likely."""
        ranges = self.ranges
        cases = np.empty(k, dtype=CASE)
        cases["profile"] = random.integers(len(self.tables), size=k)
        cases["trace"] = random.integers(len(self.rates.duration_s), size=k)
        demand = _log_uniform(random, ranges.demand_replicas, k)
        fullest = FULLEST * self._limits.replicas_max / self._peaks[cases["trace"]]
        cases["demand_replicas"] = np.minimum(demand, fullest)
        cases["cold_start_s"] = _log_uniform(random, ranges.cold_start_s, k)
        faulty = random.uniform(size=k) < ranges.faulty_share
        cases["cv"] = random.uniform(*ranges.cv, size=k)
        cases["lag_s"] = random.uniform(*ranges.lag_s, size=k)
        cases["crashes_per_hour"] = faulty * random.uniform(*ranges.crashes_per_hour, size=k)
        cases["silences_per_hour"] = faulty * random.uniform(*ranges.silences_per_hour, size=k)
        cases["geared"] = random.uniform(size=k) < ranges.geared_share
        cases["price_factor"] = _log_uniform(random, ranges.price, k)
        return cases

    def cast(self, random: np.random.Generator, cases: Cases) -> Drawn:
        """Return the services of ``cases`` at random times of their traces, with new chance."""
        k, trace, cold_start_s = len(cases), cases["trace"], cases["cold_start_s"]
        start_s = random.uniform(0.0, 1.0, size=k) * self.rates.duration_s[trace]
        mean, first = self._window(trace, start_s)
        plants = self.tables.plants[cases["profile"]]
        scale = cases["demand_replicas"] * plants["slo_rps"] / self.rates.mean_rps[trace]
        unit_rps = self._menus.unit_rps[cases["profile"]]
        episodes = Episodes.of(
            random.integers(2**62, size=k),
            profile=cases["profile"],
            trace=trace,
            start_s=start_s,
            rate_scale=scale,
            cv=cases["cv"],
            replicas=self._start(first * scale / plants["slo_rps"]),
            lag_s=cases["lag_s"],
            cold_start_scale=cold_start_s / plants["cold_start_mean_s"],
            crashes_per_hour=cases["crashes_per_hour"],
            silences_per_hour=cases["silences_per_hour"],
        )
        return Drawn(
            episodes=episodes,
            service=self._service(cases["profile"], plants, cold_start_s),
            knobs=np.stack([knobs_row(self.controller.knobs(s)) for s in cold_start_s]),
            limits=np.tile(limits_row(self._limits), (k, 1)),
            demand_rps=np.maximum(mean * scale, LEAST_DEMAND * unit_rps),
            objective=np.searchsorted(self.objectives, plants["attainment_ratio"]),
            price_factor=cases["price_factor"],
            menus=self._seated(cases),
            tables=self._menus.tables[cases["profile"]],
            unit_rps=unit_rps,
            unit_share=self._menus.unit_share[cases["profile"]],
        )

    def _seated(self, cases: Cases) -> SeatedMenus:
        """Return the gears of each service; one that may not use its menu has one gear."""
        menus, table = self._menus, cases["profile"]
        gears = np.where(cases["geared"], menus.gears[table], 1)
        return SeatedMenus(
            rows=menus.rows[table],
            gears=gears,
            running=np.where(gears > 1, menus.place[table], 0),
        )

    def _start(self, need: Floats) -> NDArray[np.int64]:
        """Return pods that carry the first minutes with a quarter to spare."""
        pods = np.ceil(1.25 * need)
        lowest = max(self._limits.replicas_min, 1)
        return np.clip(pods, lowest, self._limits.replicas_max).astype(np.int64)

    def _window(self, trace: NDArray[np.int64], start_s: Floats) -> tuple[Floats, Floats]:
        """Return the mean rates over the episode and over its first five minutes, unscaled."""
        before = _requests_until(self.rates, trace, start_s)
        mean, first = (
            (_requests_until(self.rates, trace, start_s + span_s) - before) / span_s
            for span_s in (self.episode_s, 300.0)
        )
        return mean, first

    def _service(
        self, profile: NDArray[np.int64], plants: NDArray[np.void], cold_start_s: Floats
    ) -> Floats:
        k = len(profile)
        columns = {
            "slo_rps": plants["slo_rps"],
            "saturation_rps": plants["saturation_rps"],
            "idle_latency_s": plants["idle_latency_s"],
            "target_s": plants["target_s"],
            "attainment_ratio": plants["attainment_ratio"],
            "cold_start_s": cold_start_s,
            "batch_max": self._batch_max[profile],
            "replicas_max": np.full(k, float(self._limits.replicas_max)),
            "stale_after_s": np.full(k, self._limits.stale_after_s),
            "gpu_share_milli": 1000.0 * plants["gpu_share"],
            "price": np.full(k, REFERENCE_PRICE),
        }
        return np.stack([columns[name] for name in SERVICE_FIELDS], axis=1)


def _log_uniform(random: np.random.Generator, bounds: Range, k: int) -> Floats:
    low, high = np.log(bounds[0]), np.log(bounds[1])
    return np.asarray(np.exp(random.uniform(low, high, size=k)), dtype=np.float64)


def _requests_until(rates: RateLibrary, trace: NDArray[np.int64], at_s: Floats) -> Floats:
    """Return expected requests from a trace's start to ``at_s``, unscaled; it repeats."""
    first, bins = rates.first[trace], np.diff(rates.first)[trace] - 1
    turns, position = np.divmod(at_s / rates.bin_s[trace], bins)
    edge = np.minimum(position.astype(np.int64), bins - 1)
    below, above = rates.requests[first + edge], rates.requests[first + edge + 1]
    within = below + (position - edge) * (above - below)
    return np.asarray(turns * rates.requests[first + bins] + within, dtype=np.float64)


def busiest_minutes(rates: RateLibrary) -> Floats:
    """Return the busiest minute of each trace over its mean."""
    out = np.empty(len(rates.names))
    for trace in range(len(out)):
        edges = rates.requests[rates.first[trace] : rates.first[trace + 1]]
        bins = min(max(round(60.0 / rates.bin_s[trace]), 1), len(edges) - 1)
        busiest = (edges[bins:] - edges[:-bins]).max() / (bins * rates.bin_s[trace])
        out[trace] = max(busiest / rates.mean_rps[trace], 1.0)
    return out
