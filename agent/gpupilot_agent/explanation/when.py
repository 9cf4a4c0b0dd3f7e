"""Which moment is meant: seconds, a time of day, the worst one or the last."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from datetime import UTC, datetime

from gpupilot_agent.explanation.intervals import Intervals
from gpupilot_envs.errors import InputInvalid

WORST, LAST = "worst", "last"
ALLOWED = f"seconds, [HH:]MM:SS, a time such as 2026-01-31T12:00:00Z, {WORST} or {LAST}"
UNIX_S = 1e8
"""Clocks that begin later than this count Unix time; a simulation's begin at 0."""

_CLOCK = re.compile(r"(?:(\d+):)?([0-5]?\d):([0-5]?\d(?:\.\d+)?)")


def seconds(at: str, intervals: Intervals) -> float:
    """Return the moment on the run's clock.

    Args:
        at: Seconds on the run's clock; hours, minutes and seconds on it, counted from the run's
            start where it counts Unix time; a time of the day with its zone, such as
            ``2026-01-31T12:00:00Z``; ``worst``, the start of the interval with the most late
            requests; ``last``, the end of the run.
        intervals: What the run was like.

    Raises:
        InputInvalid: It is none of these, or there is no worst moment.
    """
    if at == WORST:
        return intervals.worst_s()
    if at == LAST:
        return intervals.end_s
    clock = _CLOCK.fullmatch(at)
    if clock is not None:
        hours, minutes, rest = (float(part or 0) for part in clock.groups())
        base_s = intervals.start_s if intervals.start_s > UNIX_S else 0.0
        return base_s + 3600.0 * hours + 60.0 * minutes + rest
    stated = time_of_day(at)
    if stated is not None:
        return stated.timestamp()
    try:
        value = float(at)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputInvalid("--at", at, ALLOWED)
    return value


def time_of_day(at: str) -> datetime | None:
    """Return a time with its zone in UTC, ``None`` where the text is none."""
    with suppress(ValueError):
        stated = datetime.fromisoformat(at)
        return None if stated.tzinfo is None else stated.astimezone(UTC)
    return None


def clock(at_s: float, intervals: Intervals) -> str:
    """Return a time on the run's clock in a form that :func:`seconds` reads again.

    That is ``HH:MM:SS``, and where the run counts Unix time, the time of the day with its zone.
    """
    if intervals.start_s > UNIX_S:
        return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")
    since_s = at_s
    minutes, rest = divmod(round(since_s, 3), 60.0)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours:02d}:{minutes:02d}:{rest:02.0f}" if rest % 1 == 0 else f"{since_s:g} s"
