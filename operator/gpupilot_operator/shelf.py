"""The newest known state of every object of one kind, whatever the order in which it is told.

Watches may tell late, twice, or not at all. Versions of a resource compare, so the newest state
wins; that an object went leaves a mark, so that an older state told later does not bring it back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from gpupilot_operator.views import Name

View = TypeVar("View")

MARKS_MOST = 10_000
"""Objects that went and are remembered; the oldest are forgotten, long after any late word."""


@dataclass(frozen=True, slots=True)
class _Kept(Generic[View]):
    version: int
    view: View | None


class Shelf(Generic[View]):
    """Objects of one kind."""

    def __init__(self, group: Callable[[View], Iterable[Hashable]]) -> None:
        """Begin empty.

        Args:
            group: What an object can be looked up by, beside its name.
        """
        self._group = group
        self._kept: dict[Name, _Kept[View]] = {}
        self._groups: dict[Hashable, dict[Name, View]] = defaultdict(dict)
        self._marks: dict[Name, int] = {}

    def __len__(self) -> int:
        """Return how many objects there are."""
        return len(self._kept) - len(self._marks)

    def put(self, at: Name, version: int, view: View | None) -> tuple[View | None, bool]:
        """Take in the state of an object.

        Args:
            at: Which object.
            version: How late this state is.
            view: What it is like, ``None`` where it went.

        Returns:
            What it was like before, and whether it is different now.
        """
        before = self._kept.get(at)
        if before is not None and not _is_later(version, view, before):
            return before.view, False
        earlier = None if before is None else before.view
        self._kept[at] = _Kept(version, view)
        self._regroup(at, earlier, view)
        self._mark(at, version, gone=view is None)
        return earlier, view != earlier

    def keep(self, there: Collection[Name], version: int) -> list[View]:
        """Let go of what a list did not name, and return it.

        Args:
            there: Every object of this kind that the list named.
            version: Of the list: what is told to be later stays.
        """
        gone = [
            (at, kept.view)
            for at, kept in self._kept.items()
            if kept.view is not None and at not in there and kept.version <= version
        ]
        for at, _ in gone:
            self.put(at, version, None)
        return [view for _, view in gone]

    def get(self, at: Name) -> View | None:
        """Return an object, ``None`` where there is none."""
        kept = self._kept.get(at)
        return None if kept is None else kept.view

    def of(self, group: Hashable) -> list[View]:
        """Return the objects of a group by name."""
        found = self._groups.get(group, {})
        return [found[at] for at in sorted(found, key=lambda at: (at.namespace, at.name))]

    def views(self) -> Iterable[View]:
        """Yield every object."""
        return (kept.view for kept in self._kept.values() if kept.view is not None)

    def _regroup(self, at: Name, before: View | None, after: View | None) -> None:
        for group in () if before is None else self._group(before):
            self._groups[group].pop(at, None)
            if not self._groups[group]:
                del self._groups[group]
        if after is not None:
            for group in self._group(after):
                self._groups[group][at] = after

    def _mark(self, at: Name, version: int, *, gone: bool) -> None:
        self._marks.pop(at, None)
        if gone:
            self._marks[at] = version
        if len(self._marks) > MARKS_MOST:
            oldest = next(iter(self._marks))
            del self._marks[oldest], self._kept[oldest]


def _is_later(version: int, view: object | None, before: _Kept[View]) -> bool:
    """Say whether a state is news; of one version, that it went is the later word."""
    return (version, view is None) > (before.version, before.view is None)
