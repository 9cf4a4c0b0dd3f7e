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
)
DECISIONS = "decisions.parquet"


def explain(
    run: Annotated[
        Path,
        typer.Argument(
            help="A folder that `gpupilot record` wrote, or a decision log.", metavar="RUN"
        ),
    ],
    at: Annotated[float, typer.Option(help="Second of the run; the decision in force then.")],
    as_json: options.AsJson = False,
) -> None:
    """Say what a decision saw, what it asked for, what it was granted and what held it back."""
    from gpupilot_agent.decision_log import read_decisions

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
