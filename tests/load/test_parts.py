"""The parts of the load tests: pictures, schedules, tallies, levels."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.workload.trace import RateTrace, write_trace
from gpupilot_load import pictures, schedule
from gpupilot_load.levels import parse
from gpupilot_load.payloads import model_of, tensors
from gpupilot_load.tally import Objective, Outcome, Spread, Tally, summary, verdict
from gpupilot_load.transport import connect

ROOT = Path(__file__).resolve().parents[2]


def metadata(datatype: str, shape: list[int]) -> dict[str, object]:
    tensor = {"name": "x", "datatype": datatype, "shape": shape}
    return {"name": "m", "inputs": [tensor], "outputs": [{"name": "y"}]}


def outcome(intended_s: float, latency_s: float, *, ok: bool = True, lag_s: float = 0.0) -> Outcome:
    return Outcome(
        intended_s=intended_s,
        lag_s=lag_s,
        waited_s=0.0,
        latency_s=latency_s,
        ok=ok,
        reason="ok" if ok else "503",
        warm_up=False,
    )


def test_pictures_are_the_same_for_the_same_seed_and_differ_in_themselves() -> None:
    first, again, other = pictures.drawn(2, 1), pictures.drawn(2, 1), pictures.drawn(1, 2)
    assert first[0].tobytes() == again[0].tobytes()
    assert first[0].tobytes() not in {first[1].tobytes(), other[0].tobytes()}


def test_a_picture_arrives_normalised() -> None:
    model = model_of(metadata("FP32", [-1, 3, 224, 224]))
    (pixels,) = tensors(model, count=1, seed=0)
    assert pixels.shape == (1, 3, 224, 224)
    assert pixels.dtype == np.float32
    assert -2.2 < pixels.min() < pixels.max() < 2.7


def test_bytes_are_bytes_again_and_numbers_are_numbers() -> None:
    (raw,) = tensors(model_of(metadata("UINT8", [-1, 3, 32, 32])), count=1, seed=0)
    assert raw.dtype == np.uint8
    assert np.ptp(raw) > 50
    (numbers,) = tensors(model_of(metadata("FP32", [-1, 4])), count=1, seed=0)
    assert numbers.shape == (1, 4)


def test_own_pictures_are_sent(tmp_path: Path) -> None:
    pictures.drawn(1, 5, side=40)[0].save(tmp_path / "cat.png")
    model = model_of(metadata("FP32", [-1, 3, 16, 16]))
    (mine,) = tensors(model, count=8, seed=0, folder=tmp_path)
    (drawn,) = tensors(model, count=1, seed=0)
    assert not np.array_equal(mine, drawn)
    with pytest.raises(InputInvalid, match="--images"):
        tensors(model, count=8, seed=0, folder=tmp_path / "none")


def test_a_trace_is_played_faster_from_where_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write_trace(path, RateTrace(name="t", bin_s=60.0, rps=np.array([1.0, 20.0, 20.0, 80.0])))
    played = schedule.trace_of(path, mean_rps=None, speed=60.0, start_s=60.0)
    times = schedule.following(played, duration_s=None, cv=1.0, seed=2)
    assert played.duration_s == pytest.approx(3.0)
    counts = np.histogram(times, [0.0, 2.0, 3.0])[0]
    assert counts[0] == pytest.approx(40, abs=20)
    assert counts[1] == pytest.approx(80, abs=28)
    assert schedule.trace_of(path, mean_rps=10.0, speed=1.0, start_s=0.0).mean_rps == 10.0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({}, "exactly one of --rate, --trace, --arrivals"),
        ({"rate": 5.0, "trace": "t.csv"}, "--rate and --trace"),
        ({"rate": 5.0}, "seconds, with --rate"),
        ({"trace": "no.csv"}, "no.csv"),
        ({"rate": 1e9, "duration": 60.0}, "at most 5e.07 in one run"),
        ({"rate": 5.0, "duration": 1.0, "in_flight": 0}, "--in-flight: 0"),
    ],
    ids=["none", "two", "endless", "no file", "too many", "no place"],
)
def test_a_wrong_source_of_arrivals_is_refused(words: dict[str, object], sentence: str) -> None:
    common = {"rate": 0.0, "trace": "", "arrivals": "", "duration": 0.0, "mean_rps": 0.0}
    rest = {"speed": 1.0, "trace_start": 0.0, "cv": 1.0, "in_flight": 8, "seed": 0}
    with pytest.raises(InputInvalid, match=sentence):
        schedule.arrivals_of(SimpleNamespace(**(common | rest | words)))


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:8000", ""])
def test_a_wrong_host_is_refused(url: str) -> None:
    with pytest.raises(InputInvalid, match="--host"):
        connect(url, "m", timeout_s=1.0, connections=1, seed=0)


@given(count=st.integers(0, 50), workers=st.integers(1, 7))
def test_the_workers_shares_are_the_whole(count: int, workers: int) -> None:
    arrivals = np.arange(count, dtype=np.float64)
    parts = [schedule.share(arrivals, index, workers) for index in range(workers)]
    assert np.array_equal(np.sort(np.concatenate(parts)), arrivals)


@given(seconds=st.lists(st.floats(1e-4, 30.0), min_size=1, max_size=200), q=st.floats(0.01, 1.0))
@settings(max_examples=60, deadline=None)
def test_a_quantile_is_right_to_half_a_percent(seconds: list[float], q: float) -> None:
    spread = Spread()
    for value in seconds:
        spread.add(value)
    exact = sorted(seconds)[max(math.ceil(q * len(seconds)), 1) - 1]
    assert spread.quantile_s(q) == pytest.approx(exact, rel=0.005)


@given(latencies=st.lists(st.floats(1e-3, 2.0), min_size=2, max_size=60), cut=st.integers(0, 60))
@settings(max_examples=40, deadline=None)
def test_what_workers_report_adds_up(latencies: list[float], cut: int) -> None:
    whole, parts = Tally(target_s=0.5), (Tally(target_s=0.5), Tally(target_s=0.5))
    for index, latency_s in enumerate(latencies):
        one = outcome(float(index), latency_s, ok=latency_s < 1.9)
        whole.add(one)
        parts[index < cut].add(one)
    total = Tally(target_s=0.5)
    for part in parts:
        total.merge(Tally.unpacked(json.loads(json.dumps(part.packed()))))
    objective = Objective(target_s=0.5, attainment_ratio=0.9, lag_limit_s=1.0)
    said, expected = (summary(t, objective, open_loop=True) for t in (total, whole))
    assert said.pop("latency_ms") == pytest.approx(expected.pop("latency_ms"))
    assert said == expected


@pytest.mark.parametrize(
    ("latencies", "lag_s", "code"),
    [([0.1] * 100, 0.0, 0), ([0.1] * 98 + [0.9] * 2, 0.0, 1), ([0.1] * 100, 0.02, 3), ([], 0, 3)],
    ids=["kept", "missed", "invalid", "empty"],
)
def test_the_exit_code_tells_a_missed_objective_from_a_worthless_run(
    latencies: list[float], lag_s: float, code: int
) -> None:
    objective = Objective(target_s=0.5, attainment_ratio=0.99, lag_limit_s=0.005)
    tally = Tally(target_s=0.5)
    for index, latency_s in enumerate(latencies):
        tally.add(outcome(float(index), latency_s, lag_s=lag_s))
    assert verdict(summary(tally, objective, open_loop=True), objective)[0] == code


def test_levels_follow_their_profile() -> None:
    linear = parse("--cpu", "linear:0.2-0.8", period_s=10.0, seed=0)
    assert linear.at(0.0) == pytest.approx(0.2)
    assert linear.at(5.0) == pytest.approx(0.5)
    assert linear.at(10.0) == pytest.approx(0.2)
    drawn = parse("--cpu", "random:0.2-0.8", period_s=10.0, seed=4)
    levels = {drawn.at(10.0 * k) for k in range(20)}
    assert len(levels) == 20
    assert all(0.2 <= level <= 0.8 for level in levels)
    assert drawn.at(3.0) == drawn.at(9.0)
    assert parse("--cpu", "constant:0.3", period_s=1.0, seed=0).at(99.0) == 0.3


@pytest.mark.parametrize("text", ["sine:0.1", "constant:2", "linear:0.9-0.1", "linear:0.5", "x"])
def test_a_wrong_profile_is_refused(text: str) -> None:
    with pytest.raises(InputInvalid, match="--cpu"):
        parse("--cpu", text, period_s=1.0, seed=0)


def stress(*words: str) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, str(ROOT / "loadtests/stress.py")]
    return subprocess.run([*script, *words], capture_output=True, text=True, check=False)


def test_the_co_tenant_works_for_its_share_and_no_more() -> None:
    before = os.times()
    done = stress("--cpu", "constant:0.3", "--cores", "1", "--duration", "2")
    after = os.times()
    assert done.returncode == 0, done.stderr
    share = float(done.stdout.split(" workers, ")[1].split(" %")[0])
    assert 3.0 < share <= 33.0
    used_s = after.children_user - before.children_user
    assert used_s > 0.05


def test_the_co_tenant_says_what_it_lacks() -> None:
    assert stress().returncode == 2
    assert "--cpu LEVELS" in stress().stderr


def test_the_job_runs_the_script_with_options_it_knows() -> None:
    job = yaml.safe_load((ROOT / "loadtests/stress-job.yaml").read_text(encoding="utf-8"))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"][1] == "loadtests/stress.py"
    words = [*container["args"][:-1], "0.3"]
    assert stress(*words).returncode == 0
    assert container["resources"]["limits"]["cpu"] == "1"
