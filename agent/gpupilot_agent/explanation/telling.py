"""A decision in words and as plain data: what the command line prints and the operator logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.decision_log import Entry
from gpupilot_agent.evaluation import Estimate
from gpupilot_agent.explanation.drivers import Choice, Driver, Network, choices, drivers
from gpupilot_agent.explanation.outlook import Outlook
from gpupilot_agent.policies import Evidence
from gpupilot_agent.rollout import Decision
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.signals import Signals

METHOD = "Shapley values of the move's log-probability against the usual reading"


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """Why a learned policy moved as it did.

    Attributes:
        choices: The network's probability of every value of every axis.
        drivers: What each reading did for the move, the strongest first; empty where the network
            is not at hand.
    """

    choices: tuple[Choice, ...]
    drivers: tuple[Driver, ...] = ()


def why(
    evidence: Evidence,
    *,
    field_names: Sequence[str],
    axes: Sequence[Mapping[str, Any]],
    network: Network | None = None,
    ordinary: NDArray[np.float32] | None = None,
) -> Why:
    """Return why a learned policy moved as it did; pure, some milliseconds.

    Args:
        evidence: What it decided on.
        field_names: Names of the numbers it saw.
        axes: Its action table.
        network: Its network; ``None`` leaves the drivers out.
        ordinary: The usual reading, see :func:`.drivers.usual`.
    """
    found: tuple[Driver, ...] = ()
    if network is not None and ordinary is not None:
        found = drivers(evidence, network, ordinary, field_names=field_names, axes=axes)
    return Why(choices=choices(evidence, axes), drivers=found)


def document(entry: Entry, *, service: str, policy: str, reasoned: Why | None) -> dict[str, Any]:
    """Return one decision as JSON-like data: for ``--json``, and for the operator's own log."""
    decision = entry.decision
    return {
        "service": service,
        "policy": policy,
        "at_s": decision.at_s,
        "running": asdict(entry.running),
        "asked": asdict(decision.ask),
        "granted": asdict(decision.granted),
        "held": decision.held,
        "reasons": [{"reason": str(r), "meaning": r.meaning} for r in decision.reasons],
        "why": decision.why,
        "signals": asdict(entry.seen),
        "price": None if decision.evidence is None else decision.evidence.price,
        "learned": None if reasoned is None else {"method": METHOD, **asdict(reasoned)},
    }


def outlook_document(found: Outlook, truth: tuple[float | None, float] | None) -> dict[str, Any]:
    """Return an outlook as JSON-like data, with what was recorded where that is known."""
    low, middle, high = found.rate_rps
    return {
        "future": found.future,
        "ahead_s": found.ahead_s,
        "seeds": found.seeds,
        "rate_rps": {"p5": low, "mean": middle, "p95": high},
        "decides_again": {
            "asked": found.first.ask.replicas,
            "why": found.first.why,
            "reasons": [str(reason) for reason in found.first.reasons],
        },
        "recorded": None
        if truth is None
        else {"attainment_ratio": truth[0], "gpu_hours": truth[1]},
        "alternatives": [
            {
                "name": each.name,
                "attainment_ratio": asdict(each.attainment_ratio),
                "gain": asdict(each.gain),
                "late": asdict(each.late),
                "gpu_hours": asdict(each.gpu_hours),
                "replicas": each.replicas,
            }
            for each in found.outcomes
        ],
    }


def decision_lines(entry: Entry) -> list[str]:
    """Return the decision as sentences, one fact each."""
    decision = entry.decision
    return [
        f"saw      {seen(entry.seen)}",
        f"running  {allocation(entry.running)}",
        f"asked    {allocation(decision.ask, entry.running)}, because: {decision.why}",
        f"granted  {allocation(decision.granted, entry.running)}",
        *reason_lines(decision),
    ]


def again_lines(decision: Decision) -> list[str]:
    """Return what a policy decides where its own words were not kept."""
    return [
        f"why      decided again on the same rates it asks for {allocation(decision.ask)}, "
        f"because: {decision.why}",
        *reason_lines(decision),
    ]


def reason_lines(decision: Decision) -> list[str]:
    """Return the guardrail's rules that bit, one a line."""
    verb = "held by" if decision.held else "limits "
    return [f"{verb}  {reason}: {reason.meaning}" for reason in decision.reasons]


def seen(signals: Signals) -> str:
    """Return the reading in a line, what was not answered by name."""
    parts = [
        _measured("rate", signals.rate_rps, "{:,.0f} requests/s"),
        _measured("attainment", signals.attainment_ratio, "{:.2f} % in time", 100.0),
        _measured("p95", signals.latency_p95_s, "p95 {:.0f} ms", 1000.0),
        _measured("queue", signals.pending_requests, "{:,.0f} waiting"),
        _measured("pods", signals.replicas_ready, "{:.0f} replicas ready"),
        _measured("starting pods", signals.replicas_pending, "{:.0f} starting"),
        _measured("GPU", signals.gpu_busy_ratio, "GPU {:.0f} % busy", 100.0),
    ]
    return ", ".join(parts)


def allocation(shape: Allocation, than: Allocation | None = None) -> str:
    """Return replicas, and each other part that differs from ``than``."""
    said = f"{shape.replicas} replica{'' if shape.replicas == 1 else 's'}"
    if than is None:
        return said
    others = {name: value for name, value in asdict(shape).items() if name != "replicas"}
    moved = [f"{name} {v}" for name, v in others.items() if v != getattr(than, name)]
    return ", ".join([said, *moved])


def choice_lines(found: Sequence[Choice], least: float = 0.05) -> list[str]:
    """Return one line per axis: its values and their probabilities, rare ones left out."""
    said: dict[str, list[str]] = {}
    for choice in found:
        if choice.taken or choice.probability >= least:
            mark = " (taken)" if choice.taken else ""
            said.setdefault(choice.axis, []).append(
                f"{choice.value:g} {100 * choice.probability:.0f} %{mark}"
            )
    return [f"{axis:9}{', '.join(values)}" for axis, values in said.items()]


def driver_row(driver: Driver) -> tuple[str, str, str, str]:
    """Return a driver's cells: name, value, usual value, how many times likelier it made it."""
    factor = float(np.exp(driver.credit))
    return driver.name, f"{driver.value:.3g}", f"{driver.usual:.3g}", f"x {factor:.3g}"


def plus_minus(found: Estimate, form: str, factor: float = 1.0) -> str:
    """Return a mean and how far its interval reaches, a dash where there is no number."""
    if found.mean is None:
        return "-"
    mean = f"{factor * found.mean:{form}}"
    if found.ci95 is None:
        return mean
    reach = max(found.mean - found.ci95[0], found.ci95[1] - found.mean, 0.0)
    return f"{mean} ± {factor * reach:{form}}"


def _measured(name: str, value: float | None, form: str, factor: float = 1.0) -> str:
    return f"{name} not answered" if value is None else form.format(value * factor)
