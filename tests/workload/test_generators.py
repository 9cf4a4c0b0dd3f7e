"""Generated traffic: unit mean, reproducible, and shaped by the parameters it was given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.workload.diurnal import DiurnalParams
from gpupilot_envs.workload.flash import FlashParams
from gpupilot_envs.workload.generators import FAMILIES, Params, generate
from gpupilot_envs.workload.model import fitted
from gpupilot_envs.workload.noise import bin_means, generator, lognormal_ar1
from gpupilot_envs.workload.onoff import OnOffParams
from gpupilot_envs.workload.ramps import RampsParams
from gpupilot_envs.workload.randomisation import (
    HELD_OUT_FAMILIES,
    HELD_OUT_SHAPES,
    RANGES,
    TRAINING_FAMILIES,
    TRAINING_SHAPES,
    random_params,
    random_traffic,
)
from gpupilot_envs.workload.regimes import RegimesParams
from gpupilot_envs.workload.replay import ReplayParams
from gpupilot_envs.workload.trace import DAY_S

QUIET = DiurnalParams(day_shape=(1.0,), slow_sigma=0.0, fast_sigma=0.0)
DAYS = ReplayParams(
    day_shape=(0.5, 1.5),
    day_levels=(0.8, 1.2, 1.0),
    residuals=((0.9, 1.1), (1.0, 1.0), (1.1, 0.9)),
    block_slots=1,
)
ALL: tuple[Params, ...] = (
    DiurnalParams(),
    FlashParams(),
    RegimesParams(),
    RampsParams(),
    OnOffParams(),
    DAYS,
)


def test_every_family_is_tried_here() -> None:
    assert tuple(params.family for params in ALL) == FAMILIES


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(ALL),
    st.floats(60.0, 20_000.0),
    st.sampled_from([1.0, 7.0, 57.0, 60.0]),
    st.integers(0, 2**40),
)
def test_any_length_and_seed_gives_unit_mean_and_whole_bins(
    params: Params, duration_s: float, bin_s: float, seed: int
) -> None:
    trace = generate(params, duration_s=duration_s, bin_s=bin_s, seed=seed)
    assert len(trace.rps) == max(1, round(duration_s / bin_s))
    assert trace.family == params.family
    assert not trace.masked.any()
    assert trace.mean_rps == pytest.approx(1.0) or (
        params.family == "onoff" and trace.mean_rps == 0.0
    )
    again = generate(params, duration_s=duration_s, bin_s=bin_s, seed=seed)
    assert again.sha256 == trace.sha256


@pytest.mark.parametrize("params", ALL, ids=lambda params: params.family)
def test_seeds_differ(params: Params) -> None:
    hashes = {
        generate(params, duration_s=3 * DAY_S, bin_s=300.0, seed=seed).sha256 for seed in range(5)
    }
    assert len(hashes) == 5


def test_days_and_weeks_repeat() -> None:
    week = (1.2, 1.2, 1.2, 1.2, 1.2, 0.5, 0.5)
    params = replace(QUIET, day_shape=(0.5, 1.5), week_shape=week)
    rates = generate(params, duration_s=14 * DAY_S, bin_s=3600.0, seed=0).rps.reshape(14, 24)
    np.testing.assert_allclose(rates[:7], rates[7:])
    np.testing.assert_allclose((rates[0] / rates[5])[1:23], 1.2 / 0.5)
    # days go over into each other around midnight, without a jump
    assert np.abs(np.diff(np.log(rates.ravel()))).max() < 0.8 * np.log(1.2 / 0.5)
    assert rates[0, 6] / rates[0, 18] == pytest.approx(1 / 3, rel=0.2)
    squeezed = replace(params, day_s=3600.0)
    hour = generate(squeezed, duration_s=14 * 3600.0, bin_s=150.0, seed=0).rps.reshape(14, 24)
    np.testing.assert_allclose(hour, rates)


def test_noise_has_the_stated_spread_memory_and_mean() -> None:
    noise = lognormal_ar1(generator(2), 400_000, 60.0, sigma=0.4, tau_s=600.0)
    logarithm = np.log(noise)
    assert noise.mean() == pytest.approx(1.0, abs=0.02)
    assert logarithm.std() == pytest.approx(0.4, rel=0.03)
    correlation = np.corrcoef(logarithm[:-10], logarithm[10:])[0, 1]
    assert correlation == pytest.approx(np.exp(-1.0), abs=0.03)


def test_step_functions_are_averaged_exactly() -> None:
    means = bin_means(np.array([0.0, 15.0, 25.0]), np.array([2.0, 8.0, 0.0]), bins=4, bin_s=10.0)
    np.testing.assert_allclose(means, [2.0, 5.0, 4.0, 0.0], atol=1e-12)
    assert means[3] == 0.0


def test_regimes_keep_their_levels_and_shares_of_time() -> None:
    params = RegimesParams(levels=(1.0, 4.0), dwell_s=(900.0, 300.0), noise_sigma=0.0)
    rates = generate(params, duration_s=40 * DAY_S, bin_s=10.0, seed=3).rps
    low, high = rates.min(), rates.max()
    assert high / low == pytest.approx(4.0)
    assert (rates > 0.5 * (low + high)).mean() == pytest.approx(0.25, abs=0.02)


def test_flash_events_have_the_stated_frequency_and_shape() -> None:
    params = FlashParams(
        base=QUIET, events_per_day=2.0, height=3.0, height_sigma=0.0, rise_s=60.0, decay_s=600.0
    )
    rates = generate(params, duration_s=100 * DAY_S, bin_s=10.0, seed=5).rps
    excess = rates / np.median(rates) - 1.0
    starts = np.flatnonzero((excess[1:] > 1.0) & (excess[:-1] <= 1.0))
    assert len(starts) == pytest.approx(200, abs=45)
    first = starts[0] + int(np.argmax(excess[starts[0] : starts[0] + 20]))
    assert excess[first] == pytest.approx(3.0, rel=0.1)
    assert excess[first + 60] / excess[first] == pytest.approx(np.exp(-1.0), rel=0.1)


def test_silence_is_silent_and_bouts_have_their_share() -> None:
    params = OnOffParams(on_s=100.0, off_s=300.0, level_sigma=0.0, off_level=0.0)
    rates = generate(params, duration_s=20 * DAY_S, bin_s=1.0, seed=6).rps
    assert (rates > 0).mean() == pytest.approx(0.25, abs=0.02)


def test_replayed_days_keep_the_order_of_days_and_redraw_their_blocks() -> None:
    rates = generate(DAYS, duration_s=6 * DAY_S, bin_s=DAY_S / 2, seed=7).rps.reshape(6, 2)
    seen = rates / rates.mean() / (np.array([0.5, 1.5]))
    levels = seen.mean(axis=1)
    order = np.tile([0.8, 1.2, 1.0], 4)
    errors = [np.abs(levels - order[shift : shift + 6]).max() for shift in range(3)]
    assert min(errors) < 0.15
    assert max(errors) > 0.2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"duration_s": 0.0}, "duration_s: 0.0"),
        ({"bin_s": -1.0}, "bin_s: -1.0"),
        ({"bin_s": float("nan")}, "bin_s: nan"),
        ({"seed": -1}, "seed: -1"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, float], words: str) -> None:
    usual: dict[str, float] = {"duration_s": 60.0, "bin_s": 1.0, "seed": 0}
    with pytest.raises(InputInvalid, match=words):
        generate(QUIET, **(usual | arguments))  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**40), st.sampled_from(["diurnal", "flash", "regimes", "ramps", "onoff"]))
def test_random_parameters_lie_in_their_ranges(seed: int, family: str) -> None:
    params = random_params(family, np.random.default_rng(seed))
    checked = 0
    for name, (low, high) in RANGES.items():
        value = getattr(params, name, None)
        values = value if isinstance(value, tuple) else () if value is None else (value,)
        for one in values:
            assert low * (1 - 1e-9) <= one <= high * (1 + 1e-9) or (name, one) == ("off_level", 0)
            checked += 1
    assert checked >= 3


def test_random_traffic_is_reproducible_and_varied() -> None:
    traces = [random_traffic(seed, duration_s=600.0, bin_s=5.0) for seed in range(60)]
    assert {trace.family for trace in traces} == set(TRAINING_FAMILIES)
    assert len({trace.sha256 for trace in traces if trace.mean_rps > 0}) > 50
    assert random_traffic(7, duration_s=600.0, bin_s=5.0).sha256 == traces[7].sha256
    with pytest.raises(InputInvalid, match="family: 'waves'"):
        random_traffic(1, duration_s=60.0, bin_s=5.0, families=["waves"])


def test_held_out_is_disjoint_from_training() -> None:
    assert not set(TRAINING_FAMILIES) & set(HELD_OUT_FAMILIES)
    assert not set(TRAINING_SHAPES) & set(HELD_OUT_SHAPES)
    assert set(TRAINING_SHAPES) | set(HELD_OUT_SHAPES) <= set(fitted())


def within_a_day(params: DiurnalParams) -> float:
    """Spread of the slow noise's logarithm that a day shows; slower noise is a level."""
    return params.slow_sigma * float(np.sqrt(-np.expm1(-DAY_S / params.slow_tau_s)))


def test_the_ranges_contain_the_fits_of_services_with_real_load() -> None:
    for name, model in fitted().items():
        if model.mean_rps < 10.0:
            continue
        params = model.params
        if isinstance(params, FlashParams | DiurnalParams):
            base = params.base if isinstance(params, FlashParams) else params
            assert RANGES["slow_sigma"][0] < within_a_day(base) < RANGES["slow_sigma"][1], name
            # 0 where the bins are too long to see it
            assert base.fast_sigma < RANGES["fast_sigma"][1], name
        for field, (low, high) in RANGES.items():
            value = getattr(params, field, None)
            if isinstance(value, float) and field not in ("slow_sigma", "slow_tau_s", "fast_sigma"):
                assert low < value < high, (name, field)


@pytest.mark.parametrize(
    ("default", "name"),
    [
        (DiurnalParams(), "mscloud_mongo_app_01"),
        (FlashParams(), "mscloud_mongo_app_04"),
        (RegimesParams(), "twitter_stream_202108_wk1_2"),
        (RampsParams(), "servegen_m_large"),
        (OnOffParams(), "azure_llm_2023_code_10s"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_defaults_are_the_fits_they_claim_to_be(default: Params, name: str) -> None:
    fit = fitted()[name].fits[default.family].params
    if isinstance(fit, FlashParams):
        fit = replace(fit, base=DiurnalParams())
    assert fit == default
