"""The baseline's parts: what was used between two times, the table, the command line."""

from __future__ import annotations

from pathlib import Path

import baseline
import pytest

from gpupilot_baseline.plan import parse
from gpupilot_baseline.results import Level, Percentiles, Summary
from gpupilot_baseline.sampling import Sample, use
from gpupilot_baseline.table import table
from gpupilot_envs.errors import InputInvalid


def sample(at_s: float, executions: int, memory_bytes: int | None = 100) -> Sample:
    """Return a sample of a server whose batches hold 4 and take 50 ms; 0.2 cores."""
    cpu_s = None if memory_bytes is None else 0.2 * at_s
    return Sample(
        at_s=at_s,
        executions=executions,
        requests=4 * executions,
        busy_s=0.05 * executions,
        cpu_s=cpu_s,
        memory_bytes=memory_bytes,
    )


def level(*, valid: bool = True, gpu_percent: float | None = None) -> Level:
    return Level(
        users=50,
        requests=1000,
        success_percent=99.5,
        throughput_rps=66.66,
        latency_ms=Percentiles(mean=10.0, p50=9.0, p95=20.0, p99=None),
        attainment_percent=98.0,
        gateway_ms=None,
        busy_percent=41.0,
        batch_mean=1.5,
        cpu_cores=None,
        memory_mib=None,
        gpu_percent=gpu_percent,
        gpu_memory_mib=None,
        gpu_power_w=None,
        send_lag_p99_ms=1.0,
        valid=valid,
    )


def summary(*levels: Level) -> Summary:
    config = {"protocol": "http", "think_s": 0.7}
    return Summary(flavour="cpu", target_ms=60.0, levels=levels, config=config, environment={})


def test_what_was_used_is_read_between_the_counted_times() -> None:
    """10 executions/s of 50 ms from 5 s on, after a warm-up of 20 a second."""
    samples = [sample(t, int(20 * min(t, 5.0) + 10 * max(t - 5.0, 0.0))) for t in range(0, 26)]
    found = use(samples, 5.2, 24.8)
    assert found.batch_mean == 4.0
    assert found.executing == pytest.approx(0.5)
    assert found.cpu_cores == pytest.approx(0.2)
    assert found.memory_bytes == 100


def test_the_most_memory_of_the_counted_time_is_said() -> None:
    samples = [sample(t, 10 * t, memory) for t, memory in enumerate((900, 100, 300, 200, 800))]
    assert use(samples, 1.0, 3.0).memory_bytes == 300


def test_a_server_of_others_has_no_cpu_and_an_idle_one_no_batch() -> None:
    found = use([sample(0.0, 7, None), sample(10.0, 7, None)], 0.0, 10.0)
    assert (found.cpu_cores, found.memory_bytes, found.batch_mean) == (None, None, None)
    assert found.executing == 0.0
    assert use([sample(0.0, 7)], 0.0, 10.0).executing is None


def test_the_table_says_what_is_missing_and_what_is_not_valid() -> None:
    text = table(summary(level(), level(valid=False, gpu_percent=43.0)))
    lines = text.replace("\N{EN DASH}", "?").splitlines()
    assert lines[2] == (
        "| 50 | 10.0 | 20.0 | ? | 66.7 | 99.50 | 98.00 | 41.0 | 1.50 | ? | ? | ? | ? |"
    )
    assert lines[3].startswith("| 50 (!) |")
    assert lines[3].endswith("| 43 | ? |")
    assert lines[4].startswith("| *10* | *72* | *74* | *81* | *13* |")
    assert "another machine" in lines[6]
    assert "late itself" in lines[7]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--users", "ten"], "--users: 'ten' is not allowed"),
        (["--users", "10,0"], "--users: '10,0' is not allowed"),
        (["--seconds", "0.5"], "--seconds: 0.5 is not allowed"),
        (["--think-s", "nan"], "--think-s: nan is not allowed"),
    ],
)
def test_a_wrong_option_is_one_sentence(words: list[str], sentence: str) -> None:
    with pytest.raises(InputInvalid, match=sentence):
        parse(words)


def test_results_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "older.txt").write_text("kept", encoding="utf-8")
    assert baseline.main(["--out", str(tmp_path)]) == baseline.BAD_INPUT
    assert capsys.readouterr().err == (
        f"baseline: {tmp_path} exists already; choose another --out folder\n"
    )


def test_a_server_that_is_not_there_leaves_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--url", "http://127.0.0.1:9", "--users", "2", "--out", str(tmp_path / "run")]
    assert baseline.main(words) == baseline.BAD_INPUT
    assert "127.0.0.1:9" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
