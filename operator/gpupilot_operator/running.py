"""The operator's parts put together: watches feed a store, one replica leads, two loops work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from gpupilot_operator import lease
from gpupilot_operator.cluster import KubeCluster
from gpupilot_operator.elector import Elector
from gpupilot_operator.kinds import Kind
from gpupilot_operator.kube import LEASE_TIMEOUT_S, Connection, Counted
from gpupilot_operator.loops import LOOK_S, Keeper, repeat
from gpupilot_operator.settings import Settings
from gpupilot_operator.store import Store

STOP_WITHIN_S = 20.0
"""Longest wait for what is being written when told to stop."""

Guarded = Callable[[Callable[[], None]], Callable[[], None]]
"""Makes a beat of a loop that fails in an unforeseen way a line in the log."""


class Running:
    """One replica of the operator."""

    def __init__(self, settings: Settings, counted: Counted, guarded: Guarded) -> None:
        """Connect, and begin nothing yet.

        Args:
            settings: What its environment says.
            counted: Told of every request to the Kubernetes API.
            guarded: What keeps a loop going.

        Raises:
            ClusterUnavailable: Nobody says where the API server is.
        """
        self.store = Store()
        self._settings = settings
        self._guarded = guarded
        self._stop, self._last = threading.Event(), threading.Event()
        self._to_lead = Connection(
            may_write=lambda: True, counted=counted, timeout_s=LEASE_TIMEOUT_S
        )
        leases = lease.KubeLeases(self._to_lead, settings.lease_namespace, settings.lease_name)
        self.elector = Elector(leases, settings.identity, clock=lease.clock, written=lease.written)
        self._connection = Connection(may_write=self.elector.leads, counted=counted)
        self.keeper = Keeper(
            self._connection, self.store, self.elector, settings.namespaces, settings.platform
        )
        self.cluster = KubeCluster(
            self._connection,
            self.store,
            lambda: self.keeper.platform,
            identity=settings.identity,
        )
        self._threads: list[threading.Thread] = []

    def start(self, tick: Callable[[], None]) -> None:
        """Begin to take part in the election and to work.

        Args:
            tick: One decision for every service; called on the leader alone, once the store is
                complete.
        """
        self._begin("elect", lambda: self.elector.run(self._last))
        self._begin("keep", lambda: self._repeat(LOOK_S, self._keep))
        self._begin("tick", lambda: self._repeat(self._settings.tick_s, lambda: self._tick(tick)))

    def stop(self) -> None:
        """End the work, then give the lease up: another may begin when nothing of ours is left."""
        self._stop.set()
        elect, *works = self._threads
        for work in works:
            work.join(STOP_WITHIN_S)
        self.cluster.close()
        self._last.set()
        elect.join(STOP_WITHIN_S)
        self._connection.close()
        self._to_lead.close()

    def see(self, kind: Kind, change: str | None, body: Mapping[str, Any]) -> None:
        """Take in an event of a watch; one without a change is of a watch that began anew."""
        self.store.see(kind, change, body)
        if change is None:
            self.keeper.relist()

    def _keep(self) -> None:
        self.keeper.look(self.cluster, time.monotonic())

    def _tick(self, tick: Callable[[], None]) -> None:
        if self.elector.leads() and self.keeper.synced.is_set():
            tick()

    def _repeat(self, every_s: float, do: Callable[[], None]) -> None:
        repeat(self._stop, every_s, time.monotonic, self._guarded(do))

    def _begin(self, name: str, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
