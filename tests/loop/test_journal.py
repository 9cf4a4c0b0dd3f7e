"""The decision log of the loop: what is explained from, rotated, bounded, never half written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gpupilot_agent.cli.main import app
from gpupilot_agent.decision_log import read_decisions
from gpupilot_agent.explanation.account import of_log
from gpupilot_envs.allocation import Allocation
from gpupilot_operator.control import tick
from gpupilot_operator.journal import Journal
from gpupilot_operator.memory import State
from gpupilot_operator.ports import Ports
from gpupilot_testbed.running import until

START_S = 1_795_000_000.0
Maker = Callable[..., Any]


@pytest.fixture
def ticked(
    shop_of: Maker, town_of: Maker, felt: Maker, state_of: Callable[[], State]
) -> Callable[..., None]:
    """Return a function that lets the loop run for a while and log."""

    def run(
        journal: Journal,
        ticks: int,
        running: Allocation | None = None,
        rate_rps: float | None = 400.0,
        **spec: Any,
    ) -> None:
        shop = shop_of(**({"policy": "Learned"} | spec))
        shop.running = running or shop.running
        town, state = town_of(shop), state_of()
        state.sizes.of(shop.seen())
        state.sizes.wait()
        ports = Ports(cluster=town, metrics=town, log=journal)
        for n in range(ticks):
            shop.reading = felt(rate_rps and rate_rps + 20.0 * (n % 5))
            tick(ports, state, START_S + 5.0 * n)
        journal.close()

    return run


def test_what_was_decided_is_read_back_and_explained(
    tmp_path: Path, ticked: Callable[..., None]
) -> None:
    journal = Journal(tmp_path, rows_per_write=10)
    ticked(journal, 70)
    files = sorted(tmp_path.glob("prod/shop/*.parquet"))
    assert {path.name.rpartition("-")[2] for path in files} == {
        "generalist.parquet",
        "queueing.parquet",
    }
    logs = [read_decisions(path) for path in files]
    assert {(log.service, len(log.entries)) for log in logs} == {("prod/shop", 70)}
    learned = next(log for log in logs if log.policy == "generalist")
    assert learned.bundle_sha256 is not None
    assert learned.entries[-1].decision.evidence is not None
    assert journal.lost == 0
    shown = CliRunner().invoke(
        app, ["explain", str(files[0]), "--at", "last", "--minutes", "1", "--seeds", "1"]
    )
    assert shown.exit_code == 0, shown.output
    assert "generalist on prod/shop" in shown.output


def test_a_moment_is_simulated_with_the_batching_that_ran(
    tmp_path: Path, shop_of: Maker, ticked: Callable[..., None]
) -> None:
    whole = shop_of().running
    for batch in (1, 5):
        folder = tmp_path / str(batch)
        ticked(Journal(folder), 3, running=replace(whole, batch_max=batch), policy="Queueing")
        (path,) = folder.glob("prod/shop/*.parquet")
        account = of_log(path, "last")
        assert account.moment is not None
        assert account.moment.scene.allocation.batch_max == batch
        assert account.moment.scene.actuators == ()


def test_what_was_decided_without_readings_is_explained_without_an_outlook(
    tmp_path: Path, ticked: Callable[..., None]
) -> None:
    ticked(Journal(tmp_path), 30, rate_rps=None, policy="Static", fallback={"replicas": 3})
    (path,) = tmp_path.glob("prod/shop/*.parquet")
    shown = CliRunner().invoke(app, ["explain", str(path.parent), "--at", "last"])
    assert shown.exit_code == 0, shown.output
    assert "no outlook" in shown.output


def test_what_changes_something_is_written_soon(
    tmp_path: Path, shop_of: Maker, town_of: Maker, felt: Maker, state_of: Callable[[], State]
) -> None:
    """A stream that goes on as it was waits for more rows."""
    shop = shop_of(policy="Static", fallback={"replicas": 3})
    shop.reading, town = felt(), town_of(shop)
    tick(town.ports, state_of(), START_S)
    row = replace(town.noted[0], running=town.noted[0].grant.granted)
    more = replace(row.grant.granted, replicas=4)
    journal = Journal(tmp_path)
    for n in range(6):
        now = replace(row, at_s=START_S + 5.0 * n)
        changed = now if n < 5 else replace(now, grant=replace(row.grant, granted=more))
        journal.note([replace(now, policy="quiet"), changed])
    until(lambda: any(tmp_path.glob("prod/shop/*-static.parquet")))
    assert not any(tmp_path.glob("prod/shop/*-quiet.parquet"))
    journal.close()
    assert any(tmp_path.glob("prod/shop/*-quiet.parquet"))


def test_files_are_rotated_and_the_oldest_go(tmp_path: Path, ticked: Callable[..., None]) -> None:
    whole = Journal(tmp_path / "whole", rows_per_write=5, rows_per_file=20)
    ticked(whole, 60, policy="Queueing")
    files = sorted((tmp_path / "whole").glob("prod/shop/*.parquet"))
    assert sum(len(read_decisions(path).entries) for path in files) == 60
    assert all(len(read_decisions(path).entries) <= 20 for path in files)
    for at_s in (START_S + 7.0, START_S + 222.0, START_S + 290.0):
        account = of_log(files[0].parent, datetime.fromtimestamp(at_s, UTC).isoformat())
        assert account.at_s == at_s - at_s % 5.0
    assert of_log(files[0].parent, "last").at_s == START_S + 59 * 5.0
    size = max(path.stat().st_size for path in files)
    bounded = Journal(tmp_path / "bounded", rows_per_write=5, rows_per_file=20, most_bytes=2 * size)
    ticked(bounded, 60, policy="Queueing")
    left = sorted((tmp_path / "bounded").glob("prod/shop/*.parquet"))
    assert 1 <= len(left) < len(files)
    assert read_decisions(left[-1]).entries[-1].decision.at_s == START_S + 59 * 5.0


def test_a_disk_that_cannot_be_written_costs_decisions_their_log_and_nothing_else(
    tmp_path: Path, ticked: Callable[..., None]
) -> None:
    (tmp_path / "prod").write_text("a file where a folder should be", encoding="utf-8")
    journal = Journal(tmp_path, rows_per_write=5)
    ticked(journal, 20, policy="Queueing")
    assert journal.lost == 20


def test_without_a_folder_nothing_is_written(ticked: Callable[..., None]) -> None:
    journal = Journal(None)
    ticked(journal, 5)
    assert journal.lost == 0
