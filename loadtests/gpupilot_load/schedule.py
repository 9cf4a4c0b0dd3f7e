"""When requests are to be sent: arrival times of a rate, a trace or a recording of arrivals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.workload.arrivals import ArrivalStream, RateArrivals, SteadyArrivals
from gpupilot_envs.workload.recording import read_traffic
from gpupilot_envs.workload.trace import RateTrace, read_arrivals, scale_to

Floats = NDArray[np.float64]

REQUESTS_MAX = 50_000_000
"""Most arrivals of one schedule: 400 MB of memory."""


def arrivals_of(options: Any) -> Floats:
    """Return the arrivals that the options ask for, seconds from the start.

    Raises:
        GpupilotError: Not exactly one source is given, or a file or number is wrong.
    """
    sources = {"--rate": options.rate, "--trace": options.trace, "--arrivals": options.arrivals}
    given = [name for name, value in sources.items() if value]
    if len(given) != 1:
        said = " and ".join(given) or "none"
        raise InputInvalid("open loop", said, f"exactly one of {', '.join(sources)}")
    if options.in_flight < 1:
        raise InputInvalid("--in-flight", options.in_flight, "1 or more")
    if not options.speed > 0.0:
        raise InputInvalid("--speed", options.speed, "a number above 0")
    duration_s = options.duration or None
    if options.rate:
        if duration_s is None:
            raise InputInvalid("--duration", options.duration, "seconds, with --rate")
        return steady(options.rate, duration_s=duration_s, cv=options.cv, seed=options.seed)
    if options.arrivals:
        return exact(Path(options.arrivals), duration_s=duration_s)
    trace = trace_of(
        Path(options.trace),
        mean_rps=options.mean_rps or None,
        speed=options.speed,
        start_s=options.trace_start,
    )
    return following(trace, duration_s=duration_s, cv=options.cv, seed=options.seed)


def steady(rate_rps: float, *, duration_s: float, cv: float, seed: int) -> Floats:
    """Return arrivals at one rate, ascending seconds from 0.

    Raises:
        InputInvalid: The rate, cv or seed is out of range, or the schedule is too long.
    """
    return _drawn(SteadyArrivals(rate_rps, cv=cv, seed=seed), duration_s, rate_rps * duration_s)


def following(trace: RateTrace, *, duration_s: float | None, cv: float, seed: int) -> Floats:
    """Return arrivals that follow a trace, ascending seconds from 0; gaps of the trace are bridged.

    Args:
        trace: Rates as they are to be sent.
        duration_s: Seconds of the trace to play, ``None`` for all.
        cv: Coefficient of variation of the gaps; 1 is Poisson.
        seed: Of the gaps.
    """
    length_s = trace.duration_s if duration_s is None else min(duration_s, trace.duration_s)
    expected = trace.mean_rps * length_s
    return _drawn(RateArrivals(trace.bridged(), cv=cv, seed=seed), length_s, expected)


def trace_of(path: Path, *, mean_rps: float | None, speed: float, start_s: float) -> RateTrace:
    """Return a trace file or a recording as it is to be played.

    Args:
        path: Rate trace with columns ``t_s, rps``, or a recording.
        mean_rps: Mean rate to scale the whole trace to, ``None`` to leave it.
        speed: Seconds of the trace in one second; rates stay as they are.
        start_s: Seconds of the trace to leave out at its start.
    """
    trace = read_traffic(path)
    if mean_rps is not None:
        trace = scale_to(trace, mean_rps)
    if start_s > 0.0:
        trace = trace.sliced(start_s, trace.duration_s)
    return RateTrace(
        name=trace.name,
        family=trace.family,
        bin_s=trace.bin_s / speed,
        rps=trace.rps,
        masked=trace.masked,
    )


def exact(path: Path, *, duration_s: float | None) -> Floats:
    """Return recorded arrivals, seconds from the first."""
    times = read_arrivals(path)
    return times if duration_s is None else times[times < duration_s]


def share(arrivals: Floats, index: int, workers: int) -> Floats:
    """Return the arrivals that worker ``index`` of ``workers`` sends: every so-manieth."""
    return arrivals[index::workers]


def _drawn(stream: ArrivalStream, duration_s: float, expected: float) -> Floats:
    if expected > REQUESTS_MAX:
        raise InputInvalid("requests", f"{expected:.3g}", f"at most {REQUESTS_MAX:.3g} in one run")
    return np.array(stream.take(duration_s), dtype=np.float64)
