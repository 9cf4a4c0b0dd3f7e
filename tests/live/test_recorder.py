"""A recording is whole at any time, goes on where it ended, and says what it could not find."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from gpupilot_agent.cli.main import run
from gpupilot_agent.cli.record_live import DELAY_S, seconds
from gpupilot_agent.live_recorder import LiveRecorder, RecordingPlan
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.errors import InputInvalid, MetricsUnavailable, OutputRefused
from gpupilot_envs.live import LiveSignals
from gpupilot_envs.live_reading import LiveReading
from gpupilot_envs.metric_names import metric_names
from gpupilot_envs.prometheus import Access, Prometheus
from gpupilot_envs.workload.recording import read_recording


def plan(out: Path, service: str, since_s: float, **words: Any) -> RecordingPlan:
    usual: dict[str, Any] = {
        "every_s": 30,
        "follow": False,
        "delay_s": 0.0,
        "flush_s": 30.0,
        "running": Allocation(replicas=1, batch_max=4),
        "target_s": 0.06,
    }
    return RecordingPlan(service=service, out=out, since_s=since_s, **(usual | words))


def recorder(prometheus: Any, made: RecordingPlan, *, ends_s: float, **words: Any) -> LiveRecorder:
    live = LiveSignals(
        Prometheus(Access(url=prometheus.url)), metric_names(), lambda _: made.target_s
    )
    return LiveRecorder(live, made, now_s=lambda: ends_s, **words)


def test_the_past_is_recorded_as_it_was(prometheus: Any, tmp_path: Path) -> None:
    out, end_s = tmp_path / "shop.parquet", prometheus.end_s
    done = recorder(prometheus, plan(out, "shop", end_s - 1500), ends_s=end_s).run()
    found = read_recording(out)
    assert done.rows == len(found.readings) == 41
    assert found.readings[0].at_s == end_s - 1200
    assert found.readings[0].rate_rps is None
    last = found.readings[-1]
    assert last.rate_rps == pytest.approx(50.0, rel=0.01)
    assert last.gpu_power_w == 100.0
    assert found.allocations[-1] == Allocation(replicas=2, cpu_milli=1500, batch_max=4)
    assert found.sources["rate_rps"] == "gpupilot-gateway"
    assert found.details["latency_mean_s"][-1] == pytest.approx(0.025, rel=0.02)
    assert found.details["cold_start_s"][-1] is None
    assert found.target_s == 0.06


def test_a_second_run_adds_only_what_is_missing(prometheus: Any, tmp_path: Path) -> None:
    out, end_s = tmp_path / "shop.parquet", prometheus.end_s
    since_s = end_s - 600
    recorder(prometheus, plan(out, "shop", since_s), ends_s=end_s - 300).run()
    first = read_recording(out)
    again = recorder(prometheus, plan(out, "shop", since_s), ends_s=end_s).run()
    whole = tmp_path / "whole.parquet"
    recorder(prometheus, plan(whole, "shop", since_s), ends_s=end_s).run()
    assert again.resumed
    assert again.rows == 10
    assert len(first.readings) == 10
    assert read_recording(out) == read_recording(whole)
    assert recorder(prometheus, plan(out, "shop", since_s), ends_s=end_s).run().rows == 0


def test_silence_is_empty_in_the_file_and_masked_in_the_trace(
    prometheus: Any, tmp_path: Path
) -> None:
    out, end_s = tmp_path / "gap.parquet", prometheus.end_s
    recorder(prometheus, plan(out, "gap", end_s - 1200), ends_s=end_s).run()
    rates = pq.read_table(out).column("rate_rps").to_pylist()
    assert rates.count(None) >= 11
    assert 0.0 not in rates
    assert read_recording(out).trace().masked.sum() == rates.count(None)


@pytest.mark.parametrize(
    ("words", "service", "sentence"),
    [
        ({}, "reset", "service: 'reset' is not allowed; expected 'shop'"),
        ({"every_s": 15}, "shop", "--every: 15 is not allowed; expected 30"),
    ],
    ids=["service", "grid"],
)
def test_another_recording_is_not_continued(
    prometheus: Any, tmp_path: Path, words: dict[str, Any], service: str, sentence: str
) -> None:
    out, end_s = tmp_path / "a.parquet", prometheus.end_s
    recorder(prometheus, plan(out, "shop", end_s - 300), ends_s=end_s - 90).run()
    before = out.read_bytes()
    with pytest.raises(InputInvalid, match=sentence):
        recorder(prometheus, plan(out, service, end_s - 300, **words), ends_s=end_s)
    assert out.read_bytes() == before


def test_an_unknown_service_is_told_which_there_are(prometheus: Any, tmp_path: Path) -> None:
    out, end_s = tmp_path / "a.parquet", prometheus.end_s
    with pytest.raises(InputInvalid, match="there are: gap, idle"):
        recorder(prometheus, plan(out, "shpo", end_s - 300), ends_s=end_s).run()
    assert not out.exists()


def test_a_full_disk_leaves_what_was_recorded(prometheus: Any, tmp_path: Path) -> None:
    out, end_s = tmp_path / "a.parquet", prometheus.end_s
    recorder(prometheus, plan(out, "shop", end_s - 300), ends_s=end_s - 90).run()
    before = out.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    later = recorder(prometheus, plan(out, "shop", end_s - 300), ends_s=end_s)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        with pytest.raises(OutputRefused, match="a file of this size is not allowed here"):
            later.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]
    assert recorder(prometheus, plan(out, "shop", end_s - 300), ends_s=end_s).run().rows == 3


class Away(LiveSignals):
    """A Prometheus that does not answer some of the times it is asked."""

    def __init__(self, inner: LiveSignals, answers: list[bool]) -> None:
        self._inner, self._answers = inner, answers

    def span(self, service: str, window_s: int, start_s: int, end_s: int) -> list[LiveReading]:
        if self._answers and not self._answers.pop(0):
            raise MetricsUnavailable("Prometheus is away", passing=True)
        return self._inner.span(service, window_s, start_s, end_s)


class Enough(Exception):
    """Ends a recorder that would follow for ever."""


def test_following_outlives_a_prometheus_that_is_away(prometheus: Any, tmp_path: Path) -> None:
    out, end_s = tmp_path / "a.parquet", prometheus.end_s
    clock, said = [end_s - 130.0], list[str]()

    def sleep(length_s: float) -> None:
        clock[0] += length_s
        if clock[0] > end_s:
            raise Enough

    inner = LiveSignals(Prometheus(Access(url=prometheus.url)), metric_names(), lambda _: 0.06)
    live = Away(inner, [True, False, False, False])
    made = plan(out, "shop", end_s - 300, follow=True)
    following = LiveRecorder(live, made, now_s=lambda: clock[0], sleep=sleep, tell=said.append)
    with pytest.raises(Enough):
        following.run()
    assert [sentence.split(";")[0] for sentence in said] == [
        "Prometheus is away",
        "Prometheus answers again",
    ]
    times = [reading.at_s for reading in read_recording(out).readings]
    assert times == [float(t) for t in range(end_s - 270, end_s + 1, 30)]


def test_kill_nine_while_following_loses_nothing(prometheus: Any, tmp_path: Path) -> None:
    out = tmp_path / "live.parquet"
    words = ["record", "--prometheus", prometheus.url, "--service", "live", "--out", str(out)]
    words += ["--every", "2", "--batch-max", "1"]
    command = [str(Path(sys.executable).with_name("gpupilot")), *words, "--follow"]
    following = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until_s = time.monotonic() + 45.0
    while time.monotonic() < until_s and not out.exists():
        time.sleep(0.2)
    following.send_signal(signal.SIGKILL)
    following.wait()
    assert out.exists()
    held = read_recording(out)
    time.sleep(2.0 + DELAY_S)  # until another row is due
    done = subprocess.run([*command[:-1]], check=True, capture_output=True, text=True)
    whole = read_recording(out)
    assert "with data" in done.stdout
    assert whole.readings[: len(held.readings)] == held.readings
    times = [reading.at_s for reading in whole.readings]
    assert times == [times[0] + 2.0 * k for k in range(len(times))]
    rates = [r.rate_rps for r in whole.readings if r.rate_rps is not None]
    assert np.median(rates) == pytest.approx(20.0, rel=0.1)


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("--service", "shop", "--since", "soon"), 2, "--since: 'soon' is not allowed"),
        (("--service", "shop", "--every", "1.5"), 2, "whole seconds with --prometheus"),
        ((), 2, "--service"),
        (("--service", "shop", "--trace", "t.csv"), 2, "exactly one of them"),
        (("--service", "shop", "--triton", "http://127.0.0.1:9"), 2, "cannot be reached"),
    ],
    ids=["since", "every", "service", "both", "triton"],
)
def test_bad_options_are_one_sentence(
    words: tuple[str, ...],
    code: int,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    line = ["gpupilot", "record", "--prometheus", "http://127.0.0.1:9", *words]
    monkeypatch.setattr(sys, "argv", [*line, "--out", str(tmp_path / "r.parquet")])
    with pytest.raises(SystemExit) as ended:
        run()
    said = capsys.readouterr().err.strip()
    assert ended.value.code == code
    assert sentence in said.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("text", "length_s"), [("90s", 90), ("1.5h", 5400), ("7d", 604_800)])
def test_lengths_of_time(text: str, length_s: float) -> None:
    assert seconds(text) == length_s


def test_the_metadata_says_how_each_column_came(prometheus: Any, tmp_path: Path) -> None:
    out, end_s = tmp_path / "a.parquet", prometheus.end_s
    made = plan(out, "shop", end_s - 300, queries={"rate_rps": "sum(rate(x[30s]))"})
    recorder(prometheus, made, ends_s=end_s).run()
    metadata = pq.read_schema(out).metadata
    assert json.loads(metadata[b"queries"]) == made.queries
    assert json.loads(metadata[b"sources"])["batch_mean"] == "triton"
    assert "latency_mean_s" in json.loads(metadata[b"details"])
