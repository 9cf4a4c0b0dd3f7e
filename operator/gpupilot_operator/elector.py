"""One leader among the operator's replicas, by a Lease: client-go's algorithm, with its own fence.

``k8s.io/client-go/tools/leaderelection``: a record that somebody else holds is left alone until it
has not changed for its duration by *our* clock, so no two clocks are compared. The leader renews
every :data:`RETRY_S`; one that has not been able to for :data:`RENEW_WITHIN_S` leads no more, which
is before anybody may take over. Whoever writes asks :meth:`Elector.leads` right before, so that
a process that was stopped and goes on finds out by its own clock that its time is over.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from gpupilot_envs.errors import ClusterUnavailable

LEASE_S = 10.0
"""How long a leader that is gone keeps others out. With it a take-over is within 15 s."""
RENEW_WITHIN_S = 7.0
RETRY_S = 1.5
JITTER = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A Lease.

    Attributes:
        holder: Who leads, empty where nobody does.
        lease_s: How long it is kept without being renewed.
        acquired: When its holder took it, as it was written.
        renewed: When its holder last renewed it, as it was written.
        transitions: How often it went from one to another.
        version: Which state this is; a write to another one is refused.
    """

    holder: str
    lease_s: float
    acquired: str
    renewed: str
    transitions: int
    version: str | None = None


class Leases(Protocol):
    """Where the record is kept."""

    def read(self) -> Record | None:
        """Return the record, ``None`` where there is none yet.

        Raises:
            ClusterUnavailable: It cannot be read.
        """
        ...

    def write(self, record: Record) -> Record:
        """Write the record over the state it was read as, or make it; return it as it is now.

        Raises:
            ClusterUnavailable: It was changed meanwhile, or cannot be written.
        """
        ...


class Elector:
    """One replica's part in the election; :meth:`leads` may be asked by any thread."""

    def __init__(
        self,
        leases: Leases,
        identity: str,
        *,
        clock: Callable[[], float],
        written: Callable[[], str],
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Take part as a follower.

        Args:
            leases: Where the record is kept.
            identity: Who we are; no two replicas are the same.
            clock: Seconds that pass also while the process is stopped.
            written: The time of day as it is written into the record, for people.
            draw: From 0 to 1, so that replicas do not try in step.
        """
        self._leases = leases
        self._identity = identity
        self._clock = clock
        self._written = written
        self._draw = draw
        self._observed: Record | None = None
        self._observed_s = 0.0
        self._renewed_s: float | None = None
        self._failed = False

    def leads(self) -> bool:
        """Say whether this replica leads now, and nobody else can have taken over yet."""
        renewed_s = self._renewed_s
        return renewed_s is not None and self._clock() < renewed_s + RENEW_WITHIN_S

    def attempt(self) -> None:
        """Try once to renew the lease, or to take it where it is free."""
        begun_s = self._clock()
        try:
            found = self._observed if self.leads() and not self._failed else self._looked()
            if found is not None and self._is_another_s(found):
                self._renewed_s = None
                return
            self._observe(self._leases.write(self._ours(found)))
        except ClusterUnavailable:
            self._failed = True
            return
        self._failed = False
        # by the time of asking: the others count from when they saw it, which is later
        self._renewed_s = begun_s

    def release(self) -> None:
        """Give the lease up, so that another may take it at once."""
        found, led = self._observed, self.leads()
        self._renewed_s = None
        if not led or found is None:
            return
        with suppress(ClusterUnavailable):
            self._leases.write(replace(found, holder="", lease_s=1.0, renewed=self._written()))

    def run(self, stop: threading.Event) -> None:
        """Take part until told to stop, then give the lease up."""
        while not stop.is_set():
            self.attempt()
            stop.wait(RETRY_S * (1.0 + JITTER * self._draw()))
        self.release()

    def _looked(self) -> Record | None:
        found = self._leases.read()
        if found is not None and found != self._observed:
            self._observe(found)
        return found

    def _observe(self, record: Record) -> None:
        self._observed, self._observed_s = record, self._clock()

    def _is_another_s(self, found: Record) -> bool:
        """Say whether somebody else holds the lease and may still be there."""
        if found.holder in ("", self._identity):
            return False
        return self._clock() < self._observed_s + found.lease_s

    def _ours(self, found: Record | None) -> Record:
        now, taken = self._written(), found is None or found.holder != self._identity
        before = 0 if found is None else found.transitions
        return Record(
            holder=self._identity,
            lease_s=LEASE_S,
            acquired=now if taken or found is None else found.acquired,
            renewed=now,
            transitions=before + 1 if taken and found is not None else before,
            version=None if found is None else found.version,
        )
