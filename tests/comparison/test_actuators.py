"""A comparison in which policies may move more than replicas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gpupilot_agent.baselines.registry import make
from gpupilot_agent.comparison.scene import Scene, play
from gpupilot_envs.limits import Targets
from gpupilot_envs.profile import parse_profile
from gpupilot_envs.workload.trace import RateTrace

PROFILE = parse_profile(
    {
        "name": "sliced",
        "batch_latency_ms": [[1, 8.0], [8, 15.0]],
        "cold_start_s": {"mean": 5.0, "cv": 0.1},
        "gpu": {"sharing": {"mode": "mig", "speed_by_share": [[333, 0.5], [1000, 1.0]]}},
    }
)
SCENE = Scene(profile=PROFILE, targets=Targets(latency_s=0.06), hours=None, warm_up_s=300.0)
QUIET = RateTrace(name="quiet", family="flat", bin_s=60.0, rps=np.full(30, 40.0))


def test_a_scene_with_replicas_alone_is_the_scene_it_was() -> None:
    """Results found before there were gears are found again."""
    assert "actuators" not in SCENE.identity()
    assert SCENE.menu() is None
    geared = replace(SCENE, actuators=("limits",))
    assert geared.identity()["actuators"] == ["limits"]
    assert {**geared.identity()} != SCENE.identity()


def test_policies_that_can_move_more_than_replicas() -> None:
    """A third of a GPU is enough for 40 requests a second; the others keep the whole one."""
    scene = replace(SCENE, actuators=("limits",))
    (piece,) = scene.pieces(QUIET)
    geared = play(scene, piece, make("queueing-gears"), 0, asked=0.99)
    plain = play(scene, piece, make("predictive-5s"), 0, asked=0.99)
    alone = play(SCENE, piece, make("queueing-gears"), 0, asked=0.99)
    assert geared.decisions[-1].granted.gpu_share_milli == 333
    assert {each.granted.gpu_share_milli for each in plain.decisions} == {1000}
    assert {each.granted.gpu_share_milli for each in alone.decisions} == {1000}
    assert geared.scored.gpu_seconds < 0.5 * plain.scored.gpu_seconds
