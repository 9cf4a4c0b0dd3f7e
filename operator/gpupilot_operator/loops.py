"""What the leader does beside the watches: one loop keeps the objects, one decides.

Both look at the store and never at an event, so that nothing is lost when one comes late, twice or
not at all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from gpupilot_operator import kinds
from gpupilot_operator.cluster import KubeCluster
from gpupilot_operator.elector import Elector
from gpupilot_operator.kube import Connection
from gpupilot_operator.pacing import Pacing
from gpupilot_operator.pod import Platform
from gpupilot_operator.store import Store
from gpupilot_operator.sweep import is_served, sweep
from gpupilot_operator.views import Name

LOOK_S = 0.2
"""How often a loop looks whether anything is due; changes are gathered as long."""
SWEEP_S = 300.0
"""Everything is listed and looked at this often, whatever the watches said."""
AT_ONCE = 100
"""Services in one look: a thousand at once would hold up a tick for a second."""
MONITORS_S = 10.0
"""How often it is looked whether the Prometheus operator's types have come."""
APART_S = 30.0
"""Least time between two sweeps."""
AGAIN_S = 5.0
"""Until a sweep that failed is tried again."""


class Keeper:
    """Keeps the store complete, and as leader the objects of every service as they should be."""

    def __init__(
        self,
        connection: Connection,
        store: Store,
        elector: Elector,
        namespaces: tuple[str, ...],
        platform: Platform,
    ) -> None:
        """Begin with nothing listed.

        Args:
            connection: To the API server.
            store: What is kept complete.
            elector: Says whether this replica leads.
            namespaces: Those that are served; empty serves all.
            platform: What pods are like; whether there are ServiceMonitors is found out.
        """
        self.platform = platform
        self.synced = threading.Event()
        self._connection = connection
        self._store = store
        self._elector = elector
        self._namespaces = namespaces
        self._pacing = Pacing[Name]()
        self._swept_s = -SWEEP_S
        self._sweep_due_s = 0.0
        self._monitors_due_s = 0.0
        self._led = False

    def look_for_monitors(self) -> bool:
        """Find out whether there are ServiceMonitors; return what was found."""
        monitored = is_served(self._connection, kinds.MONITOR, self._namespaces)
        self.platform = replace(self.platform, has_service_monitors=monitored)
        return monitored

    def relist(self) -> None:
        """List everything soon: a watch began anew, so something may have been missed."""
        self._sweep_due_s = min(self._sweep_due_s, self._swept_s + APART_S)

    def look(self, cluster: KubeCluster, now_s: float) -> None:
        """Do what is due.

        Args:
            cluster: Where it is done.
            now_s: Seconds of a clock that never goes back.

        Raises:
            ClusterUnavailable: The sweep that was due failed; it is due again in a while.
        """
        if now_s >= self._monitors_due_s and not self.platform.has_service_monitors:
            self._monitors_due_s = now_s + MONITORS_S
            if self.look_for_monitors():
                self._sweep_due_s = now_s
        if now_s >= self._sweep_due_s:
            self._sweep(now_s)
        self._pacing.want(self._store.touched())
        leads, led = self._elector.leads(), self._led
        self._led = leads
        if not leads:
            return
        if not led:
            self._pacing.want(self._store.names())
        self._reconcile(cluster, now_s)

    def _sweep(self, now_s: float) -> None:
        self._sweep_due_s = now_s + AGAIN_S
        monitored = sweep(self._connection, self._store, self._namespaces)
        self.platform = replace(self.platform, has_service_monitors=monitored)
        self._swept_s, self._sweep_due_s = now_s, now_s + SWEEP_S
        self._pacing.want(self._store.names())
        self.synced.set()

    def _reconcile(self, cluster: KubeCluster, now_s: float) -> None:
        for at, outcome in cluster.reconcile(self._pacing.due(now_s, AT_ONCE)).items():
            if outcome.is_settled:
                self._pacing.settled(at)
            else:
                self._pacing.unsettled(at, now_s)


class Ticker:
    """Takes one decision for every service at a steady pace, as leader only."""

    def __init__(
        self,
        leads: Callable[[], bool],
        every_s: float,
        *,
        tick: Callable[[], None],
        changed: Callable[[bool], None],
    ) -> None:
        """Begin as a follower.

        Args:
            leads: Whether this replica may decide now.
            every_s: From one decision to the next.
            tick: Takes one.
            changed: Told when this replica begins to lead, and when it no longer does.
        """
        self._leads = leads
        self._every_s = every_s
        self._tick = tick
        self._changed = changed
        self._led = False
        self._due_s = 0.0

    def look(self, now_s: float) -> None:
        """Decide if it is time; a beat that was missed is left out.

        Args:
            now_s: Seconds of a clock that never goes back.
        """
        leads = self._leads()
        if leads is not self._led:
            self._led, self._due_s = leads, now_s
            self._changed(leads)
        if leads and now_s >= self._due_s:
            missed = (now_s - self._due_s) // self._every_s
            self._due_s += self._every_s * (missed + 1.0)
            self._tick()


def repeat(stop: threading.Event, every_s: float, do: Callable[[], None]) -> None:
    """Do something again and again, with a pause between, until told to stop."""
    while not stop.is_set():
        do()
        stop.wait(every_s)
