"""What came of a run, in the numbers that are compared; the same whether measured or simulated.

Counted is what was *answered* from the end of the warm-up to the last request sent, so that a
backlog counts alike on both sides. Times in which the whole machine stood still are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.runs import Requests

BIN_S = 1.0
"""Answers are averaged over this long before a line is drawn through their latencies."""

BLOCKS = 20
"""Blocks of a run that are drawn anew, longer than what one backlog lasts below saturation."""

RESAMPLES = 400
CONFIDENCE = 0.95

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What users of a run felt; ``None`` where nothing was answered or the server did not tell.

    Attributes:
        throughput_rps: Answers per second.
        latency_mean_s: Of answered requests, as the quantiles.
        latency_p50_s: Half of them were faster.
        latency_p95_s: 95 % of them were faster.
        latency_p99_s: 99 % of them were faster.
        attainment_ratio: Answers within the target over requests that arrived.
        batch_mean: Requests per execution.
        growth_ratio: Seconds that latency grew per second of the run.
    """

    throughput_rps: float | None = None
    latency_mean_s: float | None = None
    latency_p50_s: float | None = None
    latency_p95_s: float | None = None
    latency_p99_s: float | None = None
    attainment_ratio: float | None = None
    batch_mean: float | None = None
    growth_ratio: float | None = None


NAMES = tuple(field.name for field in fields(Outcome))
QUANTILES = {"latency_p50_s": 0.50, "latency_p95_s": 0.95, "latency_p99_s": 0.99}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A run as it was, and how sure that is.

    Attributes:
        outcome: What was measured.
        low: Lower ends of 95 % intervals by block bootstrap; ``None`` where not estimated.
        high: Upper ends.
    """

    outcome: Outcome
    low: Outcome
    high: Outcome


def measured(requests: Requests, *, target_s: float, batch_mean: float | None) -> Measured:
    """Return what a recorded run came to.

    Args:
        requests: Every request of the run.
        target_s: Latency target of the attainment.
        batch_mean: Mean batch by the server's statistics.
    """
    spans_s = requests.calm_spans_s()
    begin_s, length_s = requests.counted_from_s, sum(until - since for since, until in spans_s)
    arrived = int(np.count_nonzero(within(requests.sent_s, spans_s)))
    done_s = requests.sent_s + requests.latency_s
    counts = requests.ok & within(done_s, spans_s)
    done_s, latency_s = done_s[counts] - begin_s, requests.latency_s[counts]
    outcome = Outcome(
        throughput_rps=len(latency_s) / length_s if length_s else None,
        batch_mean=batch_mean,
        growth_ratio=_growth(done_s, latency_s, requests.counted_until_s - begin_s),
        **_of_answers(latency_s, target_s, arrived),
    )
    low, high = _intervals(latency_s, target_s, arrived)
    return Measured(outcome=outcome, low=low, high=high)


def within(at_s: Floats, spans_s: Sequence[tuple[float, float]]) -> NDArray[np.bool_]:
    """Return which times lie in any of the spans, each without its beginning."""
    inside = np.zeros(len(at_s), dtype=bool)
    for since_s, until_s in spans_s:
        inside |= (at_s > since_s) & (at_s <= until_s)
    return inside


def growth_ratio(at_s: Floats, latency_s: Floats) -> float | None:
    """Return the slope of mean latency over time, ``None`` for fewer than three points."""
    known = ~np.isnan(latency_s)
    if np.count_nonzero(known) < 3:
        return None
    return float(np.polyfit(at_s[known], latency_s[known], 1)[0])


def _of_answers(latency_s: Floats, target_s: float, arrived: int) -> dict[str, float]:
    if not len(latency_s):
        return {}
    quantiles = np.quantile(latency_s, list(QUANTILES.values()))
    in_time = np.count_nonzero(latency_s <= target_s)
    found = dict(zip(QUANTILES, map(float, quantiles), strict=True))
    found["latency_mean_s"] = float(latency_s.mean())
    found["attainment_ratio"] = min(in_time / max(arrived, 1), 1.0)
    return found


def _growth(done_s: Floats, latency_s: Floats, length_s: float) -> float | None:
    bins = int(length_s / BIN_S)
    index = np.minimum((done_s / BIN_S).astype(np.int64), bins)
    count = np.bincount(index, minlength=bins + 1)[:bins]
    total = np.bincount(index, weights=latency_s, minlength=bins + 1)[:bins]
    means: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return growth_ratio(BIN_S * (np.arange(bins, dtype=np.float64) + 0.5), means)


def _intervals(latency_s: Floats, target_s: float, arrived: int) -> tuple[Outcome, Outcome]:
    """Return both ends of the intervals, by drawing blocks of the run anew (Künsch, 1989)."""
    random = np.random.default_rng(0)
    pieces = np.array_split(latency_s, BLOCKS)
    share = arrived / max(len(latency_s), 1)
    draws = []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([pieces[k] for k in random.integers(0, BLOCKS, BLOCKS)])
        draws.append(_of_answers(drawn, target_s, round(share * len(drawn))))
    return _ends(draws, 0.5 * (1.0 - CONFIDENCE)), _ends(draws, 0.5 * (1.0 + CONFIDENCE))


def _ends(draws: Sequence[Mapping[str, float]], share: float) -> Outcome:
    """Return a quantile of every number over the draws that have it."""
    names = {name for draw in draws for name in draw}
    return Outcome(
        **{n: float(np.quantile([draw[n] for draw in draws if n in draw], share)) for n in names}
    )
