"""Whether the operator lives and may be counted on: what ``/healthz`` and ``/readyz`` answer.

A loop lives while its beats are no further apart than it said. A replica is ready when its store
holds what the cluster has and every loop it runs has gone round once; one that only stands by
runs fewer loops, and is ready with fewer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """An answer of a probe.

    Attributes:
        well: Whether all is well.
        text: One line for each thing that was looked at.
    """

    well: bool
    text: str


@dataclass(slots=True, kw_only=True)
class _Loop:
    within_s: float
    seen_s: float
    beats: int = 0
    said: str = ""


class Health:
    """Remembers when each loop went round; for any number of threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without loops, the store empty.

        Args:
            clock: Seconds that never go back.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._loops: dict[str, _Loop] = {}
        self._synced = False

    def expect(self, loop: str, *, within_s: float) -> None:
        """Expect beats of a loop from now on, no further apart than ``within_s`` seconds."""
        with self._lock:
            self._loops[loop] = _Loop(within_s=within_s, seen_s=self._clock())

    def beat(self, loop: str, said: str = "") -> None:
        """Note that a loop that is expected went round.

        Args:
            loop: Its name.
            said: What it wants to be shown, such as why Prometheus does not answer.
        """
        with self._lock:
            kept = self._loops.get(loop)
            if kept is not None:
                kept.seen_s, kept.said, kept.beats = self._clock(), said, kept.beats + 1

    def release(self, loop: str) -> None:
        """Expect a loop no longer: this replica stands by."""
        with self._lock:
            self._loops.pop(loop, None)

    def synced(self) -> None:
        """Note that the store holds what the cluster has."""
        with self._lock:
            self._synced = True

    def alive(self) -> Finding:
        """Return whether every loop goes round."""
        with self._lock:
            now_s = self._clock()
            late = [name for name, loop in self._loops.items() if _is_late(loop, now_s)]
            return Finding(well=not late, text=self._told(now_s))

    def ready(self) -> Finding:
        """Return whether the store is filled and every loop went round once."""
        with self._lock:
            begun = all(loop.beats for loop in self._loops.values())
            store = f"store: {'synced' if self._synced else 'not synced yet'}"
            text = f"{store}\n{self._told(self._clock())}"
            return Finding(well=self._synced and begun, text=text)

    def _told(self, now_s: float) -> str:
        return "\n".join(_line(name, loop, now_s) for name, loop in self._loops.items())


def _is_late(loop: _Loop, now_s: float) -> bool:
    return now_s - loop.seen_s > loop.within_s


def _line(name: str, loop: _Loop, now_s: float) -> str:
    since = "last" if loop.beats else "none yet, expected"
    told = f"{name}: {since} {now_s - loop.seen_s:.1f} s ago, at most {loop.within_s:g} s apart"
    return f"{told}; {loop.said}" if loop.said else told
