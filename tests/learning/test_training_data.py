"""Training and validation traffic never overlap, and several seeds end in the best of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpupilot_agent import bundle as bundles
from gpupilot_agent import training_data
from gpupilot_agent.seed_spread import Spread, spread
from gpupilot_agent.training import BUNDLE
from gpupilot_agent.training_config import PpoSettings, TrainConfig
from gpupilot_agent.training_data import latencies_s, prepare
from gpupilot_agent.training_seeds import best_of, train_seeds
from gpupilot_envs.embedded import find_profile
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.fleet.table import FleetTable, FleetTables
from gpupilot_envs.gears import GEAR_FIELDS
from gpupilot_envs.workload.splits import Split
from gpupilot_envs.workload.trace import DAY_S, RateTrace, write_trace


@pytest.fixture(autouse=True)
def _no_fit(monkeypatch: pytest.MonkeyPatch, tables: FleetTables) -> None:
    """Measuring a service takes seconds; a made-up one stands in."""
    table = FleetTable(
        name="made-up",
        plant=tables.plants[0],
        steady=tables.steady[0],
        slack=tables.slack[0],
        levels=tables.levels[0],
    )
    monkeypatch.setattr(training_data, "fleet_table", lambda *_: table)


def test_generated_traffic_is_disjoint_and_reproducible(tmp_path: Path) -> None:
    config = TrainConfig(out=tmp_path, generated=8)
    hashes = prepare(config).trace_hashes
    assert len(hashes) == 10
    assert len(set(hashes.values())) == 10
    assert prepare(config).trace_hashes == hashes
    other = prepare(TrainConfig(out=tmp_path, generated=8, seed=1)).trace_hashes
    assert not set(other.values()) & set(hashes.values())


def test_recorded_days_are_split_and_generated_traffic_is_added(tmp_path: Path) -> None:
    rps = np.random.default_rng(0).gamma(4.0, 10.0, round(5 * DAY_S / 300.0))
    write_trace(tmp_path / "week.parquet", RateTrace(name="week", bin_s=300.0, rps=rps))
    config = TrainConfig(out=tmp_path, traces=(tmp_path / "week.parquet",), generated=4)
    roles = [name.split("/")[0] for name in prepare(config).trace_hashes if "@day" in name]
    assert (roles.count("train"), roles.count("validation")) == (3, 1)
    assert len(prepare(config).trace_hashes) == 4 + 4 + 1


def test_counted_days_are_widened_before_they_are_scaled_up(tmp_path: Path) -> None:
    """A request every few seconds, scaled up to a replica, would be noise that no replica sees."""
    counts = np.random.default_rng(0).poisson(0.5, round(5 * DAY_S / 5.0)).astype(float)
    write_trace(tmp_path / "few.parquet", RateTrace(name="few", bin_s=5.0, rps=counts / 5.0))
    config = TrainConfig(out=tmp_path, traces=(tmp_path / "few.parquet",), generated=0)
    rates = prepare(config).train.rates
    assert (rates.bin_s == 60.0).all()


def test_latency_targets_follow_a_lone_requests_latency() -> None:
    profile = find_profile("mobilenetv4-edge")
    config = TrainConfig(out=Path("unused"), latency_ratios=(2.0, 4.0))
    tight, loose = latencies_s(config, profile)
    assert tight == pytest.approx(2.0 * 0.0132, rel=0.01)
    assert loose == pytest.approx(2.0 * tight, rel=0.01)
    assert latencies_s(TrainConfig(out=Path("unused"), target_ms=45.0), profile) == (0.045,)


@pytest.mark.parametrize("ratio", [1.0, 0.0, -1.0, 1e6, float("nan")])
def test_a_target_below_a_lone_requests_latency_is_refused(ratio: float) -> None:
    with pytest.raises(InputInvalid, match="latency_ratios"):
        TrainConfig(out=Path("unused"), latency_ratios=(ratio,))


def test_traffic_that_is_handed_over_is_used(tmp_path: Path) -> None:
    def steady(name: str, rate: float) -> RateTrace:
        return RateTrace(name=name, bin_s=60.0, rps=np.full(60, rate))

    split = Split(train=(steady("a", 1.0),), validation=(steady("b", 2.0),), test=())
    config = TrainConfig(out=tmp_path, generated=0)
    assert set(prepare(config, split).trace_hashes) == {"train/a", "validation/b"}


def test_no_traffic_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="traces"):
        prepare(TrainConfig(out=tmp_path, generated=0))


def test_services_named_so_get_every_gear_at_every_objective(tmp_path: Path) -> None:
    """The objectives differ in what a gear carries, so each has a menu of its own."""
    cpu = ("mobilenetv4-cpu",)
    config = TrainConfig(
        out=tmp_path, profiles=cpu, geared=cpu, generated=2, objectives=(0.95, 0.99)
    )
    drawn = prepare(config).train.draw(np.random.default_rng(0), 200)
    menus = drawn.menus
    allowed = menus.gears > 1
    assert 0.3 < allowed.mean() < 0.7
    rows = menus.rows[np.arange(200), menus.running]
    assert (drawn.service[allowed, 0] == rows[allowed, 0]).all()
    assert (drawn.tables[np.arange(200), menus.running] == drawn.episodes.profile)[allowed].all()
    stated = menus.rows[np.arange(200), :, GEAR_FIELDS.index("cpu_milli")] == 1000.0
    assert (drawn.unit_rps == np.where(stated, menus.rows[:, :, 0], 0.0).max(axis=1)).all()
    assert (drawn.unit_share == 1.0).all()


def test_only_profiles_that_are_trained_on_can_have_gears(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="geared"):
        TrainConfig(out=tmp_path, geared=("mobilenetv4-cpu",))


def test_several_seeds_leave_the_best_of_them(tmp_path: Path) -> None:
    config = TrainConfig(
        out=tmp_path,
        generated=2,
        services=16,
        copies=4,
        frames=512,
        validation_services=24,
        validation_steps=120,
        ppo=PpoSettings(n_steps=16, hidden=8, critic_updates=1),
    )
    told: dict[int, str] = {}
    results = train_seeds(
        config, (3, 4), jobs=2, on_progress=lambda seed, p: told.update({seed: p.phase})
    )
    assert told == {3: "done", 4: "done"}
    assert [result.seed for result in results] == [3, 4]
    best = best_of(results)
    assert best.saving == max(r.saving for r in results if r.saving is not None)
    assert (tmp_path / BUNDLE).read_bytes() == best.path.read_bytes()
    assert {bundles.load(r.path).seeds["training"] for r in results} == {3, 4}
    assert not list(tmp_path.rglob("progress.json"))


def test_the_spread_of_seeds_is_students() -> None:
    """The textbook's example: 95 % of 1, 2, 3 is 2 plus or minus 4.303 / sqrt(3)."""
    found = spread([1.0, None, 2.0, 3.0])
    assert (found.mean, found.deviation, found.missing) == (2.0, 1.0, 1)
    assert found.ci95 == pytest.approx((2.0 - 2.4843, 2.0 + 2.4843), abs=1e-3)
    assert spread([0.5]) == Spread(mean=0.5, deviation=None, ci95=None, missing=0)
    assert spread([None]) == Spread(mean=None, deviation=None, ci95=None, missing=1)


@pytest.mark.parametrize("seeds", [(), (1, 1)])
def test_seeds_must_be_different(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    with pytest.raises(InputInvalid, match="seeds"):
        train_seeds(TrainConfig(out=tmp_path), seeds, jobs=1)
