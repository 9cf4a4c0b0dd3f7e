"""Rate traces keep their traffic through re-binning, slicing, scaling and masking."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gpupilot_envs.errors import TraceInvalid
from gpupilot_envs.workload.trace import RateTrace, scale_to, scale_to_replicas

RATES = arrays(np.float64, st.integers(1, 60), elements=st.floats(0.0, 1e4))


def trace(rps: list[float] | np.ndarray, bin_s: float = 60.0) -> RateTrace:
    return RateTrace(name="t", bin_s=bin_s, rps=np.array(rps))


@given(RATES, st.integers(1, 12))
def test_finer_bins_keep_the_mean_of_every_bin(rps: np.ndarray, parts: int) -> None:
    for shape in ("step", "linear"):
        fine = trace(rps).rebinned(60.0 / parts, shape)
        back = fine.rps.reshape(len(rps), parts).mean(axis=1)
        np.testing.assert_allclose(back, rps, rtol=1e-9, atol=1e-9)
        assert fine.rps.min() >= 0.0


@given(RATES, st.floats(1.0, 600.0))
def test_any_bin_length_keeps_the_arrivals_of_the_kept_span(
    rps: np.ndarray, new_bin_s: float
) -> None:
    old = trace(rps)
    if new_bin_s > old.duration_s:
        return
    new = old.rebinned(new_bin_s)
    kept = new.duration_s / 60.0
    integral = np.interp(kept, np.arange(len(rps) + 1), np.concatenate(([0.0], np.cumsum(rps))))
    assert new.rps.sum() * new_bin_s == pytest.approx(integral * 60.0, rel=1e-7, abs=1e-5)
    assert old.duration_s - new.duration_s < new_bin_s * (1 + 1e-6)


@given(RATES, st.floats(0.0, 1e3))
def test_scaling_scales_the_mean(rps: np.ndarray, factor: float) -> None:
    assert trace(rps).scaled(factor).mean_rps == pytest.approx(trace(rps).mean_rps * factor)


def test_linear_follows_the_slope_between_bins() -> None:
    fine = trace([0.0, 10.0, 20.0, 30.0]).rebinned(6.0, "linear").rps
    assert (np.diff(fine[15:25]) > 0).all()
    with pytest.raises(TraceInvalid, match="whole fraction of 60"):
        trace([1.0, 2.0]).rebinned(7.0, "linear")


def test_masked_bins_do_not_count_and_their_mask_survives_rebinning() -> None:
    gappy = trace([10.0, 0.0, 20.0, 30.0]).with_mask([(61.0, 119.0)])
    assert gappy.masked.tolist() == [False, True, False, False]
    assert gappy.mean_rps == pytest.approx(20.0)
    assert scale_to(gappy, 40.0).rps.tolist() == [20.0, 0.0, 40.0, 60.0]
    assert gappy.rebinned(120.0).masked.tolist() == [True, False]
    assert gappy.rebinned(30.0).masked.tolist() == [False, False, True, True] + [False] * 4
    assert gappy.rebinned(90.0).masked.tolist() == [True, True]
    assert gappy.bridged().rps.tolist() == [10.0, 15.0, 20.0, 30.0]


def test_slices_hold_whole_bins_only_and_start_at_zero() -> None:
    part = trace([1.0, 2.0, 3.0, 4.0]).sliced(30.0, 239.0)
    assert part.rps.tolist() == [2.0, 3.0]
    assert part.duration_s == 120.0
    with pytest.raises(TraceInvalid, match="slice"):
        trace([1.0, 2.0]).sliced(10.0, 50.0)


def test_replicas_scale_the_mean_demand() -> None:
    scaled = scale_to_replicas(trace([1.0, 3.0]), replicas=5, capacity_rps=80.0)
    assert scaled.mean_rps == pytest.approx(400.0)
    with pytest.raises(TraceInvalid, match="replicas: 0 is not allowed"):
        scale_to_replicas(trace([1.0, 3.0]), replicas=0, capacity_rps=80.0)
    with pytest.raises(TraceInvalid, match="no traffic"):
        scale_to_replicas(trace([0.0, 0.0]), replicas=5, capacity_rps=80.0)


def test_the_hash_is_of_the_content_not_of_the_name() -> None:
    base = trace([1.0, 2.0])
    assert base.sha256 == base.renamed("other", "family").sha256
    others = [base.scaled(2.0), base.with_mask([(0.0, 1.0)]), trace([1.0, 2.0], bin_s=30.0)]
    assert len({base.sha256, *(other.sha256 for other in others)}) == 4


def test_arrays_cannot_be_changed_behind_the_hash() -> None:
    mine = np.array([1.0, 2.0])
    kept = trace(mine)
    mine[0] = 99.0
    assert kept.rps[0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        kept.rps[0] = 99.0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rps": [1.0, np.nan]}, "rps, bin 1: nan"),
        ({"rps": [-1.0]}, "rps, bin 0: -1.0"),
        ({"rps": [np.inf]}, "rps, bin 0: inf"),
        ({"rps": []}, "at least one bin"),
        ({"rps": [1.0], "bin_s": 0.0}, "bin_s: 0.0"),
        ({"rps": [1.0], "masked": [True, False]}, "masked"),
    ],
)
def test_broken_values_are_named(fields: dict[str, object], words: str) -> None:
    with pytest.raises(TraceInvalid, match=words):
        RateTrace(**({"name": "t", "bin_s": 60.0} | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize("bin_s", [0.0, -1.0, 1e9, float("nan")])
def test_impossible_bin_lengths_are_refused(bin_s: float) -> None:
    with pytest.raises(TraceInvalid, match="bin_s"):
        trace([1.0, 2.0]).rebinned(bin_s)


@pytest.mark.parametrize("factor", [-1.0, float("nan"), float("inf")])
def test_impossible_factors_are_refused(factor: float) -> None:
    with pytest.raises(TraceInvalid, match="factor"):
        trace([1.0]).scaled(factor)
