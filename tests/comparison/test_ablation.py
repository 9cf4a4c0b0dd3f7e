"""The ablation of actuators: what arms may choose, what is kept, how its tables are read."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import ablate_actuators
import numpy as np
import pytest
from ablate_actuators import Kept, Measured, TimeUp, cut, planned_over_replicas, table
from actuator_arms import REFERENCE, Arm, arms

from gpupilot_agent.comparison.scene import Scene
from gpupilot_agent.comparison.traffic import Piece
from gpupilot_agent.evaluation import Design
from gpupilot_agent.frontier import Frontier
from gpupilot_agent.generalist import load_generalist
from gpupilot_envs.limits import Targets
from gpupilot_envs.profile import parse_profile
from gpupilot_envs.workload.trace import RateTrace

WHOLE = {
    "name": "whole",
    "batch_latency_ms": [[1, 8.0], [8, 15.0]],
    "cold_start_s": {"mean": 5.0, "cv": 0.1},
}
SLICES = {"gpu": {"sharing": {"mode": "mig", "speed_by_share": [[333, 0.5], [1000, 1.0]]}}}
QUIET = RateTrace(name="quiet", family="flat", bin_s=60.0, rps=np.full(12, 40.0))


def scene(*, sliced: bool) -> Scene:
    return Scene(
        profile=parse_profile({**WHOLE, **(SLICES if sliced else {})}),
        targets=Targets(latency_s=0.06, attainment_ratio=0.99),
        hours=None,
        warm_up_s=120.0,
    )


@pytest.fixture(scope="module")
def sliced() -> Scene:
    return scene(sliced=True)


@pytest.fixture(scope="module")
def found(sliced: Scene) -> dict[str, Arm]:
    return {arm.name: arm for arm in arms(sliced, load_generalist())}


@pytest.fixture
def piece(sliced: Scene) -> Piece:
    (one,) = cut(sliced, [QUIET])
    return one


def test_arms_of_one_controller_differ_by_their_actuators_alone(found: dict[str, Arm]) -> None:
    for controller in ("HPA", "queueing", "learned"):
        settings = [arm.settings(4) for name, arm in found.items() if name.startswith(controller)]
        assert len(settings) > 1
        assert all(each == settings[0] for each in settings)
    assert [found[REFERENCE].starts[0].allocation.gpu_share_milli] == [1000]
    static = {gear.allocation.gpu_share_milli for gear in found["HPA, static gear"].starts}
    assert static == {333, 1000}


def test_an_arm_with_nothing_to_choose_is_left_out(found: dict[str, Arm]) -> None:
    whole = {arm.name for arm in arms(scene(sliced=False), load_generalist())}
    assert "queueing, + share or limit" in found
    assert "queueing, + share or limit" not in whole
    assert {"HPA, replicas only", "queueing, replicas only", "learned, replicas only"} <= whole


def test_a_run_is_played_once_and_found_again_by_the_same_code(
    sliced: Scene,
    found: dict[str, Arm],
    piece: Piece,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arm, path = found[REFERENCE], tmp_path / "kept.jsonl"
    asked = (sliced, arm, arm.starts[0], arm.settings(1)[0], piece, 0)
    first = Kept(path, seconds=60.0).score(*asked)
    assert first.requests > 10_000
    assert first.cost_s > 0.0
    again = Kept(path, seconds=0.0)
    assert again.score(*asked) == first
    with pytest.raises(TimeUp):
        again.score(*asked[:-1], 1)
    assert len(path.read_text(encoding="utf-8").splitlines()) == 1
    monkeypatch.setattr(ablate_actuators, "fingerprint", lambda _: "other code")
    with pytest.raises(TimeUp):
        Kept(path, seconds=0.0).score(*asked)


def test_an_interrupted_ablation_says_that_it_is_not_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPUPILOT_DATA", str(tmp_path))
    asked = Namespace(profile="mobilenetv4-edge", target_ms=60.0, size=1.0, trials=2, bundle=None)
    asked.seconds, asked.out = 0.0, tmp_path
    text, whole = ablate_actuators.report(asked)
    assert not whole
    assert text.startswith("### mobilenetv4-edge, generated: 4 traces x 2 seeds")
    assert "|" not in text


def measured(late: float, cost: float) -> Measured:
    """Return an arm with two settings on one trace: late and cheap, or half as late and dearer."""
    requests = np.full((2, 1, 1), 100_000.0)
    in_time = np.array([[[100_000.0 * (1.0 - late)]], [[100_000.0 * (1.0 - late / 2.0)]]])
    spent = np.array([[[cost]], [[1.1 * cost]]])
    design = Design(windows=(1,), seeds=1)
    return Measured(
        gear="made up",
        cost=Frontier.of(in_time, requests, spent, design),
        energy=Frontier.of(in_time, requests, 100.0 * spent, design),
        attained=np.array([1.0 - late, 1.0 - late / 2.0]),
        restarts=np.array([3.0, 5.0]),
        run_s=10.0,
    )


def test_costs_are_read_at_equal_attainment() -> None:
    rows = {
        REFERENCE: measured(0.02, 40.0),
        "HPA, static gear": measured(0.02, 20.0),
        "queueing, all": measured(0.2, 1.0),
    }
    base, half, late = table(rows).splitlines()[2:]
    assert "| 98.00% … 99.00% | 4.40 |" in base
    assert half.split(" | ")[3:6] == ["2.20", "−50%", "−50%"]  # noqa: RUF001
    assert half.split(" | ")[6:9] == ["not reached"] * 3
    assert half.endswith("| 5.0 |")
    assert late.split(" | ")[3:6] == ["not reached"] * 3
    said = planned_over_replicas(rows)
    assert said.splitlines() == [
        "- HPA, static gear, against its own replicas only: −50%, joules −50%, at 99.0%; "  # noqa: RUF001
        "not reached, joules not reached, at 99.5%"
    ]


def test_half_a_line_that_a_kill_left_is_not_taken_for_a_score(
    sliced: Scene, found: dict[str, Arm], piece: Piece, tmp_path: Path
) -> None:
    arm, path = found[REFERENCE], tmp_path / "kept.jsonl"
    asked = (sliced, arm, arm.starts[0], arm.settings(1)[0], piece, 0)
    path.write_text('["key", {"requests": 1', encoding="utf-8")
    score = Kept(path, seconds=60.0).score(*asked)
    assert Kept(path, seconds=0.0).score(*asked) == score
