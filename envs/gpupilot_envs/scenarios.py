"""Which services a fleet trains on: profile, traffic, size, burstiness, delays and faults drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.actions import Controller, knobs_row
from gpupilot_envs.fleet.episodes import Episodes
from gpupilot_envs.fleet.rates import RateLibrary
from gpupilot_envs.fleet.table import FleetTables
from gpupilot_envs.guardrail import limits_row
from gpupilot_envs.limits import Limits
from gpupilot_envs.observation import SERVICE_FIELDS

Floats = NDArray[np.float64]
Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """Lowest and highest value of everything that differs between services.

    Attributes:
        demand_replicas: Mean demand in replicas at their capacity; drawn log-uniformly.
        cv: Variation of the gaps between arrivals inside a bin of the traffic.
        cold_start_scale: Factor on the profile's cold start, known to the policy; log-uniform.
        lag_s: How late metrics arrive.
        crashes_per_hour: Crashes of each pod, in the services that have any.
        silences_per_hour: Silences of the metrics, in the services that have any.
        faulty_share: Share of the services with crashes and silences, 0 to 1.
    """

    demand_replicas: Range = (1.5, 16.0)
    cv: Range = (1.0, 1.5)
    cold_start_scale: Range = (0.5, 3.0)
    lag_s: Range = (0.0, 10.0)
    crashes_per_hour: Range = (0.05, 0.5)
    silences_per_hour: Range = (0.1, 1.0)
    faulty_share: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """Services for ``k`` seats of a fleet.

    Attributes:
        episodes: What the world needs of them.
        service: Constants the policy divides by, shape ``(k, len(SERVICE_FIELDS))``.
        knobs: Their classical controllers, shape ``(k, 7)``.
        limits: Their envelopes, one row of :func:`guardrail.limits_row` each.
        demand_rps: Mean rate of each over its episode, shape ``(k,)``.
    """

    episodes: Episodes
    service: Floats
    knobs: Floats
    limits: Floats
    demand_rps: Floats

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
        )


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
        """
        self.tables = tables
        self.rates = rates
        self.episode_s = episode_s
        self._batch_max = np.array(batch_max, dtype=np.float64)
        self._controller = controller
        self._limits = limits
        self._ranges = ranges

    def moving(self, controller: Controller) -> Scenarios:
        """Return the same services over another classical controller."""
        return Scenarios(
            self.tables,
            self.rates,
            batch_max=self._batch_max.astype(int).tolist(),
            controller=controller,
            limits=self._limits,
            episode_s=self.episode_s,
            ranges=self._ranges,
        )

    def draw(self, random: np.random.Generator, k: int) -> Drawn:
        """Return ``k`` services; the same generator state gives the same services."""
        ranges, duration_s = self._ranges, self.rates.duration_s
        profile = random.integers(len(self.tables), size=k)
        trace = random.integers(len(duration_s), size=k)
        start_s = random.uniform(0.0, 1.0, size=k) * duration_s[trace]
        mean, first = self._window(trace, start_s)
        plants = self.tables.plants[profile]
        scale = _log_uniform(random, ranges.demand_replicas, k) * plants["slo_rps"]
        scale /= self.rates.mean_rps[trace]
        cold_start = _log_uniform(random, ranges.cold_start_scale, k)
        faulty = random.uniform(size=k) < ranges.faulty_share
        need = first * scale / plants["slo_rps"]
        episodes = Episodes.of(
            random.integers(2**62, size=k),
            profile=profile,
            trace=trace,
            start_s=start_s,
            rate_scale=scale,
            cv=random.uniform(*ranges.cv, size=k),
            replicas=self._start(need),
            lag_s=random.uniform(*ranges.lag_s, size=k),
            cold_start_scale=cold_start,
            crashes_per_hour=faulty * random.uniform(*ranges.crashes_per_hour, size=k),
            silences_per_hour=faulty * random.uniform(*ranges.silences_per_hour, size=k),
        )
        cold_start_s = plants["cold_start_mean_s"] * cold_start
        return Drawn(
            episodes=episodes,
            service=self._service(profile, plants, cold_start_s),
            knobs=np.stack([knobs_row(self._controller.knobs(s)) for s in cold_start_s]),
            limits=np.tile(limits_row(self._limits), (k, 1)),
            demand_rps=np.maximum(mean * scale, 0.05 * plants["slo_rps"]),
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
