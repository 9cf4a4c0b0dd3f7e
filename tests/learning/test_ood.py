"""What a policy has seen is recognised, what it has not is called strange."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpupilot_agent.ood import OUTSIDE_MAX, Familiar, fit, outside, spread
from gpupilot_envs.observation import FIELDS, HIGH, LOW

WIDTH = len(FIELDS)


def _seen(n: int, seed: int = 0) -> np.ndarray:
    """Return observations around a tenth of the range, correlated as real ones are."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(0.0, 1.0, (n, 1))
    noise = 0.02 * shared + 0.02 * rng.normal(0.0, 1.0, (n, WIDTH))
    values = LOW + (HIGH - LOW) * np.clip(0.3 + noise, 0.0, 1.0)
    return values.astype(np.float32)


@pytest.fixture(scope="module")
def familiar() -> Familiar:
    seen = _seen(40_000)
    return fit(seen, np.zeros(len(seen), dtype=np.float32))


def _strange(familiar: Familiar, observations: np.ndarray) -> np.ndarray:
    return familiar.strange(observations, np.zeros(len(observations), dtype=np.float32))


def test_training_like_observations_hardly_ever_trip_it(familiar: Familiar) -> None:
    assert _strange(familiar, _seen(40_000)).mean() <= OUTSIDE_MAX
    assert _strange(familiar, _seen(40_000, seed=1)).mean() <= 2.0 * OUTSIDE_MAX


@given(seed=st.integers(0, 2**32 - 1))
def test_nonsense_is_always_strange(familiar: Familiar, seed: int) -> None:
    rng = np.random.default_rng(seed)
    uniform = rng.uniform(LOW, HIGH, (50, WIDTH)).astype(np.float32)
    extremes = np.where(rng.random((50, WIDTH)) < 0.5, LOW, HIGH)
    assert _strange(familiar, uniform).all()
    assert _strange(familiar, extremes).all()


def test_a_combination_never_seen_of_values_that_were_is_strange(familiar: Familiar) -> None:
    """Fields that always rise and fall together, one high and the next low."""
    low, high = familiar.low, familiar.high
    mixed = np.where(np.arange(WIDTH) % 2, low, high)[None, :].astype(np.float32)
    assert not outside(mixed, low, high).any()
    assert _strange(familiar, mixed).all()
    assert "deviations off" in familiar.why(mixed[0], 0.0)


@given(field=st.integers(0, WIDTH - 1), value=st.sampled_from([np.nan, np.inf, -np.inf]))
def test_one_field_without_a_number_is_strange(
    familiar: Familiar, field: int, value: float
) -> None:
    observation = _seen(1)
    observation[0, field] = value
    assert _strange(familiar, observation).all()


@given(field=st.integers(0, WIDTH - 1))
def test_one_field_far_out_is_strange_and_named(familiar: Familiar, field: int) -> None:
    observation = _seen(1)
    observation[0, field] = HIGH[field]
    assert _strange(familiar, observation).all()
    assert familiar.why(observation[0], 0.0).startswith(FIELDS[field].name)


def test_what_never_varied_may_vary_a_little() -> None:
    seen = np.tile((LOW + HIGH) / 2.0, (2000, 1)).astype(np.float32)
    constant = fit(seen, np.zeros(2000, dtype=np.float32))
    nearby = seen[:1] + 0.0004 * (HIGH - LOW)
    assert not _strange(constant, nearby.astype(np.float32)).any()
    assert _strange(constant, (nearby + 0.01 * (HIGH - LOW)).astype(np.float32)).all()


def test_networks_that_drift_apart_are_strange() -> None:
    seen = _seen(4000)
    spreads = np.random.default_rng(0).gamma(4.0, 0.1, 4000).astype(np.float32)
    found = fit(seen, spreads)
    assert (spreads > found.spread_max).mean() <= OUTSIDE_MAX
    assert found.strange(seen[:1], np.array([10.0], dtype=np.float32)).all()
    assert found.strange(seen[:1], np.array([np.nan], dtype=np.float32)).all()
    assert "networks 10 apart" in found.why(seen[0], 10.0)


def test_spread_is_the_deviation_of_what_a_softmax_sees() -> None:
    rng = np.random.default_rng(3)
    sizes = np.array([3, 4])
    logits = rng.normal(size=(3, 20, 7)).astype(np.float32)
    mean = logits.mean(axis=0)
    centred = logits - mean
    expected = np.zeros(20)
    for part in np.split(centred, [3], axis=2):
        expected += ((part - part.mean(axis=2, keepdims=True)) ** 2).sum(axis=(0, 2))
    expected = np.sqrt(expected / (3 * 7))
    assert spread(logits, mean, sizes) == pytest.approx(expected, rel=1e-4)
    shifted = logits + rng.normal(size=(3, 20, 1)).astype(np.float32)
    found = spread(shifted, shifted.mean(axis=0), sizes)
    # a shift common to both axes cancels axis by axis
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_box_is_closed(familiar: Familiar) -> None:
    edges = np.stack([familiar.low, familiar.high])
    assert not outside(edges, familiar.low, familiar.high).any()
