"""Fits recover the parameters that traffic was generated with, within stated tolerances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gpupilot_envs.errors import TraceInvalid
from gpupilot_envs.workload.arrivals import RateArrivals, SteadyArrivals
from gpupilot_envs.workload.burstiness import arrivals_cv, index_of_dispersion
from gpupilot_envs.workload.diurnal import DiurnalParams
from gpupilot_envs.workload.fitting import fit
from gpupilot_envs.workload.flash import FlashParams
from gpupilot_envs.workload.generators import Params, generate
from gpupilot_envs.workload.model import (
    WorkloadModel,
    fitted,
    generate_from,
    load_model,
    save_model,
)
from gpupilot_envs.workload.onoff import OnOffParams
from gpupilot_envs.workload.ramps import RampsParams
from gpupilot_envs.workload.regimes import RegimesParams
from gpupilot_envs.workload.trace import DAY_S, RateTrace

DAY = tuple(float(x) for x in 1.0 + 0.5 * np.sin(2 * np.pi * (np.arange(24) + 0.5) / 24))
WEEK = (1.1, 1.1, 1.1, 1.1, 1.1, 0.75, 0.75)


def fitted_to(params: Params, days: float, *, rps: float = 1000.0, seed: int = 1) -> WorkloadModel:
    """Fit to requests counted minute by minute, as a recording has them."""
    rate = generate(params, duration_s=days * DAY_S, bin_s=60.0, seed=seed).scaled(rps)
    counts = np.random.default_rng(seed).poisson(rate.rps * 60.0)
    return fit(RateTrace(name="counted", bin_s=60.0, rps=counts / 60.0))


def test_day_week_and_noise_are_recovered() -> None:
    truth = DiurnalParams(
        day_shape=DAY, week_shape=WEEK, slow_sigma=0.15, slow_tau_s=3600.0, fast_sigma=0.08
    )
    model = fitted_to(truth, 28)
    found = model.params
    assert isinstance(found, DiurnalParams)
    np.testing.assert_allclose(found.day_shape, DAY, atol=0.06)
    np.testing.assert_allclose(found.week_shape, WEEK, atol=0.06)
    assert found.slow_sigma == pytest.approx(0.15, rel=0.15)
    assert found.slow_tau_s == pytest.approx(3600.0, rel=0.25)
    assert found.fast_sigma == pytest.approx(0.08, rel=0.15)


def test_the_noise_of_counting_is_not_taken_for_noise_of_the_rate() -> None:
    truth = DiurnalParams(day_shape=DAY, slow_sigma=0.0, fast_sigma=0.0)
    rate = generate(truth, duration_s=14 * DAY_S, bin_s=60.0, seed=1).scaled(2.0)
    counts = np.random.default_rng(3).poisson(rate.rps * 60.0) / 60.0
    found = fit(RateTrace(name="counted", bin_s=60.0, rps=counts)).fits["diurnal"].params
    assert isinstance(found, DiurnalParams)
    # 120 requests a minute are counted with a spread of 9 %
    assert found.fast_sigma < 0.04


def test_flash_events_are_recovered() -> None:
    truth = FlashParams(
        base=DiurnalParams(day_shape=DAY, slow_sigma=0.05, fast_sigma=0.02),
        events_per_day=4.0,
        height=2.0,
        height_sigma=0.3,
        rise_s=180.0,
        decay_s=900.0,
    )
    model = fitted_to(truth, 28)
    found = model.params
    assert isinstance(found, FlashParams)
    assert found.events_per_day == pytest.approx(4.0, rel=0.25)
    assert found.height == pytest.approx(2.0, rel=0.2)
    assert found.height_sigma == pytest.approx(0.3, abs=0.15)
    assert found.rise_s == pytest.approx(180.0, rel=0.4)
    assert found.decay_s == pytest.approx(900.0, rel=0.25)


def test_regimes_are_recovered() -> None:
    truth = RegimesParams(
        levels=(0.5, 2.0), dwell_s=(3600.0, 1800.0), noise_sigma=0.1, noise_tau_s=300.0
    )
    model = fitted_to(truth, 14)
    found = model.params
    assert isinstance(found, RegimesParams)
    assert found.levels[1] / found.levels[0] == pytest.approx(4.0, rel=0.1)
    np.testing.assert_allclose(found.dwell_s, truth.dwell_s, rtol=0.2)
    assert found.noise_sigma == pytest.approx(0.1, abs=0.06)


def test_ramps_are_recovered() -> None:
    truth = RampsParams(leg_s=7200.0, level_sigma=0.5, noise_sigma=0.05, noise_tau_s=300.0)
    model = fitted_to(truth, 14)
    found = model.params
    assert isinstance(found, RampsParams)
    assert found.leg_s == pytest.approx(7200.0, rel=0.3)
    assert found.level_sigma == pytest.approx(0.5, rel=0.25)
    assert 0.05 < found.noise_sigma < 0.12


def test_bouts_and_silences_are_recovered() -> None:
    truth = OnOffParams(on_s=900.0, off_s=2700.0, dwell_shape=1.0, level_sigma=0.4, off_level=0.01)
    model = fitted_to(truth, 14)
    found = model.params
    assert isinstance(found, OnOffParams)
    assert found.on_s == pytest.approx(900.0, rel=0.2)
    assert found.off_s == pytest.approx(2700.0, rel=0.2)
    assert found.dwell_shape == pytest.approx(1.0, abs=0.4)
    assert found.level_sigma == pytest.approx(0.4, abs=0.15)
    assert found.off_level < 0.1


@pytest.mark.parametrize("cv", [0.5, 1.0, 2.0, 3.0])
def test_burstiness_is_recovered_from_steady_and_from_moving_rates(cv: float) -> None:
    steady = SteadyArrivals(50.0, cv=cv, seed=2).take(4000.0)
    assert arrivals_cv(steady) == pytest.approx(cv, rel=0.12)
    wave = RateTrace(name="w", bin_s=60.0, rps=50.0 + 30.0 * np.sin(np.arange(120) / 10.0))
    moving = RateArrivals(wave, cv=cv, seed=2).take(7200.0)
    assert arrivals_cv(moving) == pytest.approx(cv, rel=0.15)


def test_too_few_arrivals_tell_nothing() -> None:
    assert arrivals_cv(np.empty(0)) is None
    assert arrivals_cv(np.zeros(100)) is None
    assert arrivals_cv(np.arange(100.0)) is None
    assert index_of_dispersion(np.arange(100.0), 10.0) is None


def test_replay_keeps_days_and_is_never_chosen() -> None:
    model = fitted_to(DiurnalParams(day_shape=DAY, slow_sigma=0.08, slow_tau_s=3600.0), 7)
    assert model.family != "replay"
    replayed = generate_from(model, duration_s=7 * DAY_S, seed=1, bin_s=3600.0, family="replay")
    by_hour = replayed.rps.reshape(7, 24).mean(axis=0)
    np.testing.assert_allclose(by_hour / by_hour.mean(), DAY, atol=0.15)
    assert model.fits["replay"].goodness.distance < 0.3


def test_a_model_survives_its_file_and_generates_at_the_real_rate(tmp_path: Path) -> None:
    model = fitted_to(RegimesParams(), 3, rps=250.0)
    path = tmp_path / "model.yaml"
    save_model(path, model)
    assert load_model(path) == model
    trace = generate_from(model, duration_s=DAY_S, seed=5)
    assert trace.mean_rps == pytest.approx(model.mean_rps)
    assert trace.bin_s == 60.0
    assert trace.sha256 == generate_from(load_model(path), duration_s=DAY_S, seed=5).sha256
    with pytest.raises(TraceInvalid, match="family: 'waves'"):
        generate_from(model, duration_s=DAY_S, seed=5, family="waves")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (": {", "malformed YAML"),
        ("[1]", "model"),
        ("format: gpupilot/workload-v9", "format: 'gpupilot/workload-v9'"),
    ],
)
def test_broken_models_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(text)
    with pytest.raises(TraceInvalid, match=words):
        load_model(path)
    with pytest.raises(TraceInvalid, match="a readable"):
        load_model(tmp_path / "none.yaml")


def test_traffic_that_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(TraceInvalid, match="no traffic"):
        fit(RateTrace(name="t", bin_s=60.0, rps=np.zeros(1000)))
    with pytest.raises(TraceInvalid, match="120 or more bins"):
        fit(RateTrace(name="t", bin_s=60.0, rps=np.ones(50)))


@settings(max_examples=40, deadline=None)
@given(
    arrays(
        np.float64,
        st.integers(120, 300),
        elements=st.sampled_from([0.0, 0.0, 1.0, 2.0, 5.0, 1e-3, 1e4]),
    ),
    st.sampled_from([60.0, 600.0, 3600.0, 90_000.0]),
)
@example(np.full(120, 1e-3), 60.0)
@example(np.full(213, 1e-3), 60.0)
def test_any_traffic_at_all_can_be_fitted_and_generated(rps: np.ndarray, bin_s: float) -> None:
    if not rps.any():
        return
    model = fit(RateTrace(name="any", bin_s=bin_s, rps=rps))
    for family, one in model.fits.items():
        assert np.isfinite(one.goodness.distance)
        trace = generate_from(model, duration_s=200 * bin_s, seed=1, family=family)
        assert trace.mean_rps == pytest.approx(model.mean_rps) or trace.mean_rps == 0.0


def test_traffic_that_never_changes_is_flat() -> None:
    model = fit(RateTrace(name="flat", bin_s=60.0, rps=np.full(3000, 50.0)))
    assert model.family == "diurnal"
    assert isinstance(model.params, DiurnalParams)
    assert model.params.slow_sigma == model.params.fast_sigma == 0.0


def test_masked_time_does_not_change_the_fit() -> None:
    whole = generate(DiurnalParams(day_shape=DAY), duration_s=14 * DAY_S, bin_s=60.0, seed=4)
    holed = whole.rps.copy()
    gaps = [(day * DAY_S + 80_000.0, day * DAY_S + 84_000.0) for day in range(14)]
    for start_s, end_s in gaps:
        holed[int(start_s // 60) : int(end_s // 60)] = 0.0
    masked = RateTrace(name="t", bin_s=60.0, rps=holed).with_mask(gaps).scaled(1000.0)
    truth = fit(whole.scaled(1000.0)).fits["diurnal"].params
    found = fit(masked).fits["diurnal"].params
    assert isinstance(truth, DiurnalParams)
    assert isinstance(found, DiurnalParams)
    np.testing.assert_allclose(found.day_shape, truth.day_shape, atol=0.08)
    assert found.slow_sigma == pytest.approx(truth.slow_sigma, rel=0.2)


def test_the_committed_fits_generate_traffic() -> None:
    models = fitted()
    assert len(models) >= 16
    for model in models.values():
        assert "replay" not in model.fits
        for family in model.fits:
            trace = generate_from(model, duration_s=DAY_S, seed=1, bin_s=300.0, family=family)
            assert trace.mean_rps == pytest.approx(model.mean_rps)
