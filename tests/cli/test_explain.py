"""`gpupilot explain` tells what was seen, asked, granted and what held it back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpupilot_agent.decision_log import DecisionLog, Entry, write_decisions
from gpupilot_agent.rollout import Decision
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.reasons import Reason
from gpupilot_envs.signals import Signals

Shell = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a folder with one decision: six replicas asked, four granted."""
    decision = Decision(
        at_s=30.0,
        ask=Allocation(replicas=6),
        granted=Allocation(replicas=4),
        held=True,
        reasons=(Reason.STEP_LIMITED,),
        why="rate 300 rps",
    )
    seen = Signals(at_s=30.0, window_s=15.0, rate_rps=300.5)
    entries = (Entry(seen=seen, running=Allocation(replicas=2), decision=decision),)
    log = DecisionLog(service="shop", policy="queueing", entries=entries)
    write_decisions(tmp_path / "run" / "decisions.parquet", log)
    return tmp_path / "run"


def test_it_says_who_asked_what_and_what_held_it(shell: Shell, run: Path) -> None:
    ended = shell("explain", run, "--at", 31)
    assert ended.code == 0
    for said in ("queueing on shop, decided at 00:00:30", "6 replicas, because: rate 300 rps"):
        assert said in ended.out
    assert f"StepLimited: {Reason.STEP_LIMITED.meaning}" in " ".join(ended.out.split())
    assert "not answered" in ended.out


def test_json_carries_the_same(shell: Shell, run: Path) -> None:
    document = json.loads(shell("explain", run, "--at", 31, "--json").out)
    assert document["asked"]["replicas"] == 6
    assert document["granted"]["replicas"] == 4
    assert document["running"]["replicas"] == 2
    assert document["reasons"][0]["reason"] == "StepLimited"
    assert document["signals"]["rate_rps"] == 300.5
    assert document["signals"]["latency_p95_s"] is None


def test_a_time_before_the_first_decision_is_refused(shell: Shell, run: Path) -> None:
    ended = shell("explain", run, "--at", 1)
    assert ended.code == 2
    assert "30 or later" in ended.err


def test_a_folder_without_decisions_is_refused(shell: Shell, tmp_path: Path) -> None:
    ended = shell("explain", tmp_path, "--at", 1)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
