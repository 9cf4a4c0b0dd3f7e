"""The card of a run: what was declared, what came of it, where, and by which commands."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from gpupilot_agent.campaign.declaration import Run
from gpupilot_agent.campaign.generator import CLOSED, Load
from gpupilot_agent.campaign.loads import offered_rps, traffic_of
from gpupilot_agent.campaign.readings import EVERY_S
from gpupilot_agent.stack.state import StackState
from gpupilot_agent.stack.tools import MODEL_PACKAGES, SERVERS
from gpupilot_agent.tracking import environment
from gpupilot_agent.triton.repository import MODEL
from gpupilot_envs.errors import StackFailed
from gpupilot_envs.runs import RunCard

FIRST = "chrt --rr 2 "


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a run.

    Attributes:
        load: As it was sent.
        summary: What Locust said at the end.
        saturation_rps: Measured just before.
        sent: Requests, warm-up included.
    """

    load: Load
    summary: Mapping[str, Any]
    saturation_rps: float
    sent: int


def card_of(run: Run, started: StackState, outcome: Outcome) -> RunCard:
    """Return the card of a run whose stack still runs.

    Raises:
        StackFailed: Prometheus no longer answers.
    """
    service = run.service()
    opened = run.load is not None
    steady = opened and run.traffic is None
    return RunCard(
        name=run.name,
        flavour=run.flavour,
        purpose=run.purpose,
        profile=run.profile if run.flavour == "emulated" else None,
        replicas=run.replicas,
        instances=service.instances_per_replica,
        batching=service.batching,
        balancing=run.balancing,
        target_ms=run.target_ms,
        loop="open" if opened else "closed",
        rate_rps=offered_rps(run, outcome.saturation_rps) if steady else None,
        load_ratio=run.load,
        users=run.users,
        warm_up_s=run.warm_up_s,
        duration_s=run.duration_s,
        seed=run.seed,
        lag_p99_ms=round(outcome.summary["send_lag_ms"]["p99"], 3),
        commands=_commands(run, outcome.load),
        environment=_measured(run, outcome) | _surroundings(started, outcome.load),
        note=run.note,
    )


def sentence(card: RunCard) -> str:
    """Return a finished run in one line."""
    seen, latency = card.environment, card.environment["latency_ms"]
    return (
        f"{seen['counted']} requests, {seen['offered_rps']:.1f}/s of {seen['saturation_rps']:.1f}, "
        f"p50 {latency['p50']:.1f} p95 {latency['p95']:.1f} p99 {latency['p99']:.1f} ms, "
        f"attainment {100 * seen['attainment']:.2f} %, send lag p99 {card.lag_p99_ms:g} ms"
    )


def _measured(run: Run, outcome: Outcome) -> dict[str, Any]:
    """Return the run in numbers, as the load generator saw it."""
    found = outcome.summary
    latency = {n: None if v is None else round(v, 3) for n, v in found["latency_ms"].items()}
    seen: dict[str, Any] = {
        "saturation_rps": outcome.saturation_rps,
        "requests": outcome.sent,
        "counted": found["requests"],
        "offered_rps": round(found["offered_rps"], 3),
        "latency_ms": latency,
        "attainment": round(found["attainment"], 5),
        "arrivals_cv": run.cv,
        "think_s": run.think_s,
    }
    if run.traffic is not None:
        seen["traffic"] = run.traffic.model_dump(mode="json")
        seen["peak_rps"] = round(traffic_of(run, outcome.saturation_rps).peak_rps, 2)
    return seen


def _surroundings(started: StackState, load: Load) -> dict[str, Any]:
    """Return the programs and the machine."""
    machine = environment()
    kept = ("cpu", "cpu_count", "platform", "python", "commit", "finished_at")
    return {
        "cold_starts_s": started.cold_starts_s,
        "realtime": load.realtime,
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "servers": [*SERVERS, *MODEL_PACKAGES],
        "prometheus": _prometheus_version(started.prometheus_url),
        **{name: machine[name] for name in kept},
    }


def _prometheus_version(url: str) -> str:
    try:
        with urlopen(f"{url}/api/v1/status/buildinfo", timeout=5.0) as page:
            return str(json.load(page)["data"]["version"])
    except (OSError, ValueError, KeyError) as error:
        raise StackFailed(f"Prometheus at {url} ended during the run: {error}") from error


def _commands(run: Run, load: Load) -> tuple[str, ...]:
    """Return the commands by which the run could be made by hand."""
    service, batching = run.service(), run.service().batching
    up = (
        f"gpupilot stack up --flavour {run.flavour} --profile {run.profile}",
        f"--replicas {run.replicas} --instances {service.instances_per_replica}",
        "--batching" if batching.enabled else "--no-batching",
        f"--max-batch {batching.max_batch} --queue-delay-ms {batching.queue_delay_ms:g}",
        f"--balancing {run.balancing} --target-ms {run.target_ms:g} --seed {run.seed}",
        *(("--realtime",) if load.realtime else ()),
    )
    locust = (
        f"{FIRST if load.realtime else ''}locust -f loadtests/{load.script} --headless",
        f"--host $GATEWAY --seed {run.seed} --warm-up {run.warm_up_s:g}",
        f"--slo-ms {run.target_ms:g} --requests requests.parquet",
        *(Path(word).name if "/" in word else word for word in load.options),
        *((f"-t {load.length_s:g}s",) if load.script == CLOSED else ()),
    )
    record = (
        f"gpupilot record --prometheus $PROMETHEUS --service {MODEL} --triton $TRITON",
        f"--every {EVERY_S} --since {run.duration_s:g}s --target-ms {run.target_ms:g}",
        "--out recording.parquet",
    )
    return (*(" ".join(words) for words in (up, locust, record)), "gpupilot stack down")
