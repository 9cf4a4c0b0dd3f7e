"""What the numbers say, in sentences: who wins where, by how much, how surely, and where we lose.

Every sentence is worded from ``summary.json``; none is written beforehand.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from gpupilot_agent.report.look import Role
from gpupilot_agent.results import Paired, Score, Summary

_RIVALS = 3

Verdict = Literal["better", "even", "worse", "note"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One sentence and whether it speaks for the policy in focus.

    Attributes:
        verdict: ``better``, ``even`` or ``worse`` for the focus, ``note`` for the rest.
        text: The sentence, plain text.
    """

    verdict: Verdict
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A summary with the questions a reader asks of it."""

    summary: Summary

    @property
    def roles(self) -> dict[str, tuple[str, Role]]:
        """Family and role of every policy, in the order of the tables."""
        described = self.summary.config["policies"]
        return {name: (entry["family"], entry["role"]) for name, entry in described.items()}

    @property
    def target(self) -> float:
        """The attainment that the objective asks for, 0 to 1."""
        return float(self.summary.config["targets"]["attainment_ratio"])

    @property
    def latency_ms(self) -> float:
        """The latency target in milliseconds."""
        return float(self.summary.config["targets"]["latency_s"]) * 1000.0

    @property
    def contestants(self) -> list[str]:
        """Policies that could run in production: everything but the bounds."""
        return [name for name, (_, role) in self.roles.items() if role != "bound"]

    @property
    def focus(self) -> str:
        """The policy the report is about: the learned one, else the cheapest at the target."""
        learned = [name for name, (_, role) in self.roles.items() if role == "learned"]
        priced = self.ranking()
        known = [name for name, _ in priced if name in learned]
        return known[0] if known else (learned or [name for name, _ in priced] or [""])[0]

    def ranking(self) -> list[tuple[str, float]]:
        """Return contestants by GPU-hours at the target attainment, cheapest first.

        Read from the measured frontiers; where there is none, a policy counts with what it
        spent as it ran, provided that it met the target.
        """
        costs = self.costs()
        return sorted(((name, costs[name]) for name in costs), key=lambda pair: pair[1])

    def costs(self) -> dict[str, float]:
        """Return GPU-hours at the target attainment of the contestants that have them."""
        read = self.summary.at_attainment.get(f"{self.target:g}", {})
        frontier = {name: cost for name, cost in read.items() if cost is not None}
        chosen = {name: frontier[name] for name in self.contestants if name in frontier}
        return chosen or {
            name: score.gpu_hours.mean
            for name, score in self.summary.policies.items()
            if name in self.contestants and self.meets(score) and score.gpu_hours.mean is not None
        }

    @property
    def cost_metric(self) -> str:
        """Name of the paired metric behind :meth:`costs`."""
        read = self.summary.at_attainment.get(f"{self.target:g}", {})
        known = any(read.get(name) is not None for name in self.contestants)
        return f"gpu_hours@{self.target:g}" if known else "gpu_hours"

    def meets(self, score: Score) -> bool:
        """Whether a score's attainment is at or above the target."""
        return score.attainment_ratio.mean is not None and (
            score.attainment_ratio.mean >= self.target
        )

    def relative(self, a: str, b: str, trace: str | None = None) -> Relative | None:
        """Return the cost of ``a`` relative to ``b``, at equal attainment where it is known."""
        pairs = self.summary.paired if trace is None else self.summary.paired_by_trace[trace]
        metric = self.cost_metric if trace is None else "gpu_hours"
        for pair in pairs:
            if pair.metric == metric and {pair.a, pair.b} == {a, b}:
                return _relative(pair, flip=pair.a != a)
        return None

    def winner(self, trace: str) -> str | None:
        """Return the cheapest contestant that meets the target on a trace, if any does."""
        scores = self.summary.traces[trace]
        meeting = {
            name: scores[name].gpu_hours.mean or 0.0
            for name in self.contestants
            if self.meets(scores[name])
        }
        return min(meeting, key=lambda name: meeting[name]) if meeting else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Relative:
    """``a / b - 1`` and its 95 % interval; negative says that ``a`` is cheaper."""

    value: float
    low: float | None
    high: float | None

    @property
    def sure(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low is not None and self.high is not None and self.low * self.high > 0.0

    @property
    def within_error(self) -> bool:
        """Whether an interval is known and includes 0."""
        return self.low is not None and not self.sure

    @property
    def verdict(self) -> Verdict:
        """The difference as a verdict on ``a``."""
        if not self.sure:
            return "even"
        return "better" if self.value < 0.0 else "worse"

    def words(self) -> str:
        """Return for example ``4.9 % fewer GPU-hours (95 % interval 3.2 to 6.1 %)``."""
        amount = f"{abs(self.value):.1%}".replace("%", " %")
        sense = "fewer" if self.value < 0.0 else "more"
        return f"{amount} {sense} GPU-hours ({self.interval()})"

    def interval(self) -> str:
        """Return the interval in percent, signed as the difference is."""
        if self.low is None or self.high is None:
            return "one run, no interval"
        return f"95 % interval {100 * self.low:+.1f} to {100 * self.high:+.1f} %"


def headline(reading: Reading) -> str:
    """Return the one sentence to remember."""
    ranking = reading.ranking()
    if not ranking:
        best = max(
            reading.contestants,
            key=lambda name: reading.summary.policies[name].attainment_ratio.mean or 0.0,
        )
        share = reading.summary.policies[best].attainment_ratio.mean or 0.0
        return (
            f"No policy kept {percent(reading.target)} of requests within "
            f"{reading.latency_ms:g} ms; the closest, {best}, kept {percent(share)}."
        )
    focus, goal = reading.focus, _goal(reading)
    rivals = [name for name, _ in ranking if name != focus]
    if focus not in dict(ranking):
        return f"{ranking[0][0]} {goal} most cheaply; {focus} did not reach that attainment."
    if not rivals:
        return f"{focus} is the only policy that {goal}."
    return _duel(reading, focus, rivals[0], goal)


def findings(reading: Reading) -> tuple[Finding, ...]:
    """Return what a decision needs to know, most important first."""
    return (
        *_rivals(reading),
        *_by_trace(reading),
        *_losses(reading),
        *_missed(reading),
        *_bounds(reading),
    )


def percent(share: float) -> str:
    """Return a share as a percentage with as many digits as an attainment needs."""
    return f"{100.0 * share:.2f}".rstrip("0").rstrip(".") + " %"


def listing(names: list[str]) -> str:
    """Return ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _goal(reading: Reading) -> str:
    return f"keeps {percent(reading.target)} of requests within {reading.latency_ms:g} ms"


def _duel(reading: Reading, focus: str, rival: str, goal: str) -> str:
    relative = reading.relative(focus, rival)
    if relative is None:
        return f"{focus} {goal}; {rival} does so too."
    if relative.verdict == "even":
        return (
            f"{focus} {goal} at the cost of {rival}, within the error of measurement "
            f"({100 * relative.value:+.1f} % GPU-hours, {relative.interval()})."
        )
    against = "the best other policy" if relative.verdict == "better" else "the cheapest policy"
    return f"{focus} {goal} with {relative.words()} than {against}, {rival}."


def _rivals(reading: Reading) -> list[Finding]:
    focus = reading.focus
    known = {
        name: relative
        for name, _ in reading.ranking()
        if name != focus and (relative := reading.relative(focus, name)) is not None
    }
    how = "both as they ran" if reading.cost_metric == "gpu_hours" else "at equal attainment"
    shown = [
        Finding(
            verdict=relative.verdict,
            text=f"Against {name}: {focus} needs {relative.words()}, {how}.",
        )
        for name, relative in list(known.items())[:_RIVALS]
    ]
    return [*shown, *_remaining(focus, dict(list(known.items())[_RIVALS:]))]


def _remaining(focus: str, known: dict[str, Relative]) -> list[Finding]:
    if not known:
        return []
    values = [relative.value for relative in known.values()]
    verdicts = {relative.verdict for relative in known.values()}
    text = (
        f"Against {listing(list(known))}: {100 * min(values):+.0f} to {100 * max(values):+.0f} % "
        f"GPU-hours for {focus}."
    )
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
    beaten = []
    for trace in reading.summary.traces:
        winner = reading.winner(trace)
        if winner in (None, focus) or not reading.meets(reading.summary.traces[trace][focus]):
            continue
        relative = reading.relative(focus, str(winner), trace)
        if relative is not None and relative.value > 0.0 and not relative.within_error:
            beaten.append(f"{trace} (against {winner}: {100 * relative.value:+.1f} %)")
    if not beaten:
        return []
    text = f"{focus} met the target but cost more than the cheapest on {listing(beaten)}."
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
        relative = _spent(reading.summary, focus, name)
        if relative is not None:
            text = f"Against the bound {name}, as both ran: {focus} needs {relative.words()}."
            found.append(Finding(verdict="note", text=text))
    return found


def _spent(summary: Summary, a: str, b: str) -> Relative | None:
    for pair in summary.paired:
        if pair.metric == "gpu_hours" and {pair.a, pair.b} == {a, b}:
            return _relative(pair, flip=pair.a != a)
    return None


def _relative(pair: Paired, *, flip: bool) -> Relative | None:
    value, (low, high) = pair.relative.mean, pair.relative.ci95
    if value is None:
        return None
    if not flip:
        return Relative(value=value, low=low, high=high)
    # a / b - 1 from b / a - 1: the bounds change places
    turned = [None if bound is None else 1.0 / (1.0 + bound) - 1.0 for bound in (value, high, low)]
    return Relative(value=turned[0] or 0.0, low=turned[1], high=turned[2])
