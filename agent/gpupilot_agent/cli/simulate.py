"""``gpupilot simulate``: a fixed number of replicas under given traffic, no controller.

How the simulator's fidelity is measured: drive a real Triton with the same arrivals and compare.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpupilot_agent.cli import options, show
from gpupilot_agent.cli.checks import RATE_MAX_RPS, REQUESTS_MAX, plausible, positive, within
from gpupilot_agent.cli.examples import examples
from gpupilot_agent.cli.progress import spinner
from gpupilot_envs.errors import InputInvalid

if TYPE_CHECKING:
    from gpupilot_envs.profile import ServiceProfile
    from gpupilot_envs.workload.arrivals import ArrivalStream

EXAMPLES = examples(
    "gpupilot simulate --replicas 2 --rate 100 --duration 600",
    "gpupilot simulate --replicas 2 --rate 100 --cv 2 --duration 600 --json",
    "gpupilot simulate --profile mobilenetv4-cpu --replicas 4 \\\n"
    "  --trace day.parquet --target-ms 40 --seed 7",
    "gpupilot simulate --profile my.yaml --replicas 1 --arrivals run.csv",
)


DURATION_MAX_S = 1e8
"""Three years: every second of them is simulated."""


class Balancing(StrEnum):
    """How requests are spread over ready pods."""

    RANDOM = "random"
    ROUND_ROBIN = "round_robin"
    LEAST_LOADED = "least_loaded"


def simulate(
    replicas: Annotated[int, typer.Option(min=1, max=10_000, help="Pods that serve, all ready.")],
    profile: options.Profile = options.DEFAULT_PROFILE,
    instances: Annotated[
        int | None, typer.Option(min=1, help="Model instances per pod; default: the profile's.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Traffic: requests per second, steady.")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(help="Traffic: a rate trace with columns t_s, rps.")
    ] = None,
    arrivals: Annotated[
        Path | None, typer.Option(help="Traffic: exact arrival times, column t_s.")
    ] = None,
    cv: Annotated[
        float, typer.Option(help="Coefficient of variation of arrival gaps; 1 is Poisson.")
    ] = 1.0,
    duration: Annotated[
        float | None,
        typer.Option(help="Seconds to simulate; default: the whole file, or 600 at a steady rate."),
    ] = None,
    target_ms: options.TargetMs = 60.0,
    balancing: Annotated[
        Balancing, typer.Option(help="How requests are spread over pods.")
    ] = Balancing.RANDOM,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Run a fixed number of replicas under given traffic and print what users would feel."""
    from gpupilot_envs.embedded import find_profile
    from gpupilot_envs.limits import Targets
    from gpupilot_envs.serving.measure import measure, summary

    service = find_profile(profile)
    positive(target_ms=target_ms, duration=duration)
    _attainable(service, target_ms)
    within(0.0, DURATION_MAX_S, duration=duration)
    within(0.0, RATE_MAX_RPS, rate=rate)
    stream, span_s = _traffic(rate, trace, arrivals, cv=cv, seed=seed)
    duration_s = span_s if duration is None else duration
    _bearable((rate or 0.0) * duration_s)
    with spinner("simulating"):
        ledger = measure(
            service,
            replicas=replicas,
            arrivals=stream,
            duration_s=duration_s,
            targets=Targets(latency_s=target_ms / 1000.0),
            seed=seed,
            instances=instances,
            balancing=balancing.value,
        )
    result = summary(ledger, replicas=replicas)
    if as_json:
        show.as_json(result)
    else:
        _print(result, f"{service.name}: {replicas} replicas, {duration_s:g} s, seed {seed}")


def _traffic(
    rate: float | None, trace: Path | None, arrivals: Path | None, *, cv: float, seed: int
) -> tuple[ArrivalStream, float]:
    """Return the arrivals and how many seconds they cover unless the user says otherwise."""
    from gpupilot_envs.workload.arrivals import ExactArrivals, RateArrivals, SteadyArrivals
    from gpupilot_envs.workload.trace import read_arrivals, read_trace

    given = [name for name, value in _sources(rate, trace, arrivals).items() if value is not None]
    if len(given) != 1:
        said = " and ".join(given) or "none"
        raise InputInvalid("traffic", said, "exactly one of --rate, --trace, --arrivals")
    if rate is not None:
        positive(rate=rate)
        return SteadyArrivals(rate, cv=cv, seed=seed), 600.0
    if trace is not None:
        rates = plausible(trace, read_trace(trace))
        _bearable(rates.mean_rps * rates.duration_s)
        return RateArrivals(rates, cv=cv, seed=seed), rates.duration_s
    assert arrivals is not None
    times = read_arrivals(arrivals)
    return ExactArrivals(times), max(float(times[-1]), 1e-3)


def _bearable(requests: float) -> None:
    """Refuse what would compute for hours.

    Raises:
        InputInvalid: Says how many requests it would be.
    """
    if requests > REQUESTS_MAX:
        raise InputInvalid("traffic", f"{requests:.3g} requests", f"{REQUESTS_MAX:g} at most")


def _attainable(service: ServiceProfile, target_ms: float) -> None:
    """Refuse a target that a lone request on an idle GPU misses.

    Raises:
        SloInfeasible: Says how long such a request takes.
    """
    from gpupilot_envs.errors import SloInfeasible

    lone_ms = 1000.0 * float(service.batch_latency_s()[1]) + service.overhead_ms
    if target_ms < lone_ms:
        allowed = f"{lone_ms:g} or more: a lone request takes that long, larger batches longer"
        raise SloInfeasible("--target-ms", target_ms, allowed)


def _sources(rate: float | None, trace: Path | None, arrivals: Path | None) -> dict[str, object]:
    return {"--rate": rate, "--trace": trace, "--arrivals": arrivals}


def _print(result: dict[str, object], title: str) -> None:
    flat: dict[str, object] = {}
    for name, value in result.items():
        if isinstance(value, dict):
            flat |= {f"{name} {part}": inner for part, inner in value.items()}
        else:
            flat[name] = value
    show.table(title, ("measure", "value"), [(name, _text(value)) for name, value in flat.items()])


def _text(value: object) -> str:
    if value is None:
        return "none answered"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
