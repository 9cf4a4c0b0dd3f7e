"""`gpupilot explain`: what was seen, asked, granted, why, and what else could have been done."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from gpupilot_agent.decision_log import DecisionLog, Entry, read_decisions, write_decisions
from gpupilot_agent.policies import Evidence
from gpupilot_agent.rollout import Decision
from gpupilot_envs.actions import AXES, NEUTRAL, SIZES
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.observation import FIELDS
from gpupilot_envs.reasons import Reason
from gpupilot_envs.signals import Signals

Shell = Callable[..., Any]

EVIDENCE = Evidence(
    observation=(0.5,) * len(FIELDS), logits=(0.0,) * sum(SIZES), action=NEUTRAL, price=2.0
)


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
        evidence=EVIDENCE,
    )
    seen = Signals(at_s=30.0, window_s=15.0, rate_rps=300.5, attainment_ratio=0.9)
    entries = (Entry(seen=seen, running=Allocation(replicas=2), decision=decision),)
    log = DecisionLog(service="shop", policy="ppo", entries=entries)
    write_decisions(tmp_path / "run" / "decisions.parquet", log)
    return tmp_path / "run"


@pytest.fixture
def recorded(shell: Shell, tiny: Path, traces: Path, tmp_path: Path) -> Path:
    """Return what `gpupilot record` left of ten minutes with too few replicas."""
    words = ("--profile", tiny, "--trace", traces / "busy.csv", "--target-ms", 500)
    ended = shell("record", *words, "--replicas", 1, "--out", tmp_path / "rec")
    assert ended.code == 0, ended.err
    return tmp_path / "rec"


def test_it_says_who_asked_what_and_what_held_it(shell: Shell, run: Path) -> None:
    ended = shell("explain", run, "--at", 31)
    assert ended.code == 0, ended.err
    for said in ("ppo on shop, decided at 00:00:30", "6 replicas, because: rate 300 rps"):
        assert said in ended.out
    assert f"StepLimited: {Reason.STEP_LIMITED.meaning}" in ended.out
    assert "90.00 % in time, p95 not answered" in ended.out


def test_it_shows_what_the_network_weighed_and_says_what_it_lacks(shell: Shell, run: Path) -> None:
    out = shell("explain", run, "--at", 31).out
    for axis in AXES:
        assert f"weighed  {axis.name}" in out
    assert f"{100 / SIZES[0]:.0f} % (taken)" in out
    assert "needs the policy itself: --bundle" in out
    assert "no outlook" in out


def test_json_carries_the_same(shell: Shell, run: Path) -> None:
    document = json.loads(shell("explain", run, "--at", 31, "--json").out)
    assert document["asked"]["replicas"] == 6
    assert document["granted"]["replicas"] == 4
    assert document["running"]["replicas"] == 2
    assert document["reasons"][0]["reason"] == "StepLimited"
    assert document["signals"]["rate_rps"] == 300.5
    assert document["signals"]["latency_p95_s"] is None
    assert document["price"] == 2.0
    assert sum(choice["taken"] for choice in document["learned"]["choices"]) == len(AXES)
    assert document["outlook"] is None


def test_a_moment_comes_with_an_outlook_that_fits_one_screen(shell: Shell, recorded: Path) -> None:
    ended = shell("explain", recorded, "--at", "05:00", "--minutes", 2, "--seeds", 2)
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 120
    for said in ("as it decides", "classical controller", "keda", "as it ran", "recorded: "):
        assert said in ended.out
    assert "requests arrive again at the recorded rates" in ended.out


def test_without_a_time_it_is_the_worst_moment(shell: Shell, recorded: Path) -> None:
    document = json.loads(shell("explain", recorded, "--minutes", 0, "--json").out)
    later = json.loads(shell("explain", recorded, "--at", "last", "--minutes", 0, "--json").out)
    assert document["at_s"] > 500.0
    assert document["at_s"] < later["at_s"]
    assert later["signals"]["attainment_ratio"] == 0.0


def test_at_the_end_the_outlook_is_a_forecast_and_says_so(shell: Shell, recorded: Path) -> None:
    words = ("--at", "last", "--minutes", 2, "--seeds", 2, "--baselines", "")
    assert "rates are a forecast" in shell("explain", recorded, *words).out
    document = json.loads(shell("explain", recorded, *words, "--json").out)
    assert document["outlook"]["future"] == "forecast"
    assert document["outlook"]["recorded"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--at", 1), "30 or later"),
        (("--at", "noon"), "worst or last"),
        (("--at", "nan"), "worst or last"),
        (("--minutes", -1), "--minutes"),
        (("--minutes", "nan"), "--minutes"),
        (("--seeds", 0), "--seeds"),
        (("--bundle", "nowhere.npz"), "nowhere.npz"),
        (("--tuned", "nowhere.json"), "nowhere.json"),
    ],
)
def test_a_wrong_option_is_one_sentence(
    shell: Shell, run: Path, words: tuple[object, ...], said: str
) -> None:
    ended = shell("explain", run, "--at", 31, *words)
    assert (ended.code, ended.err.count("\n"), said in ended.err) == (2, 1, True), ended.err


def test_an_unknown_baseline_is_refused(shell: Shell, recorded: Path) -> None:
    ended = shell("explain", recorded, "--baselines", "hpa2")
    assert (ended.code, "'hpa2'" in ended.err) == (2, True)


def test_what_is_no_run_is_refused(shell: Shell, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no log", encoding="utf-8")
    for wrong in (tmp_path, text, tmp_path / "nowhere"):
        ended = shell("explain", wrong)
        assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err


def test_a_recording_that_does_not_cover_the_decision_is_refused(
    shell: Shell, recorded: Path
) -> None:
    path = recorded / "recording.parquet"
    pq.write_table(pq.read_table(path).slice(0, 10), path)
    ended = shell("explain", recorded, "--at", 500)
    assert (ended.code, "from 0 to 150 s that was recorded" in ended.err) == (2, True), ended.err


def test_where_nothing_was_late_there_is_no_worst_moment(shell: Shell, run: Path) -> None:
    path = run / "decisions.parquet"
    log = read_decisions(path)
    (entry,) = log.entries
    fine = replace(entry, seen=replace(entry.seen, attainment_ratio=1.0))
    write_decisions(path, replace(log, entries=(fine,)))
    ended = shell("explain", run)
    assert (ended.code, "no request of this run" in ended.err) == (2, True)
