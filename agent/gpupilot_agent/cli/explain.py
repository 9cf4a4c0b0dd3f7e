"""``gpupilot explain``: one decision, in the words of whoever has to answer for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpupilot_agent.cli import options, show
from gpupilot_agent.cli.checks import within
from gpupilot_agent.cli.examples import examples
from gpupilot_agent.cli.progress import meter
from gpupilot_agent.cli.scenes import bundle_of, names_of

if TYPE_CHECKING:
    from gpupilot_agent.bundle import Bundle
    from gpupilot_agent.explanation.account import Account
    from gpupilot_agent.explanation.outlook import Outlook
    from gpupilot_agent.explanation.telling import Why

EXAMPLES = examples(
    "gpupilot explain records/shop",
    "gpupilot explain records/shop --at 00:12:30 --minutes 5 --json",
    "gpupilot explain records/shop --at last --baselines hpa,keda",
    "gpupilot explain results/full --policy hpa --trace day --at worst",
)
DRIVERS_SHOWN = 6
MINUTES_MAX = 240.0


def explain(
    run: Annotated[
        Path,
        typer.Argument(
            help="A folder that `gpupilot record` or `gpupilot compare` wrote, a service's folder "
            "in the operator's log, or a decision log.",
            metavar="RUN",
        ),
    ],
    at: Annotated[
        str,
        typer.Option(
            help="The moment: seconds, [HH:]MM:SS, a time with its zone, worst (most late "
            "requests) or last.",
            metavar="WHEN",
        ),
    ] = "worst",
    minutes: Annotated[
        float, typer.Option(help="How far to look ahead; 0 to leave the outlook out.")
    ] = 10.0,
    baselines: Annotated[
        str, typer.Option(help="Whose outlook to show beside, separated by commas.")
    ] = "hpa,keda,kpa,queueing",
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Runs of every alternative.")] = 5,
    forecast: Annotated[
        bool, typer.Option(help="Look ahead as if what was recorded later were not known.")
    ] = False,
    bundle: Annotated[
        Path | None,
        typer.Option(help="The learned policy that decided, where it is not in the folder."),
    ] = None,
    tuned: Annotated[
        Path | None,
        typer.Option(help="What `gpupilot tune` wrote, for baselines that end in -tuned."),
    ] = None,
    policy: Annotated[str | None, typer.Option(help="Of a comparison: whose run.")] = None,
    trace: Annotated[str | None, typer.Option(help="Of a comparison: on which trace.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of a comparison: which repetition.")] = 0,
    as_json: options.AsJson = False,
) -> None:
    """Say what a decision saw, asked and was granted, why, and what else could have been done.

    The outlook simulates the next minutes under every alternative: the world is set up as it was,
    requests arrive again at the recorded rates, or, where the run ends, at forecast ones. It says
    which.
    """
    from gpupilot_agent.explanation.alternatives import alternatives
    from gpupilot_agent.explanation.compared import is_comparison, of_comparison, read_config
    from gpupilot_agent.explanation.outlook import outlook

    within(0.0, MINUTES_MAX, minutes=minutes)
    names = names_of(baselines) if baselines else ()
    settings = _tuned(tuned)
    compared = is_comparison(run)
    account = (
        of_comparison(run, at, policy=policy, trace=trace, seed=seed)
        if compared
        else _logged(run, at)
    )
    weights = _weights(run, bundle, account)
    found = None
    if minutes > 0.0 and account.moment is not None:
        options_ = alternatives(
            account,
            account.moment,
            bundle=weights,
            baselines=names,
            tuned=settings,
            config=read_config(run) if compared else None,
        )
        with meter("looking ahead", 1.0) as told:
            found = outlook(
                account.moment,
                options_,
                ahead_s=60.0 * minutes,
                seeds=seeds,
                forecast=forecast,
                on_progress=lambda done, total: told(done / total),
            )
    reasoned = _why(account, weights, found)
    if as_json:
        show.as_json(_document(account, reasoned, found))
    else:
        _print(account, reasoned, found)


def _logged(run: Path, at: str) -> Account:
    from gpupilot_agent.explanation.account import of_log

    return of_log(run, at)


def _tuned(path: Path | None) -> Any:
    from gpupilot_agent.tuned import read_tuned

    return None if path is None else read_tuned(path)


def _weights(run: Path, given: Path | None, account: Account) -> Bundle | None:
    """Return the learned policy that decided: the one given, or the one in the folder.

    Raises:
        InputInvalid: It is another one than decided.
    """
    from gpupilot_agent.explanation.account import POLICY
    from gpupilot_agent.explanation.setting import same_policy
    from gpupilot_agent.generalist import NAME as GENERALIST

    beside = (run if run.is_dir() else run.parent) / POLICY
    shipped = Path(GENERALIST) if account.policy == GENERALIST else None
    found = bundle_of(given or (beside if beside.exists() else shipped))
    known = account.decider.bundle_sha256 if account.decider else None
    if account.log is not None:
        known = account.log.bundle_sha256
    if found is not None:
        same_policy(found, known)
    return found


def _why(account: Account, weights: Bundle | None, found: Outlook | None) -> Why | None:
    """Return why a learned policy moved: as logged, or, where nothing was, as it decides again."""
    from gpupilot_agent.decision_log import DecisionLog
    from gpupilot_agent.explanation.drivers import usual
    from gpupilot_agent.explanation.telling import why

    if account.log is not None and account.entry is not None:
        log, decision = account.log, account.entry.decision
        decisions = [entry.decision for entry in log.entries]
    elif found is not None:
        log, decision = DecisionLog(service="", policy=account.policy, entries=()), found.first
        decisions = list(found.again)
    else:
        return None
    if decision.evidence is None:
        return None
    seen = [d.evidence.observation for d in decisions if d.evidence is not None]
    return why(
        decision.evidence,
        field_names=log.field_names,
        axes=log.axes,
        network=None if weights is None else weights.logits,
        ordinary=usual(seen),
    )


def _document(account: Account, reasoned: Why | None, found: Outlook | None) -> dict[str, Any]:
    from dataclasses import asdict

    from gpupilot_agent.explanation.telling import METHOD, document, outlook_document

    told: dict[str, Any]
    if account.entry is not None and account.log is not None:
        told = document(
            account.entry,
            service=account.log.service,
            policy=account.policy,
            reasoned=reasoned,
        )
    else:
        told = {
            "policy": account.policy,
            "learned": None if reasoned is None else {"method": METHOD, **asdict(reasoned)},
            "at_s": account.at_s,
            "running": asdict(account.running),
            "asked": asdict(account.asked),
            "granted": asdict(account.granted),
            "held": account.asked != account.granted,
        }
    return {
        **told,
        "outlook": None if found is None else outlook_document(found, _truth(account, found)),
    }


def _truth(account: Account, found: Outlook) -> tuple[float | None, float] | None:
    if found.future == "forecast":
        return None
    return account.intervals.truth(account.at_s, account.at_s + found.ahead_s)


def _print(account: Account, reasoned: Why | None, found: Outlook | None) -> None:
    from gpupilot_agent.explanation.telling import again_lines, allocation, decision_lines
    from gpupilot_agent.explanation.when import clock

    show.line(f"{account.title}, decided at {clock(account.at_s, account.intervals)}")
    if account.entry is not None:
        lines = decision_lines(account.entry)
    else:
        held = "" if account.asked == account.granted else ", held by the guardrail"
        lines = [
            f"running  {allocation(account.running)}",
            f"asked    {allocation(account.asked)}",
            f"granted  {allocation(account.granted)}{held}",
        ]
        if found is not None and account.decider is not None:
            lines += again_lines(found.first)
    for line in lines:
        show.line(line)
    if reasoned is not None:
        _print_why(reasoned)
    if found is not None:
        _print_outlook(account, found)
    elif account.moment is None:
        show.line(
            "no outlook: what ran, under which limits, or what users sent is not known; record it"
        )


def _print_why(reasoned: Why) -> None:
    from gpupilot_agent.explanation.telling import choice_lines, driver_row

    for line in choice_lines(reasoned.choices):
        show.line(f"weighed  {line}")
    if not reasoned.drivers:
        show.line("         which readings drove it needs the policy itself: --bundle PATH")
        return
    rows = [driver_row(driver) for driver in reasoned.drivers[:DRIVERS_SHOWN]]
    title = "what drove the move (x 2: made it twice as likely as the usual reading does)"
    show.table(title, ("reading", "value", "usual", "effect"), rows)


def _print_outlook(account: Account, found: Outlook) -> None:
    from gpupilot_agent.explanation.telling import plus_minus

    rows = [
        (
            each.name,
            plus_minus(each.attainment_ratio, ".2f", 100.0),
            "-" if each.late.mean is None else f"{each.late.mean:,.0f}",
            plus_minus(each.gpu_hours, ".3f"),
            f"{each.replicas:.1f}",
        )
        for each in found.outcomes
    ]
    columns = ("alternative", "in time %", "late", "GPU-h", "replicas")
    show.table(_outlook_title(found), columns, rows)
    truth = _truth(account, found)
    if truth is not None:
        share = "unknown" if truth[0] is None else f"{100 * truth[0]:.2f} %"
        show.line(f"recorded: {share} in time, {truth[1]:.3f} GPU-h")


def _outlook_title(found: Outlook) -> str:
    low, middle, high = found.rate_rps
    rates = (
        f"requests arrive again at the recorded rates, {middle:,.0f}/s"
        if found.future == "recorded"
        else f"rates are a forecast: {middle:,.0f}/s, 5-95 % {low:,.0f}-{high:,.0f}"
    )
    return f"the next {found.ahead_s / 60:g} min, simulated {found.seeds} times; {rates}"
