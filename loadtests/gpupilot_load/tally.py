"""What happened in numbers that can be added up over workers, and whether the SLO was kept."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

STEP = 1.005
"""Ratio of the bounds of a bucket: quantiles are right to a quarter of a percent."""

FINEST_S = 1e-6
SPREADS = ("latency", "lag", "waited")
MISSED, INVALID = 1, 3
"""Exit codes: the SLO was missed; the run says nothing about the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One request.

    Attributes:
        intended_s: Unix time at which it was to be sent.
        lag_s: How much later than intended the generator turned to it.
        waited_s: How long it then waited for one of the allowed requests in flight.
        latency_s: From ``intended_s`` to the answer.
        ok: Answered correctly.
        reason: ``ok``, or what went wrong.
        warm_up: Sent before the count began.
    """

    intended_s: float
    lag_s: float
    waited_s: float
    latency_s: float
    ok: bool
    reason: str
    warm_up: bool


@dataclass(slots=True)
class Spread:
    """Durations in buckets half a percent wide; two of them can be added."""

    counts: Counter[int] = field(default_factory=Counter)
    total_s: float = 0.0
    longest_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[round(math.log(max(seconds, FINEST_S) / FINEST_S, STEP))] += 1
        self.total_s += seconds
        self.longest_s = max(self.longest_s, seconds)

    def merge(self, other: Spread) -> None:
        """Add another spread's durations."""
        self.counts.update(other.counts)
        self.total_s += other.total_s
        self.longest_s = max(self.longest_s, other.longest_s)

    def mean_s(self) -> float | None:
        """Return the mean, ``None`` when empty."""
        count = self.counts.total()
        return self.total_s / count if count else None

    def quantile_s(self, q: float) -> float | None:
        """Return the ``q`` quantile (nearest rank), ``None`` when empty."""
        rank = math.ceil(q * self.counts.total())
        below = 0
        for bucket in sorted(self.counts):
            below += self.counts[bucket]
            if below >= max(rank, 1):
                return min(FINEST_S * STEP**bucket, self.longest_s)
        return None


@dataclass(slots=True)
class Tally:
    """Requests counted so far, warm-up left out.

    Attributes:
        requests: All of them; unfinished ones that are already late count as failed.
        in_time: Answered correctly within the target.
        reasons: How often each kind of end was seen, ``ok`` among them.
        latency: Of correct answers.
        lag: Of the generator, over all requests.
        waited: For a free place in flight, over all requests.
        first_s: Unix time of the first intended sending.
        last_s: Unix time of the last intended sending.
    """

    target_s: float | None = None
    requests: int = 0
    in_time: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    latency: Spread = field(default_factory=Spread)
    lag: Spread = field(default_factory=Spread)
    waited: Spread = field(default_factory=Spread)
    first_s: float = math.inf
    last_s: float = -math.inf

    def add(self, outcome: Outcome) -> None:
        """Count one request, unless it belongs to the warm-up."""
        if outcome.warm_up:
            return
        self.requests += 1
        self.reasons[outcome.reason] += 1
        self.lag.add(outcome.lag_s)
        self.waited.add(outcome.waited_s)
        self.first_s = min(self.first_s, outcome.intended_s)
        self.last_s = max(self.last_s, outcome.intended_s)
        if outcome.ok:
            self.latency.add(outcome.latency_s)
            if self.target_s is not None and outcome.latency_s <= self.target_s:
                self.in_time += 1

    def merge(self, other: Tally) -> None:
        """Add another tally's requests."""
        self.requests += other.requests
        self.in_time += other.in_time
        self.reasons.update(other.reasons)
        for name in SPREADS:
            getattr(self, name).merge(getattr(other, name))
        self.first_s = min(self.first_s, other.first_s)
        self.last_s = max(self.last_s, other.last_s)

    def packed(self) -> dict[str, Any]:
        """Return the tally as Locust sends it from a worker to the master (msgpack)."""
        spreads = {
            name: [list(spread.counts.items()), spread.total_s, spread.longest_s]
            for name in SPREADS
            for spread in [getattr(self, name)]
        }
        return {
            "requests": self.requests,
            "in_time": self.in_time,
            "reasons": dict(self.reasons),
            "first_s": self.first_s,
            "last_s": self.last_s,
            "spreads": spreads,
        }

    @classmethod
    def unpacked(cls, data: dict[str, Any]) -> Tally:
        """Rebuild a tally from :meth:`packed`."""
        latency, lag, waited = (
            Spread(counts=Counter(dict(map(tuple, pairs))), total_s=total, longest_s=longest)
            for pairs, total, longest in (data["spreads"][name] for name in SPREADS)
        )
        return cls(
            requests=data["requests"],
            in_time=data["in_time"],
            reasons=Counter(data["reasons"]),
            first_s=data["first_s"],
            last_s=data["last_s"],
            latency=latency,
            lag=lag,
            waited=waited,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What a run must keep to pass and to count at all.

    Attributes:
        target_s: Latency target, ``None`` when the run is not judged.
        attainment_ratio: Share of all requests that must be answered within it.
        lag_limit_s: The 99th percentile of the generator's own lag must stay below.
    """

    target_s: float | None
    attainment_ratio: float
    lag_limit_s: float


def summary(tally: Tally, objective: Objective, *, open_loop: bool) -> dict[str, Any]:
    """Return the run in numbers, milliseconds as people read them; ``None`` where unknown.

    ``valid`` is false when the generator itself was late or nothing was sent: then the latencies
    say how busy the generator was, not the server. ``passed`` is ``None`` without a target.
    """
    span_s = tally.last_s - tally.first_s if tally.requests > 1 else None
    lag_s = tally.lag.quantile_s(0.99)
    valid = lag_s is not None and lag_s <= objective.lag_limit_s
    answered = tally.latency.counts.total()
    judged = objective.target_s is not None and tally.requests > 0
    in_time = tally.in_time / max(tally.requests, 1)
    return {
        "loop": "open" if open_loop else "closed",
        "requests": tally.requests,
        "answered": answered,
        "reasons": dict(tally.reasons),
        "duration_s": span_s,
        "offered_rps": (tally.requests - 1) / span_s if span_s else None,
        "answered_ratio": answered / tally.requests if tally.requests else None,
        "latency_ms": _milliseconds(tally.latency),
        "send_lag_ms": _milliseconds(tally.lag),
        "waited_ms": _milliseconds(tally.waited),
        "target_ms": None if objective.target_s is None else 1000.0 * objective.target_s,
        "asked_attainment": objective.attainment_ratio if judged else None,
        "attainment": in_time if judged else None,
        "valid": valid,
        "passed": in_time >= objective.attainment_ratio if judged else None,
    }


def verdict(found: dict[str, Any], objective: Objective) -> tuple[int | None, str]:
    """Return the exit code, ``None`` to leave it to Locust, and the sentence that goes with it."""
    if not found["requests"]:
        return INVALID, "invalid: no request was counted; is the warm-up longer than the run?"
    if not found["valid"]:
        lag_ms, limit_ms = found["send_lag_ms"]["p99"], 1000.0 * objective.lag_limit_s
        return INVALID, (
            f"invalid: the generator was late itself (send lag p99 {lag_ms:.1f} ms, at most "
            f"{limit_ms:g} ms): use more workers or a quieter machine"
        )
    if found["target_ms"] is None:
        return None, "valid; no --slo-ms was given, so nothing is judged"
    said = (
        f"{100 * found['attainment']:.2f} % of {found['requests']} requests within "
        f"{found['target_ms']:g} ms, {100 * objective.attainment_ratio:g} % were asked for"
    )
    kept = found["attainment"] >= objective.attainment_ratio
    return (0, f"SLO kept: {said}") if kept else (MISSED, f"SLO missed: {said}")


def _milliseconds(spread: Spread) -> dict[str, float | None]:
    found = {"mean": spread.mean_s()} | {
        f"p{round(100 * q)}": spread.quantile_s(q) for q in (0.5, 0.95, 0.99)
    }
    if spread.counts:
        found["max"] = spread.longest_s
    return {name: None if value is None else 1000.0 * value for name, value in found.items()}
