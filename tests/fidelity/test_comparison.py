"""The comparison passes a model that is right and finds what is planted in one that is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpupilot_envs.fidelity.comparison import LIMITS, Cell, RunFidelity, compare
from gpupilot_envs.fidelity.outcome import measured
from gpupilot_envs.fidelity.replay import saturation_rps
from gpupilot_envs.profile import Batching, ServiceProfile
from gpupilot_envs.runs import Requests, read_run, requests_of


@pytest.fixture(scope="module")
def folders(queue: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[float, Path]:
    base = tmp_path_factory.mktemp("runs")
    return {load: queue.recorded(base / f"load-{load:g}", load=load) for load in (0.5, 0.8, 1.2)}


def of(folder: Path, profile: ServiceProfile, *, batch_mean: float | None = 1.0) -> RunFidelity:
    run = read_run(folder)
    return compare(profile, run, requests_of(folder, run), batch_mean=batch_mean, seeds=1)


def cells(run: RunFidelity) -> dict[str, Cell]:
    return {cell.name: cell for cell in run.cells}


@pytest.mark.parametrize("load", [0.5, 0.8, 1.2])
def test_a_true_model_passes(queue: Any, folders: dict[float, Path], load: float) -> None:
    run = of(folders[load], queue.service())
    assert run.passed
    assert run.load_ratio == pytest.approx(load, rel=0.1)
    assert max(abs(cell.error) for cell in run.cells) < 0.012


@settings(max_examples=20, deadline=None)
@given(off=st.floats(0.06, 0.15), slower=st.booleans())
def test_a_planted_disagreement_is_found(
    queue: Any, folders: dict[float, Path], off: float, slower: bool
) -> None:
    factor = 1.0 + off if slower else 1.0 - off
    run = of(folders[0.8], queue.service(slower=factor))
    assert not run.passed
    errors = {name: cell.error for name, cell in cells(run).items()}
    assert (errors["latency_mean_s"] > 0.05) if slower else (errors["latency_mean_s"] < -0.05)
    assert (errors["latency_p95_s"] > 0.0) is slower


def test_a_wrong_batcher_is_found_by_the_mean_batch(queue: Any, folders: dict[float, Path]) -> None:
    run = cells(of(folders[0.5], queue.service(), batch_mean=1.2))
    assert run["batch_mean"].error == pytest.approx(1.0 / 1.2 - 1.0)
    assert not run["batch_mean"].passed


def test_overload_is_judged_by_its_growth_alone(queue: Any, folders: dict[float, Path]) -> None:
    found = cells(of(folders[1.2], queue.service()))
    # a queue that answers 1 of 1.2 requests grows by 1 - 1/1.2 seconds per second sent, so by
    # a fifth per second answered
    assert found["growth_ratio"].measured == pytest.approx(0.2, rel=0.25)
    judged = {name for name, cell in found.items() if cell.limit is not None}
    assert judged == {"throughput_rps", "batch_mean", "growth_ratio"}
    assert not cells(of(folders[1.2], queue.service(slower=1.05)))["growth_ratio"].passed


def test_the_load_measured_before_the_run_decides_what_is_judged(
    queue: Any, folders: dict[float, Path]
) -> None:
    run = read_run(folders[0.8]).model_copy(update={"load_ratio": 0.97})
    found = compare(queue.service(), run, requests_of(folders[0.8], run), batch_mean=None, seeds=1)
    assert found.load_ratio == 0.97
    assert cells(found)["latency_p50_s"].limit is None


def test_below_saturation_growth_is_not_shown(queue: Any, folders: dict[float, Path]) -> None:
    assert set(cells(of(folders[0.5], queue.service()))) == set(LIMITS) - {"growth_ratio"}


def test_what_the_server_did_not_tell_is_left_out(queue: Any, folders: dict[float, Path]) -> None:
    assert "batch_mean" not in cells(of(folders[0.5], queue.service(), batch_mean=None))


def test_saturation_counts_replicas_instances_and_what_sharing_costs(queue: Any) -> None:
    profile = queue.service()
    assert saturation_rps(profile, queue.card()) == pytest.approx(1.0 / queue.service_s)
    assert saturation_rps(profile, queue.card(replicas=3)) == pytest.approx(3.0 / queue.service_s)
    gpu = profile.gpu.model_copy(
        update={
            "sharing": profile.gpu.sharing.model_copy(
                update={"contention_by_tenants": ((1.0, 1.0), (2.0, 1.6))}
            )
        }
    )
    shared = profile.model_copy(update={"gpu": gpu})
    assert saturation_rps(shared, queue.card(instances=2)) == pytest.approx(
        2.0 / 1.6 / queue.service_s
    )
    batched = profile.model_copy(update={"batch_latency_ms": ((1.0, 10.0), (4.0, 20.0))})
    four = queue.card(batching=Batching(max_batch=4))
    assert saturation_rps(batched, four) == pytest.approx(200.0)


def test_the_interval_of_a_measurement_holds_it_and_narrows_with_time(
    queue: Any, tmp_path: Path
) -> None:
    widths = []
    for length_s in (20.0, 320.0):
        folder = queue.recorded(tmp_path / f"{length_s:g}", load=0.7, duration_s=length_s)
        run = read_run(folder)
        found = measured(requests_of(folder, run), target_s=0.03, batch_mean=None)
        low, high = found.low.latency_mean_s, found.high.latency_mean_s
        mean = found.outcome.latency_mean_s
        assert low is not None
        assert high is not None
        assert mean is not None
        assert low < mean < high
        widths.append(high - low)
    assert widths[1] < 0.6 * widths[0]


def test_failures_are_missed_and_not_answered(queue: Any) -> None:
    sent_s = np.linspace(0.0, 9.99, 1000)
    requests = Requests(
        sent_s=sent_s,
        latency_s=np.full(1000, queue.overhead_s),
        ok=np.arange(1000) % 4 != 0,
        warm_up=np.zeros(1000, dtype=bool),
    )
    found = measured(requests, target_s=0.03, batch_mean=None).outcome
    assert found.attainment_ratio == pytest.approx(0.75, abs=0.002)
    assert found.throughput_rps == pytest.approx(75.0, rel=0.01)
