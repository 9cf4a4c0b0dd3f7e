"""How fast arrivals, generated traffic and fits are made on one core.

Usage: ``python benchmarks/bench_workload.py`` prints one line per measurement, in CPU seconds of
this process (``time.process_time``), the median of five runs after a warm-up.
"""

from __future__ import annotations

import numpy as np
from cpu_time import cpu_s

from gpupilot_envs.workload.arrivals import RateArrivals
from gpupilot_envs.workload.fitting import fit
from gpupilot_envs.workload.generators import generate
from gpupilot_envs.workload.randomisation import random_traffic
from gpupilot_envs.workload.regimes import RegimesParams
from gpupilot_envs.workload.trace import DAY_S, RateTrace

HOUR = RateTrace(
    name="hour", bin_s=15.0, rps=5000.0 + 3000.0 * np.sin(np.arange(240) / 20.0), family="bench"
)


def windows(cv: float, step_s: float) -> int:
    """Take an hour of arrivals window by window, as the event-level world does."""
    stream = RateArrivals(HOUR, cv=cv, seed=1)
    return sum(len(stream.take(until_s)) for until_s in np.arange(step_s, 3600.0 + step_s, step_s))


def main() -> None:
    """Measure and print."""
    for cv in (1.0, 0.5, 2.0, 4.0):
        for step_s in (60.0, 1.0):
            count = windows(cv, step_s)
            rate = count / cpu_s(lambda cv=cv, step_s=step_s: windows(cv, step_s))  # type: ignore[misc]
            print(f"arrivals, cv {cv:g}, taken by {step_s:g} s: {rate / 1e6:.0f} M/s")
    hours = cpu_s(lambda: [random_traffic(s, duration_s=3600.0, bin_s=1.0) for s in range(100)])
    print(f"random traffic, an hour at 1 s: {hours * 10:.2f} ms")
    days = generate(RegimesParams(), duration_s=14 * DAY_S, bin_s=60.0, seed=1).scaled(200.0)
    print(f"fit of every family to 14 days at 1 min: {cpu_s(lambda: fit(days)):.2f} s")


if __name__ == "__main__":
    main()
