"""What the decision log is given, it gives back, and it finds the decision in force."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpupilot_agent.decision_log import (
    DecisionLog,
    Entry,
    append_decisions,
    read_decisions,
    write_decisions,
)
from gpupilot_agent.policies import Evidence
from gpupilot_agent.rollout import Decision
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.reasons import Reason
from gpupilot_envs.signals import Signals

ALLOCATIONS = st.builds(Allocation, replicas=st.integers(0, 64), queue_delay_us=st.integers(0, 99))
NUMBERS = st.lists(st.floats(-1e3, 1e3, width=32), max_size=4).map(tuple)
EVIDENCE = st.builds(
    Evidence,
    observation=NUMBERS,
    logits=NUMBERS,
    action=st.lists(st.integers(0, 9), max_size=3).map(tuple),
    price=st.none() | st.floats(0.0, 1e3),
)
MAYBE = st.none() | st.floats(0.0, 1e6)


def entry(at_s: float) -> Entry:
    shape = Allocation(replicas=2)
    reasons = (Reason.COOLING_DOWN, Reason.STEP_LIMITED)
    decision = Decision(at_s=at_s, ask=shape, granted=shape, held=True, reasons=reasons, why="x")
    return Entry(seen=Signals(at_s=at_s, window_s=15.0), running=shape, decision=decision)


def log(*at_s: float) -> DecisionLog:
    return DecisionLog(service="shop", policy="hpa", entries=tuple(map(entry, at_s)))


@given(
    rate=MAYBE,
    ready=st.none() | st.integers(0, 64),
    running=ALLOCATIONS,
    ask=ALLOCATIONS,
    granted=ALLOCATIONS,
    reasons=st.lists(st.sampled_from(Reason), max_size=4),
    why=st.text(max_size=40),
    evidence=st.none() | EVIDENCE,
)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_log_survives_its_file(
    tmp_path: Path,
    rate: float | None,
    ready: int | None,
    running: Allocation,
    ask: Allocation,
    granted: Allocation,
    reasons: list[Reason],
    why: str,
    evidence: Evidence | None,
) -> None:
    decision = Decision(
        at_s=15.0,
        ask=ask,
        granted=granted,
        held=True,
        reasons=tuple(reasons),
        why=why,
        evidence=evidence,
    )
    seen = Signals(at_s=15.0, window_s=15.0, rate_rps=rate, replicas_ready=ready)
    made = DecisionLog(
        service="shop",
        policy="ppo",
        entries=(Entry(seen=seen, running=running, decision=decision),),
        bundle_sha256="ab" * 32,
        setting={"scene": {"cv": 1.0}},
    )
    write_decisions(tmp_path / "log.parquet", made)
    assert read_decisions(tmp_path / "log.parquet") == made


@pytest.mark.parametrize(("at_s", "found"), [(15.0, 15.0), (29.9, 15.0), (30.0, 30.0), (1e9, 45.0)])
def test_the_decision_in_force_is_the_last_one_taken(at_s: float, found: float) -> None:
    assert log(15.0, 30.0, 45.0).at(at_s).decision.at_s == found


def test_before_the_first_decision_there_is_none() -> None:
    with pytest.raises(InputInvalid, match="from 15 to 45 s"):
        log(15.0, 45.0).at(14.0)


def test_an_empty_log_says_so() -> None:
    with pytest.raises(InputInvalid, match="has none"):
        log().at(0.0)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="no such file"):
        read_decisions(tmp_path / "none.parquet")


def test_another_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"t_s": [0.0]}), path)
    with pytest.raises(InputInvalid, match="gpupilot/decisions-v2"):
        read_decisions(path)
    path.write_text("no parquet")
    with pytest.raises(InputInvalid, match="not a readable Parquet file"):
        read_decisions(path)


def test_decisions_are_added_behind_those_logged_so_far(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    append_decisions(path, log(15.0, 30.0))
    append_decisions(path, log(45.0))
    append_decisions(path, log())
    assert read_decisions(path) == log(15.0, 30.0, 45.0)


@pytest.mark.parametrize(
    ("later", "said"),
    [
        (log(30.0), "a time after 30 s"),
        (replace(log(45.0), service="bakery"), "service: 'bakery'"),
        (replace(log(45.0), bundle_sha256="ab" * 32), "as logged so far"),
    ],
)
def test_what_does_not_follow_is_not_added(tmp_path: Path, later: DecisionLog, said: str) -> None:
    path = tmp_path / "log.parquet"
    write_decisions(path, log(15.0, 30.0))
    before = path.read_bytes()
    with pytest.raises(InputInvalid, match=said):
        append_decisions(path, later)
    assert path.read_bytes() == before


def test_a_log_whose_words_are_unknown_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    write_decisions(path, log(15.0))
    table = pq.read_table(path)
    at = table.schema.get_field_index("reasons")
    words = pa.array([["SomethingElse"]], pa.list_(pa.string()))
    pq.write_table(table.set_column(at, "reasons", words), path)
    with pytest.raises(InputInvalid, match="damaged"):
        read_decisions(path)
