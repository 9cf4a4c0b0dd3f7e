"""Which load a run means: arrivals at a rate or along traffic, or users who wait."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from gpupilot_agent.campaign.declaration import Run
from gpupilot_agent.campaign.generator import CLOSED, OPEN, Load
from gpupilot_envs.workload.generators import generate
from gpupilot_envs.workload.trace import RateTrace, scale_to, write_trace

IN_FLIGHT = 4096
"""More than ever wait here: a bound would make a closed loop of an overload."""

SATURATION_WARM_UP_S = 3.0
BATCHES_WAITING = 3
"""Batches for every instance that wait or execute while saturation is measured."""

TRACE = "trace.parquet"


def saturating(run: Run, *, host: str, folder: Path, realtime: bool) -> Load:
    """Return users who do not pause, so many that the servers never run out of requests."""
    service = run.service()
    batch = service.batching.max_batch if service.batching.enabled else 1
    users = 4 + BATCHES_WAITING * batch * service.instances_per_replica * run.replicas
    usual = _usual(run, host=host, folder=folder, realtime=realtime)
    length_s = SATURATION_WARM_UP_S + run.saturation_s
    return replace(
        usual,
        script=CLOSED,
        options=("-u", str(users), "-r", str(users)),
        warm_up_s=SATURATION_WARM_UP_S,
        length_s=length_s,
    )


def load_of(run: Run, saturation_rps: float, *, host: str, folder: Path, realtime: bool) -> Load:
    """Return the load of a run; traffic that varies is written beside it.

    Args:
        run: As declared.
        saturation_rps: What its ``load`` is a share of.
        host: The gateway.
        folder: Where the load's files go.
        realtime: Whether it runs before everything else.

    Raises:
        OutputRefused: The traffic cannot be written.
    """
    usual = _usual(run, host=host, folder=folder, realtime=realtime)
    if run.users is not None:
        options = ("-u", str(run.users), "-r", str(run.users), "--think-s", f"{run.think_s:g}")
        return replace(usual, script=CLOSED, options=options)
    common = ("--in-flight", str(IN_FLIGHT), "--cv", f"{run.cv:g}")
    if run.traffic is None:
        rate = ("--rate", f"{offered_rps(run, saturation_rps):g}")
        return replace(usual, options=(*rate, "--duration", f"{usual.length_s:g}", *common))
    write_trace(folder / TRACE, traffic_of(run, saturation_rps))
    return replace(usual, options=("--trace", str(folder / TRACE), *common))


def offered_rps(run: Run, saturation_rps: float) -> float:
    """Return the mean rate of an open loop, to a thousandth of a request per second."""
    assert run.load is not None  # the declaration says so of an open loop
    return round(run.load * saturation_rps, 3)


def traffic_of(run: Run, saturation_rps: float) -> RateTrace:
    """Return the traffic of a run: generated, scaled to its mean, its highest peaks cut."""
    assert run.traffic is not None  # asked of runs with traffic alone
    made = generate(
        run.traffic.of(),
        duration_s=run.warm_up_s + run.duration_s,
        bin_s=run.traffic.bin_s,
        seed=run.seed,
    )
    scaled = scale_to(made, offered_rps(run, saturation_rps))
    return replace(scaled, rps=np.minimum(scaled.rps, run.traffic.peak * saturation_rps))


def _usual(run: Run, *, host: str, folder: Path, realtime: bool) -> Load:
    return Load(
        script=OPEN,
        options=(),
        host=host,
        target_ms=run.target_ms,
        warm_up_s=run.warm_up_s,
        length_s=run.warm_up_s + run.duration_s,
        seed=run.seed,
        folder=folder,
        lag_limit_ms=run.lag_limit_ms,
        realtime=realtime,
    )
