"""When a service is looked at again: soon after a change, later and later where nothing settles.

As client-go's rate limiting work queue: what fails, or is changed back and forth with somebody
else, waits twice as long each time; what was found as it should be is forgiven.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

FIRST_S = 0.2
MOST_S = 30.0
"""One part of a service that fails for long must not hold up what changes in another."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class _Due:
    at_s: float
    unsettled: int


class Pacing(Generic[Key]):
    """What is to be looked at, and when."""

    def __init__(self) -> None:
        """Begin with nothing to look at."""
        self._wanted: set[Key] = set()
        self._paces: dict[Key, _Due] = {}

    def want(self, keys: Iterable[Key]) -> None:
        """Ask for a look as soon as its pace allows."""
        self._wanted.update(keys)

    def due(self, now_s: float, most: int | None = None) -> list[Key]:
        """Return what is to be looked at now, and wait for it no longer.

        Args:
            now_s: Seconds of a clock that never goes back.
            most: How many at the most; the rest is due at the next look.
        """
        every = (
            key for key in self._wanted if key not in self._paces or self._paces[key].at_s <= now_s
        )
        found = list(islice(every, most))
        self._wanted.difference_update(found)
        return found

    def settled(self, key: Key) -> None:
        """Say that nothing had to be done."""
        self._paces.pop(key, None)

    def unsettled(self, key: Key, now_s: float) -> None:
        """Say that something was done or failed, so that it must be looked at again."""
        before = self._paces.get(key)
        count = 0 if before is None else before.unsettled + 1
        self._paces[key] = _Due(now_s + min(FIRST_S * 2.0 ** min(count, 30), MOST_S), count)
        self._wanted.add(key)
