"""How far a long command is: a live bar on a terminal, now and then a line elsewhere.

Everything goes to standard error, so that standard output holds the result alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    # rich takes longer to load than help may take to appear
    from rich.console import Console
    from rich.progress import Progress

PLAIN_EVERY_S = 10.0
"""Least seconds between two plain lines."""

ESTIMATE_AFTER_S = 5.0
"""Seconds after which a plain line says how long is left."""

ESTIMATE_FROM = 0.02
"""Share done from which it says so: the start-up counts for less than it seems before."""


class Meter(Protocol):
    """Told how much is done; cheap enough to be told often."""

    def __call__(self, done: float, note: str = "") -> None:
        """Set the amount done, in the unit of the total, and a short remark."""
        ...


@contextmanager
def meter(label: str, total: float) -> Iterator[Meter]:
    """Show the progress of ``total`` units of work while the block runs."""
    with meters([label], total) as (only,):
        yield only


@contextmanager
def meters(
    labels: Sequence[str], total: float, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[Sequence[Meter]]:
    """Show the progress of several works side by side, ``total`` units each."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        with _bar(console) as progress:
            yield [_meter(progress, label, total) for label in labels]
    else:
        yield [_Plain(console, label, total, clock) for label in labels]


@contextmanager
def counter(label: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show the progress of work that says itself how much there is: done, total, remark."""
    with meter(label, 1.0) as show:
        yield lambda done, total, note: show(done / max(total, 1), f"{done}/{total} {note}")


@contextmanager
def spinner(label: str) -> Iterator[None]:
    """Say that something of unknown length runs while the block does."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(label):
        yield


def _meter(progress: Progress, label: str, total: float) -> Meter:
    task = progress.add_task(label, total=total, note="")

    def show(done: float, note: str = "") -> None:
        progress.update(task, completed=done, note=note)

    return show


def _bar(console: Console) -> Progress:
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


class _Plain:
    """Writes a line when enough time has passed since the last, and one at the end."""

    def __init__(
        self, console: Console, label: str, total: float, clock: Callable[[], float]
    ) -> None:
        self._console, self._label, self._total, self._clock = console, label, total, clock
        self._began_s = self._said_s = clock()
        self._ended = False

    def __call__(self, done: float, note: str = "") -> None:
        now_s = self._clock()
        ends = done >= self._total and not self._ended
        if not ends and now_s - self._said_s < PLAIN_EVERY_S:
            return
        self._said_s, self._ended = now_s, self._ended or ends
        share = 100.0 * done / self._total if self._total else 100.0
        line = f"{self._label}: {share:.0f} % {note}".rstrip() + self._left(done, now_s)
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _left(self, done: float, now_s: float) -> str:
        """Return how long it will go on, once enough has passed to tell."""
        elapsed_s = now_s - self._began_s
        if elapsed_s < ESTIMATE_AFTER_S or not ESTIMATE_FROM * self._total <= done < self._total:
            return ""
        left_s = round(elapsed_s * (self._total - done) / done)
        return f", {left_s // 60}:{left_s % 60:02d} left"
