"""Locust as its users start it: open and closed loop, verdicts, bad input, a killed run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from gpupilot_load import schedule
from gpupilot_load.request_log import convert

ROOT = Path(__file__).resolve().parents[2]
Locust = Callable[..., Any]
Server = tuple[str, Any]

# what is tested here is not this machine: a busy one must not turn a run invalid
PATIENT = ("--lag-limit-ms", 2000)


def test_a_stall_is_felt_by_all_who_came_during_it(locust: Locust, server: Server) -> None:
    """Without an omission, half of the requests of a run that half stalls are late."""
    url, script = server
    script.stall = (1.0, 2.5)
    words = ("--host", url, "--rate", 40, "--duration", 3, "--warm-up", 0, "--seed", 3)
    ended = locust("open_loop.py", *words, "--slo-ms", 250, "--requests", "r.parquet", *PATIENT)
    assert ended.code == 1, ended.said
    assert "SLO missed" in ended.summary["verdict"]
    assert 0.4 < ended.summary["attainment"] < 0.75
    assert ended.summary["latency_ms"]["p95"] > 1000.0
    assert ended.summary["requests"] == len(script.bodies)
    assert {whole - header for header, whole in script.bodies} == {3 * 8 * 8 * 4}


def test_users_who_wait_for_answers_hide_the_same_stall(
    locust: Locust, server: Server, tmp_path: Path
) -> None:
    url, script = server
    script.stall = (1.0, 2.5)
    words = ("--host", url, "-u", 2, "-r", 2, "-t", "4s", "--think-s", 0.05, "--warm-up", 0)
    ended = locust("closed_loop.py", *words, "--requests", tmp_path / "r.parquet", *PATIENT)
    assert ended.code == 0, ended.said
    table = pq.read_table(tmp_path / "r.parquet").to_pydict()
    late = sum(latency_s > 0.25 for latency_s in table["latency_s"])
    assert late <= 4
    assert len(table["ok"]) == ended.summary["requests"] > 15
    assert all(table["ok"])


def test_workers_share_one_schedule_and_the_master_judges(
    locust: Locust, server: Server, tmp_path: Path
) -> None:
    url, script = server
    words = ("--host", url, "--rate", 30, "--duration", 2, "--warm-up", 0.5, "--seed", 7)
    judged = ("--slo-ms", 1500, *PATIENT, "--requests", "r.csv")
    ended = locust("open_loop.py", *words, *judged, "--processes", 2)
    times = schedule.steady(30.0, duration_s=2.0, cv=1.0, seed=7)
    assert ended.code == 0, ended.said
    assert len(script.bodies) == len(times)
    assert ended.summary["requests"] == np.sum(times >= 0.5)
    lines = [len((tmp_path / f"r-{n}.csv").read_text().splitlines()) - 1 for n in (0, 1)]
    assert sum(lines) == len(times)
    assert abs(lines[0] - lines[1]) <= 1


def test_rejections_are_misses(locust: Locust, server: Server) -> None:
    url, script = server
    script.reject_every = 2
    words = ("--host", url, "--rate", 40, "--duration", 1, "--warm-up", 0, *PATIENT)
    ended = locust("open_loop.py", *words, "--slo-ms", 2000)
    assert ended.code == 1
    assert ended.summary["attainment"] == pytest.approx(0.5, abs=0.05)
    assert set(ended.summary["reasons"]) == {"ok", "503"}


def test_nobody_there_is_a_sentence_and_exit_code_2(locust: Locust) -> None:
    ended = locust("open_loop.py", "--host", "http://127.0.0.1:9", "--rate", 5, "--duration", 1)
    assert ended.code == 2
    assert "--host: 'http://127.0.0.1:9' is not allowed" in ended.said
    assert "Traceback" not in ended.said


def test_an_unknown_model_is_named(locust: Locust, server: Server) -> None:
    ended = locust("closed_loop.py", "--host", server[0], "--model", "nose", "-t", "2s")
    assert ended.code == 2
    assert "--model: 'nose' is not allowed; expected a model that is ready" in ended.said


def test_a_killed_run_leaves_its_requests(server: Server, tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("locust"), "-f", ROOT / "loadtests/open_loop.py"]
    words = ["--headless", "--host", server[0], "--model", "eye", "--rate", 50, "--duration", 60]
    journal = tmp_path / "r.parquet.journal.csv"
    run = subprocess.Popen(
        [str(word) for word in (*command, *words, "--requests", tmp_path / "r.parquet")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until_s = time.monotonic() + 30
    while time.monotonic() < until_s and len(server[1].bodies) < 120:
        time.sleep(0.1)
    run.send_signal(signal.SIGKILL)
    run.wait()
    with journal.open("a", encoding="utf-8") as file:
        file.write("1790000000.0,0.1")
    convert(journal, tmp_path / "saved.parquet")
    saved = pq.read_table(tmp_path / "saved.parquet")
    assert saved.num_rows >= 50
    assert saved.column("latency_s").null_count == 0


def test_a_full_disk_ends_the_run_and_keeps_whole_lines(server: Server, tmp_path: Path) -> None:
    """`ulimit -f` stands in for the disk: the system refuses what is beyond eight blocks."""
    locust = Path(sys.executable).with_name("locust")
    words = [locust, "-f", ROOT / "loadtests/closed_loop.py", "--headless", "--host", server[0]]
    words += ["--model", "eye", "-u", 20, "-r", 20, "-t", "30s", "--think-s", 0.02]
    words += ["--requests", tmp_path / "r.parquet", "--summary", tmp_path / "s.json"]
    limited = ["bash", "-c", 'ulimit -f 8; exec "$@"', "bash", *map(str, words)]
    began_s = time.monotonic()
    done = subprocess.run(limited, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert time.monotonic() - began_s < 25.0
    assert "r.parquet.journal.csv: File too large; the requests until then are in it" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["r.parquet.journal.csv"]
    convert(tmp_path / "r.parquet.journal.csv", tmp_path / "saved.parquet")
    assert pq.read_table(tmp_path / "saved.parquet").num_rows > 50
