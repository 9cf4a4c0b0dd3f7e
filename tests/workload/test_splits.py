"""Splits never overlap, never depend on the order given, and say what went where."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpupilot_envs.errors import TraceInvalid
from gpupilot_envs.workload.randomisation import HELD_OUT_FAMILIES
from gpupilot_envs.workload.splits import (
    ROLES,
    Split,
    demo_traffic,
    split_by_day,
    split_by_time,
    split_by_trace,
    whole_days,
)
from gpupilot_envs.workload.trace import DAY_S, RateTrace


def trace(name: str, days: float = 1.0, family: str = "a") -> RateTrace:
    random = np.random.default_rng(list(name.encode()))
    return RateTrace(
        name=name, family=family, bin_s=3600.0, rps=random.uniform(1.0, 2.0, int(days * 24))
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.randoms(), st.text(max_size=3))
def test_whole_traces_have_one_role_whatever_their_order(
    count: int, shuffled: object, salt: str
) -> None:
    traces = [trace(f"trace{index:02d}", index + 1) for index in range(count)]
    split = split_by_trace(traces, salt=salt)
    roles = [{one.name for one in split.role(role)} for role in ROLES]
    assert sum(map(len, roles)) == len(set.union(*roles)) == count
    shuffled.shuffle(traces)  # type: ignore[attr-defined]
    assert split_by_trace(traces, salt=salt).manifest() == split.manifest()
    if count >= 3:
        assert all(roles)


def test_shares_are_kept_and_salt_changes_the_draw() -> None:
    traces = [trace(f"trace{index:02d}") for index in range(40)]
    split = split_by_trace(traces, shares=(0.5, 0.2, 0.3))
    assert [len(split.role(role)) for role in ROLES] == [20, 8, 12]
    assert split_by_trace(traces, salt="other").manifest() != split.manifest()


def test_held_out_families_are_only_tested() -> None:
    traces = [trace(f"seen{index}") for index in range(5)]
    traces += [trace(f"unseen{index}", family="b") for index in range(3)]
    for split in (
        split_by_trace(traces, held_out_families=["b"]),
        split_by_day(traces, held_out_families=["b"]),
    ):
        assert not {one.family for one in split.train + split.validation} & {"b"}
        assert sum(one.family == "b" for one in split.test) == 3


def test_every_day_has_one_role_and_the_manifest_says_which() -> None:
    split = split_by_day([trace("long", 10), trace("short", 3.5)])
    manifest = split.manifest()
    assert sorted(entry["days"][0] for name, entry in manifest.items() if "long" in name) == list(
        range(10)
    )
    assert sum("short" in name for name in manifest) == 3
    counts = {
        role: sum(entry["role"] == role for name, entry in manifest.items() if "long" in name)
        for role in ROLES
    }
    assert counts == {"train": 6, "validation": 2, "test": 2}
    source = trace("long", 10)
    for one in split.test:
        entry = manifest[one.name]
        assert entry["sha256"] == one.sha256
        if "long" in one.name:
            start = entry["days"][0] * 24
            assert np.array_equal(one.rps, source.rps[start : start + 24])


def test_days_without_data_are_left_out() -> None:
    silent = trace("gappy", 3)
    days = whole_days(silent.with_mask([(DAY_S, 2 * DAY_S)]))
    assert [day.name for day in days] == ["gappy@day000", "gappy@day002"]


def test_overlap_is_refused() -> None:
    one = trace("one")
    with pytest.raises(TraceInvalid, match=r"test: again: 'given twice'.*train: one"):
        Split(train=(one,), validation=(), test=(one.renamed("again"),))
    with pytest.raises(TraceInvalid, match="given twice"):
        split_by_trace([one, one])


def test_silence_twice_is_no_overlap() -> None:
    silent = trace("one").scaled(0.0)
    split = Split(train=(silent,), validation=(), test=(silent.renamed("two"),))
    assert set(split.manifest()) == {"one", "two"}


def test_impossible_splits_are_refused() -> None:
    with pytest.raises(TraceInvalid, match="shares"):
        split_by_trace([trace("one")], shares=(0.5, 0.5, 0.5))
    with pytest.raises(TraceInvalid, match="86400 or more"):
        split_by_day([trace("hours", 0.5)])


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 0.6), st.floats(0.1, 0.3), st.integers(1, 4))
def test_parts_in_time_follow_each_other_and_lose_at_most_a_bin_each(
    train: float, validation: float, count: int
) -> None:
    traces = [trace(f"trace{index}", days=10.0) for index in range(count)]
    split = split_by_time(traces, shares=(train, validation, 1.0 - train - validation))
    for at, whole in enumerate(traces):
        parts = [split.role(role)[at] for role in ROLES]
        joined = np.concatenate([part.rps for part in parts])
        assert len(whole.rps) - 2 <= len(joined) <= len(whole.rps)
        assert np.array_equal(parts[0].rps, whole.rps[: len(parts[0].rps)])
        assert np.array_equal(parts[2].rps, whole.rps[-len(parts[2].rps) :])
        assert {part.name for part in parts} == {f"{whole.name}-{role}" for role in ROLES}


@pytest.mark.parametrize("shares", [(0.5, 0.0, 0.5), (0.5, 0.1, 0.5), (0.0, 0.5, 0.5)])
def test_shares_of_time_must_be_positive_and_add_up(shares: tuple[float, float, float]) -> None:
    with pytest.raises(TraceInvalid, match="shares"):
        split_by_time([trace("a")], shares=shares)


def test_a_trace_too_short_for_its_parts_is_refused() -> None:
    with pytest.raises(TraceInvalid, match="slice"):
        split_by_time([trace("a", days=3.0 / 24.0)], shares=(0.8, 0.1, 0.1))


@pytest.mark.parametrize("duration_s", [300.0, 3600.0, 2 * DAY_S])
def test_demo_traffic_holds_a_family_out_at_any_length(duration_s: float) -> None:
    split = demo_traffic(3, duration_s=duration_s, bin_s=60.0 if duration_s > DAY_S else 5.0)
    seen = {one.family for one in split.train + split.validation}
    tested = {one.family for one in split.test}
    assert seen == {"diurnal", "regimes", "ramps"}
    assert tested - seen == set(HELD_OUT_FAMILIES) == {"flash"}
    for role in ROLES:
        for one in split.role(role):
            assert one.duration_s == duration_s
            assert one.mean_rps == pytest.approx(1.0)


def test_demo_traffic_moves_and_is_reproducible() -> None:
    split = demo_traffic(1)
    assert demo_traffic(1).manifest() == split.manifest()
    assert demo_traffic(2).manifest() != split.manifest()
    peaks = [one.peak_rps for role in ROLES for one in split.role(role)]
    assert np.median(peaks) > 1.3
    assert max(peaks) < 20.0
