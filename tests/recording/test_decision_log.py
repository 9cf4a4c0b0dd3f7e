"""What the decision log is given, it gives back, and it finds the decision in force."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpupilot_agent.decision_log import DecisionLog, Entry, read_decisions, write_decisions
from gpupilot_agent.rollout import Decision
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.reasons import Reason
from gpupilot_envs.signals import Signals

ALLOCATIONS = st.builds(Allocation, replicas=st.integers(0, 64), queue_delay_us=st.integers(0, 99))
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
) -> None:
    decision = Decision(
        at_s=15.0, ask=ask, granted=granted, held=True, reasons=tuple(reasons), why=why
    )
    seen = Signals(at_s=15.0, window_s=15.0, rate_rps=rate, replicas_ready=ready)
    made = DecisionLog(
        service="shop",
        policy="ppo",
        entries=(Entry(seen=seen, running=running, decision=decision),),
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
    with pytest.raises(InputInvalid, match="gpupilot/decisions-v1"):
        read_decisions(path)
    path.write_text("no parquet")
    with pytest.raises(InputInvalid, match="not a readable Parquet file"):
        read_decisions(path)
