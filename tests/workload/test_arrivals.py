"""Arrivals follow the rate, have the stated burstiness and never depend on how they are asked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.workload.arrivals import (
    ArrivalStream,
    ExactArrivals,
    RateArrivals,
    SteadyArrivals,
)
from gpupilot_envs.workload.gaps import GapTable, gap_table
from gpupilot_envs.workload.trace import RateTrace

WAVE = RateTrace(
    name="wave", bin_s=10.0, rps=np.maximum(0.0, 60.0 * np.sin(np.arange(120) / 9.0) + 20.0)
)
CVS = (0.0, 0.5, 1.0, 2.0, 4.0)


def streams(cv: float, seed: int) -> list[Callable[[], ArrivalStream]]:
    recorded = np.sort(np.random.default_rng(seed).uniform(0.0, 1200.0, 30_000))
    return [
        lambda: RateArrivals(WAVE, cv=cv, seed=seed),
        lambda: SteadyArrivals(40.0, cv=cv, seed=seed),
        lambda: ExactArrivals(recorded),
    ]


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(CVS),
    st.integers(0, 2**62),
    st.lists(st.floats(0.0, 1300.0), max_size=12),
)
def test_however_time_is_cut_the_arrivals_are_the_same(
    cv: float, seed: int, cuts: list[float]
) -> None:
    for stream in streams(cv, seed):
        whole = stream().take(1300.0)
        cut_stream = stream()
        previous = 0.0
        parts = []
        for until in (*sorted(cuts), 1300.0):
            part = cut_stream.take(until)
            assert not len(part) or (previous <= part[0] and part[-1] < until)
            parts.append(part)
            previous = until
        joined = np.concatenate(parts)
        assert np.array_equal(joined, whole)
        assert (np.diff(joined) >= 0.0).all()


@pytest.mark.parametrize("cv", CVS)
def test_windows_hold_the_integral_of_the_rate(cv: float) -> None:
    # 20 realisations: the tolerance is five standard errors of a renewal count
    counts = [
        np.histogram(RateArrivals(WAVE, cv=cv, seed=seed).take(1200.0), np.arange(0, 1201, 60))[0]
        for seed in range(20)
    ]
    expected = WAVE.rebinned(60.0).rps * 60.0
    error = np.mean(counts, axis=0) - expected
    assert (np.abs(error) <= 5.0 * np.sqrt((cv**2 * expected + 1.0) / 20.0)).all()


@pytest.mark.parametrize("cv", [0.5, 1.0, 2.0, 4.0])
def test_no_window_is_special_not_even_the_first(cv: float) -> None:
    # an ordinary renewal process would start with (cv^2 - 1) / 2 requests too many
    early = [len(SteadyArrivals(10.0, cv=cv, seed=seed).take(0.5)) for seed in range(2000)]
    standard_error = np.std(early) / np.sqrt(len(early))
    assert np.mean(early) == pytest.approx(5.0, abs=4.0 * standard_error)


def test_cv_one_is_poisson() -> None:
    arrivals = SteadyArrivals(100.0, seed=4).take(3000.0)
    counts = np.histogram(arrivals, np.arange(0.0, 3001.0, 0.1))[0]
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=0.03)
    assert stats.kstest(np.diff(arrivals) * 100.0, "expon").pvalue > 0.01


@pytest.mark.parametrize("cv", [0.5, 2.0, 4.0])
def test_counts_are_dispersed_as_cv_squared(cv: float) -> None:
    arrivals = SteadyArrivals(1000.0, cv=cv, seed=8).take(4000.0)
    counts = np.histogram(arrivals, np.arange(0.0, 4001.0, 1.0))[0]
    assert counts.var() / counts.mean() == pytest.approx(cv**2, rel=0.1)


def test_gaps_in_operational_time_are_gamma_whatever_the_rate() -> None:
    arrivals = RateArrivals(WAVE, cv=2.0, seed=3).take(1200.0)
    expected = np.concatenate(([0.0], np.cumsum(WAVE.rps * WAVE.bin_s)))
    operational = np.interp(arrivals, np.arange(121) * WAVE.bin_s, expected)
    gaps = np.diff(operational)
    assert stats.kstest(gaps, stats.gamma(0.25, scale=4.0).cdf).pvalue > 0.01


def integrated_moments(table: GapTable) -> tuple[float, float]:
    """Integrate gaps and their squares against exp(-e), by Gauss-Legendre on thin slices."""
    edges = np.concatenate(([0.0], np.geomspace(2.0**-33, 100.0, 20_000)))
    nodes, weights = np.polynomial.legendre.leggauss(4)
    half = np.diff(edges)[:, None] / 2.0
    e = edges[:-1, None] + half * (nodes + 1.0)
    gaps = e.ravel().copy()
    table.shape(gaps)
    weight = (half * weights * np.exp(-e)).ravel()
    mean = float(np.sum(weight * gaps))
    return mean, float(np.sqrt(np.sum(weight * gaps**2) - mean**2) / mean)


@pytest.mark.parametrize("cv", [0.05, 0.2, 0.5, 0.9, 1.1, 1.5, 2.0, 4.0, 7.0, 10.0])
def test_the_gap_table_has_the_right_mean_and_cv(cv: float) -> None:
    mean, table_cv = integrated_moments(gap_table(cv))
    assert mean == pytest.approx(1.0, abs=1e-6)
    assert table_cv == pytest.approx(cv, rel=1e-3)


@pytest.mark.parametrize("cv", [0.2, 0.5, 2.0, 4.0, 7.0])
def test_the_gap_table_is_the_gamma_distribution(cv: float) -> None:
    gaps = np.random.default_rng(5).standard_exponential(200_000)
    gap_table(cv).shape(gaps)
    expected = stats.gamma(cv**-2, scale=cv**2)
    assert stats.kstest(gaps, expected.cdf).pvalue > 0.01


def test_seeds_and_cvs_differ() -> None:
    first = SteadyArrivals(10.0, seed=1).take(10.0)
    assert not np.array_equal(first, SteadyArrivals(10.0, seed=2).take(10.0))
    assert not np.array_equal(first, SteadyArrivals(10.0, cv=1.1, seed=1).take(10.0))


def test_nothing_arrives_without_a_rate_or_after_the_end() -> None:
    assert len(SteadyArrivals(0.0, seed=1).take(1e9)) == 0
    trace = RateTrace(name="t", bin_s=10.0, rps=np.array([0.0, 50.0, 0.0, 50.0]))
    stream = RateArrivals(trace, seed=1)
    assert len(stream.take(10.0)) == 0
    assert len(stream.take(20.0)) > 300
    assert len(stream.take(30.0)) == 0
    assert len(stream.take(1e9)) > 300
    assert len(stream.take(2e9)) == 0


def test_deterministic_gaps_are_equal() -> None:
    gaps = np.diff(SteadyArrivals(50.0, cv=0.0, seed=6).take(100.0))
    np.testing.assert_allclose(gaps, 0.02, rtol=1e-9)


@pytest.mark.parametrize("stream", streams(1.0, 1))
def test_time_does_not_go_back(stream: Callable[[], ArrivalStream]) -> None:
    started = stream()
    started.take(5.0)
    for until_s in (4.0, float("nan")):
        with pytest.raises(ValueError, match="before"):
            started.take(until_s)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SteadyArrivals(-1.0, seed=1), "rate_rps: -1.0"),
        (lambda: SteadyArrivals(float("nan"), seed=1), "rate_rps: nan"),
        (lambda: SteadyArrivals(1.0, cv=-0.1, seed=1), "cv: -0.1"),
        (lambda: SteadyArrivals(1.0, cv=11.0, seed=1), "cv: 11.0"),
        (lambda: RateArrivals(WAVE, cv=float("nan"), seed=1), "cv: nan"),
        (lambda: RateArrivals(WAVE, seed=-1), "seed: -1"),
        (lambda: ExactArrivals(np.array([1.0, 0.5])), "t_s, row 2: 0.5"),
        (lambda: ExactArrivals(np.array([-1.0])), "t_s, row 1: -1.0"),
        (lambda: ExactArrivals(np.array([0.0, np.nan])), "t_s, row 2: nan"),
        (lambda: ExactArrivals(np.zeros((2, 2))), "one dimension"),
    ],
)
def test_impossible_arguments_are_refused(make: Callable[[], ArrivalStream], words: str) -> None:
    with pytest.raises(InputInvalid, match=words):
        make()
