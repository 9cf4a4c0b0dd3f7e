"""The operator's parts put together: watches feed a store, one replica leads, two loops work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from gpupilot_operator import kinds, lease
from gpupilot_operator.cluster import KubeCluster
from gpupilot_operator.control import tick
from gpupilot_operator.elector import Elector
from gpupilot_operator.exporter import Exporter
from gpupilot_operator.health import Health
from gpupilot_operator.journal import Journal
from gpupilot_operator.kinds import Kind
from gpupilot_operator.kube import LEASE_TIMEOUT_S, Connection, Request
from gpupilot_operator.loops import LOOK_S, Keeper, Ticker, repeat
from gpupilot_operator.memory import State
from gpupilot_operator.metrics import LiveMetrics
from gpupilot_operator.narrator import Narrator
from gpupilot_operator.ports import Ports
from gpupilot_operator.resting import Resting
from gpupilot_operator.settings import Settings
from gpupilot_operator.store import Store
from gpupilot_operator.sweep import is_served

STOP_WITHIN_S = 20.0
"""Longest wait for what is being written when told to stop."""
KEEP_WITHIN_S = 120.0
"""A look at everything may take this long: a list of thousands, from a server that is slow."""
TICKS_MISSED = 8
"""Ticks that may be missed before the process is said to hang."""

Guarded = Callable[[Callable[[], None]], Callable[[], None]]
"""Makes a beat of a loop that fails in an unforeseen way a line in the log."""


class Running:
    """One replica of the operator."""

    def __init__(self, settings: Settings, guarded: Guarded) -> None:
        """Connect, and begin nothing yet.

        Args:
            settings: What its environment says.
            guarded: What keeps a loop going.

        Raises:
            ClusterUnavailable: Nobody says where the API server is.
        """
        self.exporter, self.health = Exporter(), Health()
        self._settings, self._guarded = settings, guarded
        self._stop, self._last = threading.Event(), threading.Event()
        self._store, self._state = Store(), State()
        self._narrator, self._resting = Narrator(), Resting()
        self._to_lead = Connection(
            may_write=lambda: True, counted=self._counted, timeout_s=LEASE_TIMEOUT_S
        )
        leases = lease.KubeLeases(self._to_lead, settings.lease_namespace, settings.lease_name)
        self._elector = Elector(leases, settings.identity, clock=lease.clock, written=lease.written)
        self._connection = Connection(may_write=self._elector.leads, counted=self._counted)
        self._keeper = Keeper(
            self._connection, self._store, self._elector, settings.namespaces, settings.platform
        )
        self._cluster = KubeCluster(
            self._connection,
            self._store,
            lambda: self._keeper.platform,
            identity=settings.identity,
        )
        self._metrics = LiveMetrics(
            settings.prometheus, window_s=settings.window_s, names=settings.metric_names
        )
        self._journal = Journal(settings.state_dir)
        self._threads: list[threading.Thread] = []

    def look_around(self) -> bool:
        """Find out what can be watched; say whether InferenceServices are, ours to see."""
        self._keeper.look_for_monitors()
        return is_served(self._connection, kinds.INFERENCE_SERVICE, self._settings.namespaces)

    def watched(self) -> tuple[Kind, ...]:
        """Return the kinds that there are to be watched, as far as is known."""
        has_monitors = self._keeper.platform.has_service_monitors
        return kinds.WITH_MONITORS if has_monitors else kinds.ALWAYS

    def start(self) -> None:
        """Begin to take part in the election and to work."""
        ticker = Ticker(
            self._may_decide, self._settings.tick_s, tick=self._tick, changed=self._changed
        )
        self.health.expect("keep", within_s=KEEP_WITHIN_S)
        self._begin("elect", lambda: self._elector.run(self._last))
        self._begin("keep", self._beats(self._keep))
        self._begin("tick", self._beats(lambda: self._decide(ticker)))

    def stop(self) -> None:
        """End the work, then give the lease up: another may begin when nothing of ours is left."""
        self._stop.set()
        elect, *works = self._threads
        for work in works:
            work.join(STOP_WITHIN_S)
        self._cluster.close()
        self._resting.end()
        self._last.set()
        elect.join(STOP_WITHIN_S)
        self._journal.close()
        self._metrics.close()
        self._connection.close()
        self._to_lead.close()

    def see(self, kind: Kind, change: str | None, body: Mapping[str, Any]) -> None:
        """Take in an event of a watch; one without a change is of a watch that began anew."""
        self._store.see(kind, change, body)
        if change is None:
            self._keeper.relist()

    def missed(self) -> None:
        """Have everything listed soon: for a while nobody told what happened."""
        self._keeper.relist()

    def _keep(self) -> None:
        self._keeper.look(self._cluster, time.monotonic())
        self.health.beat("keep")
        if self._keeper.synced.is_set():
            self.health.synced()

    def _decide(self, ticker: Ticker) -> None:
        ticker.look(time.monotonic())
        self._resting.rest(time.monotonic())

    def _tick(self) -> None:
        ports = Ports(cluster=self._cluster, metrics=self._metrics, log=self._journal)
        with self._narrator.deciding(lambda: len(self._store.names())):
            report = tick(ports, self._state, time.time())
        self.exporter.report(report)
        self._narrator.report(report)
        self.health.beat("tick", report.query_error or "")

    def _may_decide(self) -> bool:
        return self._elector.leads() and self._keeper.synced.is_set()

    def _changed(self, leads: bool) -> None:
        """Begin anew: what this replica saw before it led, or led last, is of another time."""
        self._state.forget()
        self.exporter.leading(leads)
        if leads:
            self.health.expect("tick", within_s=TICKS_MISSED * self._settings.tick_s)
        else:
            self.health.release("tick")

    def _counted(self, request: Request, status: int) -> None:
        self.exporter.api_call(verb=request.verb, resource=request.resource, code=status)

    def _beats(self, do: Callable[[], None]) -> Callable[[], None]:
        return lambda: repeat(self._stop, LOOK_S, self._guarded(do))

    def _begin(self, name: str, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
