"""The policy that ships takes part under its own name, beside the ones just trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gpupilot_agent import generalist
from gpupilot_agent.bundle import Bundle, save
from gpupilot_agent.comparison.config import CompareConfig
from gpupilot_agent.comparison.running import compare
from gpupilot_agent.report.look import looks
from gpupilot_agent.results import read_summary
from gpupilot_envs.actions import SIZES
from gpupilot_envs.controller import Controller
from gpupilot_envs.observation import FIELDS


def weights(seed: int) -> Bundle:
    random = np.random.default_rng(seed)
    weight = random.normal(0.0, 0.3, (len(FIELDS), sum(SIZES))).astype(np.float32)
    return Bundle(
        networks=(((weight, np.zeros(sum(SIZES), dtype=np.float32)),),),
        controller=Controller(z=1.0, conformal=False),
        config={},
        seeds={"training": seed},
        trace_hashes={f"seen by {seed}": f"{seed}" * 64},
        commit="unknown",
        card={},
    )


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """Let a policy made here be the one that ships."""
    bundle = weights(7)
    save(bundle, tmp_path / "generalist.npz")
    monkeypatch.setattr(generalist, "generalist_file", lambda: tmp_path / "generalist.npz")
    return bundle


def test_it_needs_no_bundle_and_stands_beside_those_that_were_trained(
    small: CompareConfig, shipped: Bundle, tmp_path: Path
) -> None:
    trained = (weights(0), weights(1))
    asked = replace(
        small,
        traces=small.traces[:1],
        policies=("generalist", "ppo", "queueing"),
        seeds=1,
        bundles=trained,
    )
    summary = read_summary(compare(asked, tmp_path / "run"))
    assert list(summary.policies) == ["generalist", "ppo", "queueing"]
    by_policy = [(each.policy, each.bundle) for each in summary.trainings]
    ours = [("ppo", bundle.sha256) for bundle in trained]
    assert by_policy == [("generalist", shipped.sha256), *ours]
    assert summary.hashes["bundles"] == [*(b.sha256 for b in trained), shipped.sha256]
    assert set(summary.hashes["trained_on"]) == {"seen by 0", "seen by 1", "seen by 7"}
    assert summary.config["policies"]["generalist"]["role"] == "learned"


def test_alone_it_needs_nothing_else(small: CompareConfig, shipped: Bundle) -> None:
    asked = replace(small, policies=("generalist",))
    assert asked.identity()["bundles"] == [shipped.sha256]


def test_the_two_learned_policies_can_be_told_apart() -> None:
    drawn = looks({"generalist": ("generalist", "learned"), "ppo": ("ppo", "learned")})
    assert drawn["generalist"].marker != drawn["ppo"].marker
    assert drawn["generalist"].line != drawn["ppo"].line
