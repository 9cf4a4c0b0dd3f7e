"""A fine-tuned policy takes over only where it is surely better on traffic it never saw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gpupilot_agent import bundle as bundles
from gpupilot_agent import training
from gpupilot_agent.bundle import Bundle
from gpupilot_agent.evaluation import Estimate, Interval
from gpupilot_agent.finetune import FineTuneConfig, FineTuned, Judged, divided, fine_tune
from gpupilot_agent.training_config import TrainConfig
from gpupilot_envs.actions import AXES, SIZES
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.controller import Controller
from gpupilot_envs.embedded import find_profile
from gpupilot_envs.errors import TraceInvalid
from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.observation import FIELDS
from gpupilot_envs.profile import ColdStart, ServiceProfile
from gpupilot_envs.signals import Signals
from gpupilot_envs.workload.recording import Recording
from gpupilot_envs.workload.splits import Split

SERVICE = ServiceProfile(
    name="shop",
    batch_latency_ms=((1.0, 20.0), (4.0, 40.0)),
    cold_start_s=ColdStart(mean=10.0, cv=0.1),
)
SANE = Controller(z=1.5, hold_s=60.0, conformal=False)
WASTEFUL = Controller(z=1.5, hold_s=1800.0, conformal=False)


def recorded(minutes: float) -> Recording:
    """Return readings every 15 s of a service whose load swings between 1 and 4 replicas."""
    at_s = 15.0 * np.arange(1, round(4 * minutes) + 1)
    rates = 200.0 + 120.0 * np.sin(2.0 * np.pi * at_s / 1100.0)
    return Recording(
        service="shop",
        readings=tuple(
            Signals(at_s=float(t), window_s=15.0, rate_rps=float(r))
            for t, r in zip(at_s, rates, strict=True)
        ),
        allocations=(Allocation(replicas=4, batch_max=4),) * len(at_s),
    )


def saved(path: Path, controller: Controller) -> Path:
    """Write a bundle that never moves the controller it is given."""
    bias = np.zeros(sum(SIZES), dtype=np.float32)
    bias[np.cumsum([0, *SIZES[:-1]]) + [axis.neutral for axis in AXES]] = 1.0
    weight = np.zeros((len(FIELDS), sum(SIZES)), dtype=np.float32)
    bundle = Bundle(
        networks=(((weight, bias),),),
        controller=controller,
        config={},
        seeds={},
        trace_hashes={},
        commit="unknown",
        card={},
    )
    bundles.save(bundle, path)
    return path


Trained = list[tuple[TrainConfig, Split]]


def tuned(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    incumbent: Controller,
    learned: Controller,
    trained: Trained | None = None,
) -> FineTuned:
    """Fine-tune with a training that comes to a given policy."""

    def train(config: TrainConfig, _: object, *, traffic: Split) -> Path:
        if trained is not None:
            trained.append((config, traffic))
        return saved(config.out / "policy.npz", learned)

    monkeypatch.setattr(training, "train", train)
    config = FineTuneConfig(
        out=folder / "out",
        targets=Targets(latency_s=0.2, attainment_ratio=0.95),
        incumbent=saved(folder / "incumbent.npz", incumbent),
        limits=Limits(replicas_max=12),
        judge_seeds=1,
        block_s=300.0,
    )
    return fine_tune([recorded(105)], config, profile=SERVICE)


def test_a_better_candidate_takes_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    came_to = tuned(tmp_path, monkeypatch, incumbent=WASTEFUL, learned=SANE)
    assert came_to.judged.wins
    assert came_to.path == tmp_path / "out" / "policy.npz"
    assert bundles.load(came_to.path).controller == SANE
    relative = came_to.judged.relative
    assert relative.ci95 is not None
    assert (relative.mean or 0.0) <= relative.ci95[1] < 0.0
    assert "GPU-hours" in came_to.judged.sentence


@pytest.mark.parametrize("learned", [SANE, WASTEFUL], ids=["equal", "worse"])
def test_anything_else_is_refused_and_kept_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learned: Controller
) -> None:
    came_to = tuned(tmp_path, monkeypatch, incumbent=SANE, learned=learned)
    assert not came_to.judged.wins
    assert came_to.path == tmp_path / "incumbent.npz"
    assert bundles.load(came_to.candidate).controller == learned
    assert not (tmp_path / "out" / "policy.npz").exists()


def _judged(relative: Interval, attainment: Interval, difference: Interval) -> Judged:
    def estimate(interval: Interval) -> Estimate:
        return Estimate(mean=sum(interval) / 2.0, ci95=interval)

    return Judged(
        attainment=estimate(attainment),
        candidate_gpu_hours=estimate((4.0, 6.0)),
        incumbent_gpu_hours=estimate((5.0, 7.0)),
        relative=estimate(relative),
        incumbent_attainment=estimate((0.985, 0.995)),
        attainment_difference=estimate(difference),
        objective=0.99,
    )


@pytest.mark.parametrize(
    ("relative", "attainment", "difference", "wins"),
    [
        ((-0.08, -0.02), (0.988, 0.992), (-0.004, 0.001), True),
        ((-0.08, 0.001), (0.988, 0.992), (-0.004, 0.001), False),
        ((0.01, 0.05), (0.988, 0.992), (-0.004, 0.001), False),
        ((-0.08, -0.02), (0.970, 0.985), (-0.02, -0.01), False),
        ((-0.08, -0.02), (0.970, 0.985), (-0.02, 0.01), True),
        ((-0.08, -0.02), (0.991, 0.995), (-0.02, -0.01), True),
    ],
    ids=["cheaper", "perhaps", "dearer", "late", "late as the incumbent", "in time"],
)
def test_only_what_is_surely_cheaper_and_not_surely_later_wins(
    relative: Interval, attainment: Interval, difference: Interval, wins: bool
) -> None:
    assert _judged(relative, attainment, difference).wins == wins


def test_one_run_tells_no_interval_and_does_not_win() -> None:
    judged = _judged((-0.08, -0.02), (0.99, 0.995), (-0.004, 0.001))
    alone = Estimate(mean=-0.05, ci95=None)
    assert not replace(judged, relative=alone).wins


def test_training_starts_from_the_incumbent_on_services_like_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: Trained = []
    tuned(tmp_path, monkeypatch, incumbent=SANE, learned=SANE, trained=trained)
    ((config, traffic),) = trained
    assert config.start == tmp_path / "incumbent.npz"
    assert config.controller == SANE
    assert find_profile(config.profiles[0]) == SERVICE
    low, high = config.ranges.demand_replicas
    assert 0.5 < low < 200.0 / 80.0 < high < 6.0
    assert traffic.train
    assert traffic.validation


def test_no_second_is_learned_on_and_judged_on() -> None:
    config = FineTuneConfig(
        out=Path("out"), targets=Targets(latency_s=0.2), incumbent=Path("none"), block_s=300.0
    )
    learn, choose, judge_on = divided([recorded(105)], config)
    uses = [
        np.concatenate([~trace.masked for trace in traces])
        for traces in (learn.earlier, choose.earlier, judge_on)
    ]
    assert np.sum(uses, axis=0).max() == 1
    shares = [use.mean() for use in uses]
    assert shares == pytest.approx([0.45, 0.15, 0.4], abs=0.01)


def test_too_short_a_recording_is_refused() -> None:
    config = FineTuneConfig(out=Path("out"), targets=Targets(latency_s=0.2), block_s=1800.0)
    with pytest.raises(TraceInvalid, match=r"at least 10\.0 h"):
        divided([recorded(105)], config)
