"""A fleet of services that live in steps of one decision interval."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.fleet.episodes import Episodes
from gpupilot_envs.fleet.interval import Outcome
from gpupilot_envs.fleet.pods import crash_all
from gpupilot_envs.fleet.rates import RateLibrary
from gpupilot_envs.fleet.reading import COLUMNS, KEPT
from gpupilot_envs.fleet.state import SERVICE, Silence
from gpupilot_envs.fleet.step import demand_ahead, demand_over, step_all
from gpupilot_envs.fleet.table import FleetTables
from gpupilot_envs.signals import SIGNAL_INDEX

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class FleetWorld:
    """Many services, each with its own profile, traffic, pods and metrics.

    For training only: published numbers come from the event level. Every array below has one
    row per service, is overwritten by :meth:`step` and :meth:`reset`, and must not be written.

    Attributes:
        rows: What the metrics source answers, the columns of :meth:`Signals.row`, NaN where
            missing, float64, shape ``(n, len(SIGNAL_FIELDS))``. ``at_s`` counts from the reset.
        arrivals: Requests of the last interval, whole numbers.
        in_time: Of those, answered within the target.
        errors: Of those, lost: timed out, rejected, or no pod ready.
        gpu_seconds: GPU share held, from binding to release, times seconds.
        energy_j: Energy of the shares held.
        ready: Pods that answer at the end of the interval.
        starting: Pods asked for that do not answer yet.
        scale_events: 1 where the last grant changed the number of pods, else 0.
        restarts: Pods replaced by pods of another gear.
    """

    def __init__(
        self,
        n_services: int,
        tables: FleetTables,
        rates: RateLibrary,
        *,
        interval_s: float = 15.0,
        parts: int = 3,
        replicas_max: int = 64,
    ) -> None:
        """Lay out ``n_services`` services; :meth:`reset` must fill them before the first step.

        Args:
            n_services: Number of services, 1 or more.
            tables: Fitted services to draw from.
            rates: Traffic to replay.
            interval_s: Seconds of one step, more than 0.
            parts: Parts into which a step is resolved: rates and ready pods hold for one part.
            replicas_max: Most pods a service may be granted.

        Raises:
            InputInvalid: An argument is out of range.
        """
        for name, value in (
            ("n_services", n_services),
            ("interval_s", interval_s),
            ("parts", parts),
            ("replicas_max", replicas_max),
        ):
            if not 0 < value < np.inf:
                raise InputInvalid(name, value, "a finite number above 0")
        self.n_services = n_services
        self.tables = tables
        self.rates = rates
        self.interval_s = interval_s
        self.parts = parts
        self.replicas_max = replicas_max
        self._services = np.zeros(n_services, dtype=SERVICE)
        self._random = np.zeros(n_services, dtype=np.uint64)
        self._ready_at_s = np.zeros((n_services, replicas_max))
        self._kept = np.full((n_services, KEPT, COLUMNS), np.nan)
        self._outcome = np.zeros((n_services, len(Outcome)))
        self.rows = np.full((n_services, COLUMNS), np.nan)
        self.arrivals = self._outcome[:, Outcome.ARRIVALS]
        self.in_time = self._outcome[:, Outcome.IN_TIME]
        self.errors = self._outcome[:, Outcome.ERRORS]
        self.gpu_seconds = self._outcome[:, Outcome.GPU_SECONDS]
        self.energy_j = self._outcome[:, Outcome.ENERGY_J]
        self.ready = self._outcome[:, Outcome.READY]
        self.starting = self._outcome[:, Outcome.STARTING]
        self.scale_events = self._outcome[:, Outcome.SCALE_EVENTS]
        self.restarts = self._outcome[:, Outcome.RESTARTS]
        self._kept_gears = np.full(n_services, -1, dtype=np.int64)

    def reset(self, indices: Ints, episodes: Episodes) -> None:
        """Put new services at ``indices``; row ``k`` of ``episodes`` goes to ``indices[k]``.

        Raises:
            InputInvalid: A profile, trace, number of replicas or lag is out of range.
        """
        self._check(episodes)
        plants = self.tables.plants[episodes.profile]
        fresh = np.zeros(len(episodes), dtype=SERVICE)
        fresh["profile"] = episodes.profile
        fresh["trace"] = episodes.trace
        fresh["start_s"] = episodes.start_s
        fresh["rate_scale"] = episodes.rate_scale
        fresh["dispersion"] = episodes.cv**2 - 1.0
        fresh["lag_s"] = episodes.lag_s
        fresh["cold_start_mean_s"] = plants["cold_start_mean_s"] * episodes.cold_start_scale
        fresh["crashes_per_s"] = episodes.crashes_per_hour / 3600.0
        fresh["silences_per_s"] = episodes.silences_per_hour / 3600.0
        fresh["ready"] = episodes.replicas
        fresh["next_profile"] = -1
        self._services[indices] = fresh
        self._random[indices] = episodes.seed * np.uint64(0x9E6C63D0676A9A99)
        self._kept[indices] = np.nan
        self._outcome[indices] = 0.0
        self._outcome[indices, Outcome.READY] = episodes.replicas
        self.rows[indices] = np.nan
        self.rows[indices, SIGNAL_INDEX["at_s"]] = 0.0
        self.rows[indices, SIGNAL_INDEX["window_s"]] = self.interval_s
        self.rows[indices, SIGNAL_INDEX["age_s"]] = episodes.lag_s
        self.rows[indices, SIGNAL_INDEX["replicas_ready"]] = episodes.replicas
        self.rows[indices, SIGNAL_INDEX["replicas_pending"]] = 0.0

    def step(self, replicas_granted: Ints, profiles: Ints | None = None) -> None:
        """Let one interval pass with the pods each service is granted, 0 to ``replicas_max``.

        Args:
            replicas_granted: Pods of each service.
            profiles: Gear of each service as an index into ``tables``, negative to keep the one
                it was last told; ``None`` keeps all. See :mod:`gpupilot_envs.fleet.shift`.

        Raises:
            InputInvalid: A grant or a gear is out of range.
        """
        gears = self._kept_gears if profiles is None else profiles
        if gears.max() >= len(self.tables):
            raise InputInvalid("profiles", int(gears.max()), f"less than {len(self.tables)}")
        if replicas_granted.min() < 0 or replicas_granted.max() > self.replicas_max:
            worst = replicas_granted.min() if replicas_granted.min() < 0 else replicas_granted.max()
            raise InputInvalid("replicas_granted", int(worst), f"0 to {self.replicas_max}")
        step_all(
            self._services,
            self.tables.plants,
            self.tables.steady,
            self.tables.slack,
            self.tables.levels,
            self.rates.first,
            self.rates.bin_s,
            self.rates.requests,
            self.rates.squares,
            self._random,
            self._ready_at_s,
            replicas_granted,
            gears,
            self.interval_s,
            self.parts,
            self._kept,
            self.rows,
            self._outcome,
        )

    def crash(self, indices: Ints, pods: int = 1) -> None:
        """Crash ``pods`` ready pods of each service; they restart and keep their GPU."""
        crash_all(self._services, self.tables.plants, self._ready_at_s, self._random, indices, pods)

    def silence(self, indices: Ints, seconds: float, kind: Silence) -> None:
        """Let the metrics of each service fall silent for ``seconds`` from now on."""
        self._services["silent_until_s"][indices] = self._services["elapsed_s"][indices] + seconds
        self._services["silence"][indices] = int(kind)

    def demand_ahead(self, intervals: int) -> Floats:
        """Return the true mean rate of the next intervals in requests/s, shape ``(n, intervals)``.

        For critics and bounds; no policy may see it.
        """
        out = np.empty((self.n_services, intervals))
        demand_ahead(
            self._services,
            self.rates.first,
            self.rates.bin_s,
            self.rates.requests,
            self.interval_s,
            out,
        )
        return out

    def demand_over(self, edges_s: Floats) -> Floats:
        """Return the true mean rate over spans to come in requests/s, ``(n, len(edges_s) - 1)``.

        For critics and bounds; no policy may see it.

        Args:
            edges_s: Ends of the spans in seconds from now, ascending.
        """
        out = np.empty((self.n_services, len(edges_s) - 1))
        demand_over(
            self._services,
            self.rates.first,
            self.rates.bin_s,
            self.rates.requests,
            edges_s,
            out,
        )
        return out

    @property
    def backlog(self) -> Floats:
        """Requests waiting in the queues of every service now, expected, shape ``(n,)``."""
        services = self._services
        fresh = (services["ready"] - services["stranded"]) * services["backlog_s"]
        waiting_s = fresh + services["stranded"] * services["stranded_s"]
        waiting: Floats = waiting_s * self.tables.plants["saturation_rps"][services["profile"]]
        return waiting

    def _check(self, episodes: Episodes) -> None:
        longest_lag_s = (KEPT - 1) * self.interval_s
        for name, values, high in (
            ("profile", episodes.profile, len(self.tables) - 1),
            ("trace", episodes.trace, len(self.rates.names) - 1),
            ("replicas", episodes.replicas, self.replicas_max),
            ("lag_s", episodes.lag_s, longest_lag_s),
        ):
            if len(values) and values.max() > high:
                raise InputInvalid(name, values.max().item(), f"at most {high}")
