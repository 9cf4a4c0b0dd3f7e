"""``gpupilot explain``: one decision, in the words of whoever has to answer for it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpupilot_agent.cli import options, show
from gpupilot_agent.cli.examples import examples

if TYPE_CHECKING:
    from gpupilot_agent.decision_log import DecisionLog, Entry

EXAMPLES = examples(
    "gpupilot explain records/shop --at 1800",
    "gpupilot explain records/shop --at 1800 --json",
    "gpupilot explain results/full --policy hpa --trace day --at 1800",
)
DECISIONS = "decisions.parquet"


def explain(
    run: Annotated[
        Path,
        typer.Argument(
            help="A folder that `gpupilot record` or `gpupilot compare` wrote, or a decision log.",
            metavar="RUN",
        ),
    ],
    at: Annotated[float, typer.Option(help="Second of the run; the decision in force then.")],
    policy: Annotated[str | None, typer.Option(help="Of a comparison: whose run.")] = None,
    trace: Annotated[str | None, typer.Option(help="Of a comparison: on which trace.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of a comparison: which repetition.")] = 0,
    as_json: options.AsJson = False,
) -> None:
    """Say what a decision saw, what it asked for, what it was granted and what held it back.

    A comparison keeps what was asked, granted and late, interval by interval; what a policy saw
    and why it decided as it did is kept by `gpupilot record`.
    """
    from gpupilot_agent.decision_log import read_decisions
    from gpupilot_agent.interval_log import interval, is_comparison

    if is_comparison(run):
        row = interval(run, policy=policy, trace=trace, seed=seed, at_s=at)
        if as_json:
            show.as_json(row)
        else:
            _print_interval(row)
        return
    log = read_decisions(run / DECISIONS if run.is_dir() else run)
    entry = log.at(at)
    if as_json:
        show.as_json(_document(log, entry))
        return
    for text in sentences(log, entry):
        show.line(text)
    show.table("what it saw", ("signal", "value"), _signals(entry))


def sentences(log: DecisionLog, entry: Entry) -> list[str]:
    """Return the decision as sentences, one fact each."""
    decision = entry.decision
    said = [
        f"{log.policy} on {log.service}, decided at {decision.at_s:g} s",
        f"running  {entry.running.replicas} replicas",
        f"asked    {decision.ask.replicas} replicas, because: {decision.why}",
        f"granted  {decision.granted.replicas} replicas",
    ]
    verb = "held by" if decision.held else "limits "
    return said + [f"{verb}  {reason}: {reason.meaning}" for reason in decision.reasons]


def _print_interval(row: dict[str, Any]) -> None:
    begins_s = row["t_s"] - row["interval_s"]
    show.line(
        f"{row['policy']} on {row['trace']}, seed {row['seed']}, "
        f"{begins_s:g} to {row['t_s']:g} s{'' if row['scored'] else ' (warm-up, not scored)'}"
    )
    show.line(f"requests {row['requests']:g}, of which late {row['late']:g}")
    show.line(f"asked    {row['replicas_asked']:g} replicas")
    held = "" if row["replicas_asked"] == row["replicas_granted"] else ", changed by the guardrail"
    show.line(f"granted  {row['replicas_granted']:g} replicas{held}")
    show.line(f"ready    {row['replicas_ready']:g} replicas")


def _document(log: DecisionLog, entry: Entry) -> dict[str, Any]:
    decision = entry.decision
    return {
        "service": log.service,
        "policy": log.policy,
        "at_s": decision.at_s,
        "running": asdict(entry.running),
        "asked": asdict(decision.ask),
        "granted": asdict(decision.granted),
        "held": decision.held,
        "reasons": [{"reason": str(r), "meaning": r.meaning} for r in decision.reasons],
        "why": decision.why,
        "signals": asdict(entry.seen),
    }


def _signals(entry: Entry) -> list[tuple[str, str]]:
    values = asdict(entry.seen).items()
    return [(name, "not answered" if v is None else f"{v:,.6g}") for name, v in values]
