"""A summary with the questions a reader asks of it: who met the target, who was cheapest where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gpupilot_agent.report.look import Role
from gpupilot_agent.results import Paired, Score, Summary

Verdict = Literal["better", "even", "worse", "note"]


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
        priced = [name for name, _ in self.ranking()]
        known = [name for name in priced if name in self.learned]
        return (*known, *self.learned, *priced, *self.contestants)[0]

    @property
    def learned(self) -> tuple[str, ...]:
        """The learned policies."""
        return tuple(name for name, (_, role) in self.roles.items() if role == "learned")

    @property
    def level(self) -> float:
        """The attainment at which costs are set side by side.

        The objective's own; where fewer than two policies, or no learned one of several, have a
        cost there, the highest level below it at which they have.
        """
        lower = sorted((float(level) for level in self.summary.at_attainment), reverse=True)
        for level in (self.target, *(level for level in lower if level < self.target)):
            priced = self.costs(level)
            if len(priced) > 1 and (not self.learned or set(priced) & set(self.learned)):
                return level
        return self.target

    def ranking(self) -> list[tuple[str, float]]:
        """Return contestants by GPU-hours at :attr:`level`, cheapest first."""
        costs = self.costs(self.level)
        return sorted(costs.items(), key=lambda pair: pair[1])

    def costs(self, level: float) -> dict[str, float]:
        """Return GPU-hours at an attainment of the contestants that have them.

        Read from a policy's measured frontier; where it has none on both sides of the level,
        what it spent as it ran, provided that it reached the level: an upper bound.
        """
        found = {}
        for name in self.contestants:
            score = self.summary.policies[name]
            cost = self.frontier_cost(name, level)
            if cost is None and (score.attainment_ratio.mean or 0.0) >= level:
                cost = score.gpu_hours.mean
            if cost is not None:
                found[name] = cost
        return found

    def frontier_cost(self, name: str, level: float) -> float | None:
        """Return GPU-hours read from a policy's frontier, or ``None`` outside of it."""
        return self.summary.at_attainment.get(f"{level:g}", {}).get(name)

    def meets(self, score: Score) -> bool:
        """Whether a score's attainment is at or above the target."""
        share = score.attainment_ratio.mean
        return share is not None and share >= self.target

    def relative(self, a: str, b: str) -> Relative | None:
        """Return the cost of ``a`` relative to ``b`` at :attr:`level`.

        At equal attainment where both have a frontier there, else as both ran, provided that
        both reached the level.
        """
        if all(self.frontier_cost(name, self.level) is not None for name in (a, b)):
            return _find(self.summary.paired, a, b, f"gpu_hours@{self.level:g}")
        reached = all(
            (self.summary.policies[name].attainment_ratio.mean or 0.0) >= self.level
            for name in (a, b)
        )
        return self.spent(a, b) if reached else None

    def spent(self, a: str, b: str, trace: str | None = None) -> Relative | None:
        """Return the cost of ``a`` relative to ``b`` as both ran, on one trace or on all."""
        pairs = self.summary.paired if trace is None else self.summary.paired_by_trace[trace]
        return _find(pairs, a, b, "gpu_hours")

    def seen_before(self) -> list[str]:
        """Return the traces that settings were searched or a policy was trained on."""
        hashes = self.summary.hashes
        seen = {*hashes.get("tuned_on", {}).values(), *hashes.get("trained_on", {}).values()}
        return [name for name, sha256 in hashes["traces"].items() if sha256 in seen]

    def windows(self, family: str) -> list[float]:
        """Return the hours of every scored window of a family's traces."""
        traces = self.summary.config["traces"].values()
        return [
            (window["end_s"] - window["start_s"]) / 3600.0
            for trace in traces
            if trace["family"] == family
            for window in trace["windows"]
        ]

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
    """``a / b - 1`` and its 95 % interval; negative says that ``a`` is cheaper.

    Attributes:
        value: The difference as a share of the cost of ``b``.
        low: Lower bound, ``None`` where too few runs tell no spread.
        high: Upper bound, ``None`` likewise.
        equal: Whether both costs are read at equal attainment, not as both happened to run.
    """

    value: float
    low: float | None
    high: float | None
    equal: bool

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
        """The difference as a verdict on ``a``; without an interval there is none."""
        if self.low is None:
            return "note"
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
            return "too few runs for an interval"
        return f"95 % interval {100 * self.low:+.1f} to {100 * self.high:+.1f} %"


def percent(share: float) -> str:
    """Return a share as a percentage with as many digits as an attainment needs."""
    return f"{100.0 * share:.2f}".rstrip("0").rstrip(".") + " %"


def _find(pairs: Sequence[Paired], a: str, b: str, metric: str) -> Relative | None:
    for pair in pairs:
        if pair.metric == metric and {pair.a, pair.b} == {a, b}:
            return _relative(pair, flip=pair.a != a)
    return None


def _relative(pair: Paired, *, flip: bool) -> Relative | None:
    value, (low, high) = pair.relative.mean, pair.relative.ci95
    equal = "@" in pair.metric
    if value is None:
        return None
    if not flip:
        return Relative(value=value, low=low, high=high, equal=equal)
    # a / b - 1 from b / a - 1: the bounds change places
    return Relative(
        value=_turned(value),
        low=None if high is None else _turned(high),
        high=None if low is None else _turned(low),
        equal=equal,
    )


def _turned(relative: float) -> float:
    return 1.0 / (1.0 + relative) - 1.0
