"""What the numbers say, in sentences: who wins where, by how much, how surely, and where we lose.

Every sentence is worded from ``summary.json``; none is written beforehand.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from gpupilot_agent.comparison.contenders import ORACLE
from gpupilot_agent.evaluation import gap_closed
from gpupilot_agent.report.reading import Reading, Relative, Verdict, percent

_RIVALS = 3
_WORST = 4
"""Rivals and lost traces that are named; tables hold all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One sentence and whether it speaks for the policy in focus.

    Attributes:
        verdict: ``better``, ``even`` or ``worse`` for the focus, ``note`` for the rest.
        text: The sentence, plain text.
    """

    verdict: Verdict
    text: str


def headline(reading: Reading) -> str:
    """Return the one sentence to remember."""
    ranking = reading.ranking()
    if not ranking:
        return _nobody(reading)
    focus, goal = reading.focus, _goal(reading)
    rivals = [name for name, _ in ranking if name != focus]
    if focus not in dict(ranking):
        return f"{ranking[0][0]} {goal} most cheaply; {focus} did not reach that attainment."
    if not rivals:
        return f"{focus} is the only policy that {goal}."
    if reading.level < reading.target:
        return f"{_shortfall(reading)} {_duel(reading, focus, rivals[0], goal)}"
    return _duel(reading, focus, rivals[0], goal)


def findings(reading: Reading) -> tuple[Finding, ...]:
    """Return what a decision needs to know, most important first."""
    return (
        *_impossible(reading),
        *_seen_before(reading),
        *_rivals(reading),
        *_by_trace(reading),
        *_losses(reading),
        *_missed(reading),
        *_bounds(reading),
    )


def _impossible(reading: Reading) -> list[Finding]:
    found = reading.summary.impossible
    if not found:
        return []
    who = listing(list(dict.fromkeys(run.policy for run in found)))
    text = (
        f"BUG: {len(found)} runs of {who} cost less than perfect information allows; trust no "
        "number of this report before it is found."
    )
    return [Finding(verdict="worse", text=text)]


def _seen_before(reading: Reading) -> list[Finding]:
    seen = reading.seen_before()
    if not seen:
        return []
    text = f"Not a fair test on {listing(seen)}: policies were tuned or trained on this traffic."
    return [Finding(verdict="worse", text=text)]


def listing(names: list[str]) -> str:
    """Return ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _shortfall(reading: Reading) -> str:
    if reading.focus in reading.learned:
        return f"{reading.focus} has no setting at the objective of {percent(reading.target)}."
    return f"Too few policies reached {percent(reading.target)} to set them side by side."


def _nobody(reading: Reading) -> str:
    shares = {
        name: reading.summary.policies[name].attainment_ratio.mean or 0.0
        for name in reading.contestants
    }
    best = max(shares, key=lambda name: shares[name])
    return (
        f"No policy kept {percent(reading.target)} of requests within {reading.latency_ms:g} ms; "
        f"the closest, {best}, kept {percent(shares[best])}."
    )


def _goal(reading: Reading) -> str:
    return f"keeps {percent(reading.level)} of requests within {reading.latency_ms:g} ms"


def _duel(reading: Reading, focus: str, rival: str, goal: str) -> str:
    relative = reading.relative(focus, rival)
    if relative is None:
        return _unpaired(reading, focus, rival, goal)
    if relative.verdict == "even":
        return (
            f"{focus} {goal} at the cost of {rival}, within the error of measurement "
            f"({100 * relative.value:+.1f} % GPU-hours, {relative.interval()})."
        )
    if relative.verdict == "note" and relative.value > 0.0:
        return f"{rival} {goal} most cheaply; {focus} needs {relative.words()}."
    if relative.verdict == "note":
        return f"{focus} {goal} most cheaply: {relative.words()} than {rival}."
    against = "the best other policy" if relative.verdict == "better" else "the cheapest policy"
    how = "" if relative.equal else ", both as they ran"
    return f"{focus} {goal} with {relative.words()} than {against}, {rival}{how}."


def _unpaired(reading: Reading, focus: str, rival: str, goal: str) -> str:
    """Word the cost of two policies of which one has no frontier, and ran better than asked."""
    costs = reading.costs(reading.level)
    cheap, dear = sorted((focus, rival), key=lambda name: costs[name])
    more = f"{100.0 * (costs[dear] / costs[cheap] - 1.0):.1f} % more GPU-hours"
    return f"{cheap} {goal} most cheaply; {dear} needs {more} (not read at equal attainment)."


def _rivals(reading: Reading) -> list[Finding]:
    focus = reading.focus
    known = {
        name: relative
        for name, _ in reading.ranking()
        if name != focus and (relative := reading.relative(focus, name)) is not None
    }
    shown = [
        Finding(
            verdict=relative.verdict,
            text=f"Against {name}: {focus} needs {relative.words()}, {_how(reading, relative)}.",
        )
        for name, relative in list(known.items())[:_RIVALS]
    ]
    return [*shown, *_remaining(focus, dict(list(known.items())[_RIVALS:]))]


def _how(reading: Reading, relative: Relative) -> str:
    return f"both at {percent(reading.level)}" if relative.equal else "both as they ran"


def _remaining(focus: str, known: dict[str, Relative]) -> list[Finding]:
    if not known:
        return []
    values = [relative.value for relative in known.values()]
    verdicts = {relative.verdict for relative in known.values()}
    low, high = (f"{100 * value:+.0f}" for value in (min(values), max(values)))
    span = low if low == high else f"{low} to {high}"
    text = f"Against {listing(list(known))}: {span} % GPU-hours for {focus}."
    return [Finding(verdict=verdicts.pop() if len(verdicts) == 1 else "note", text=text)]


def _by_trace(reading: Reading) -> list[Finding]:
    winners = {trace: reading.winner(trace) for trace in reading.summary.traces}
    counts = Counter(name for name in winners.values() if name)
    if not counts:
        return []
    parts = [f"{name} on {count}" for name, count in counts.most_common()]
    nobody = sum(1 for name in winners.values() if name is None)
    tail = f"; none on {nobody}" if nobody else ""
    traces = "1 trace" if len(winners) == 1 else f"{len(winners)} traces"
    text = (
        f"Trace by trace, with one setting for all {traces}, the cheapest policy that met the "
        f"target was {listing(parts)}{tail}."
    )
    ahead = counts.most_common(1)[0][0] == reading.focus
    return [Finding(verdict="better" if ahead else "note", text=text)]


def _losses(reading: Reading) -> list[Finding]:
    focus = reading.focus
    beaten: list[tuple[float, str]] = []
    for trace in reading.summary.traces:
        winner = reading.winner(trace)
        if winner in (None, focus) or not reading.meets(reading.summary.traces[trace][focus]):
            continue
        relative = reading.spent(focus, str(winner), trace)
        if relative is not None and relative.value > 0.0 and not relative.within_error:
            more = f"{trace} (against {winner}: {100 * relative.value:+.1f} %)"
            beaten.append((relative.value, more))
    if not beaten:
        return []
    worst = [more for _, more in sorted(beaten, reverse=True)[:_WORST]]
    count = f"{len(beaten)} of {len(reading.summary.traces)} traces"
    most = ", most of all" if len(beaten) > _WORST else ":"
    text = (
        f"As they ran, {focus} met the target but cost more than the cheapest on {count}{most} "
        f"{listing(worst)}."
    )
    return [Finding(verdict="worse", text=text)]


def _missed(reading: Reading) -> list[Finding]:
    found = []
    for name in reading.contestants:
        short = [
            f"{trace} ({percent(scores[name].attainment_ratio.mean or 0.0)})"
            for trace, scores in reading.summary.traces.items()
            if not reading.meets(scores[name])
        ]
        if short and name == reading.focus:
            found.append(Finding(verdict="worse", text=f"{name} missed on {listing(short)}."))
    others = [
        f"{name} ({percent(score.attainment_ratio.mean or 0.0)})"
        for name, score in reading.summary.policies.items()
        if name in reading.contestants and name != reading.focus and not reading.meets(score)
    ]
    if others:
        text = f"Over all traffic these missed the target as they ran: {listing(others)}."
        found.append(Finding(verdict="note", text=text))
    return found


def _bounds(reading: Reading) -> list[Finding]:
    focus = reading.focus
    found = []
    for name, (_, role) in reading.roles.items():
        score = reading.summary.policies.get(focus)
        if role != "bound" or score is None:
            continue
        relative = reading.spent(focus, name)
        if relative is not None:
            text = f"Against the bound {name}, as both ran: {focus} needs {relative.words()}."
            found.append(Finding(verdict="note", text=text))
    return [*_closed(reading), *found]


def _closed(reading: Reading) -> list[Finding]:
    """Return how much of the way from the best other policy to the oracle the focus goes."""
    costs = reading.costs(reading.level)
    rivals = {name: cost for name, cost in costs.items() if name != reading.focus}
    oracle = reading.frontier_cost(ORACLE, reading.level)
    if oracle is None or reading.focus not in costs or not rivals:
        return []
    rival = min(rivals, key=lambda name: rivals[name])
    share = gap_closed(costs[reading.focus], rivals[rival], oracle)
    if share is None or share <= 0.0 or rivals[rival] <= oracle:
        return []
    text = (
        f"{reading.focus} goes {100 * share:.0f} % of the way from {rival} to {ORACLE}, which "
        "knows every arrival; the rest is the price of not knowing the future."
    )
    return [Finding(verdict="note", text=text)]
