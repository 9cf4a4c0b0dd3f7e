"""Recordings are read back as they were written, and refused when they are something else."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.errors import OutputRefused, TraceInvalid
from gpupilot_envs.signals import SIGNAL_FIELDS, Signals
from gpupilot_envs.workload import recording
from gpupilot_envs.workload.recording import (
    FORMAT,
    Recording,
    append_recording,
    read_recording,
    read_traffic,
    write_recording,
)
from gpupilot_envs.workload.trace import RateTrace, write_trace

MAYBE = st.none() | st.floats(0.0, 1e6)
COUNT = st.none() | st.integers(0, 100)


def some(rates: list[float | None], start_s: float = 0.0) -> Recording:
    return Recording(
        service="resnet",
        readings=tuple(
            Signals(at_s=start_s + 15.0 * index, window_s=15.0, rate_rps=rate, replicas_ready=2)
            for index, rate in enumerate(rates)
        ),
        allocations=(Allocation(replicas=2),) * len(rates),
        profile_sha256="ab12",
        queries={"rate_rps": "sum(rate(requests_total[15s]))"},
    )


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_field_survives(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("recording") / "a.parquet"
    count = data.draw(st.integers(1, 4))
    readings = []
    for index in range(count):
        values = {
            name: data.draw(COUNT if name in ("replicas_ready", "replicas_pending") else MAYBE)
            for name in SIGNAL_FIELDS
        }
        readings.append(Signals(**(values | {"at_s": index * 15.0, "window_s": 15.0})))  # type: ignore[arg-type]
    allocations = [
        Allocation(**{item.name: data.draw(st.integers(0, 2**40)) for item in fields(Allocation)})
        for _ in range(count)
    ]
    whole = Recording(service="s", readings=tuple(readings), allocations=tuple(allocations))
    write_recording(path, whole)
    assert read_recording(path) == whole


def test_the_documented_columns_are_the_columns(tmp_path: Path) -> None:
    write_recording(tmp_path / "a.parquet", some([1.0]))
    table = pq.read_table(tmp_path / "a.parquet")
    documented = re.sub(r"_p50_s, _p95_s,|_p99_s\n", " ", recording.__doc__ or "")
    missing = [
        name
        for name in table.column_names
        if name not in documented and not name.startswith("latency_")
    ]
    assert missing == []
    assert table.column_names == [*SIGNAL_FIELDS, *(item.name for item in fields(Allocation))]
    assert table.schema.metadata[b"format"].decode() == FORMAT
    assert table.column("latency_p95_s").null_count == 1


def test_appending_goes_on_where_the_file_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    append_recording(path, some([1.0, 2.0]))
    append_recording(path, some([3.0], start_s=30.0))
    assert [one.rate_rps for one in read_recording(path).readings] == [1.0, 2.0, 3.0]
    for later, words in (
        (some([4.0], start_s=30.0), "at_s, row 4: 30.0"),
        (replace(some([4.0], start_s=90.0), service="bert"), "service: 'bert'"),
        (replace(some([4.0], start_s=90.0), profile_sha256="cd"), "profile_sha256: 'cd'"),
    ):
        with pytest.raises(TraceInvalid, match=words):
            append_recording(path, later)
    assert len(read_recording(path).readings) == 3


def test_a_failed_append_leaves_the_old_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.parquet"
    write_recording(path, some([1.0, 2.0]))

    def full(_table: pa.Table, where: Path) -> None:
        where.write_bytes(b"PAR1 half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OutputRefused, match="the disk is full"):
        append_recording(path, some([3.0], start_s=30.0))
    assert len(read_recording(path).readings) == 2
    assert [one.name for one in tmp_path.iterdir()] == ["a.parquet"]


def test_silence_is_masked_and_zero_is_traffic() -> None:
    trace = some([5.0, None, 0.0, float("nan"), 7.0]).trace()
    assert trace.bin_s == 15.0
    assert trace.masked.tolist() == [False, True, False, True, False]
    assert trace.rps.tolist() == [5.0, 0.0, 0.0, 0.0, 7.0]


def test_holes_in_time_are_masked() -> None:
    first = some([5.0, 6.0, 7.0])
    later = some([8.0], start_s=75.0)
    joined = replace(
        first,
        readings=first.readings + later.readings,
        allocations=first.allocations + later.allocations,
    )
    assert joined.trace().masked.tolist() == [False, False, False, True, True, False]


def test_traffic_comes_from_recordings_and_from_traces_alike(tmp_path: Path) -> None:
    write_recording(tmp_path / "recorded.parquet", some([5.0, 6.0, 7.0]))
    trace = RateTrace(name="plain", bin_s=15.0, rps=np.array([5.0, 6.0, 7.0]))
    write_trace(tmp_path / "plain.parquet", trace)
    recorded = read_traffic(tmp_path / "recorded.parquet")
    assert recorded.name == "recorded"
    assert recorded.sha256 == read_traffic(tmp_path / "plain.parquet").sha256


def rewrite(path: Path, change: str) -> None:
    write_recording(path, some([1.0, 2.0]))
    table = pq.read_table(path)
    metadata = dict(table.schema.metadata)
    match change:
        case "version":
            metadata[b"format"] = b"gpupilot/recording-v9"
        case "format":
            del metadata[b"format"]
        case "column":
            table = table.drop_columns(["rate_rps"])
        case "empty":
            table = table.set_column(0, "at_s", pa.array([0.0, None]))
        case "type":
            table = table.set_column(0, "at_s", pa.array(["noon", "night"]))
        case "order":
            table = table.set_column(0, "at_s", pa.array([15.0, 0.0]))
    pq.write_table(table.replace_schema_metadata(metadata), path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "version",
            "format: 'gpupilot/recording-v9' .* expected gpupilot/recording-v1",
        ),
        ("format", "format: None"),
        ("column", "also rate_rps"),
        ("empty", "at_s"),
        ("type", "the types of the format"),
        ("order", "at_s, row 2: 0.0"),
    ],
)
def test_another_format_is_refused_in_one_sentence(tmp_path: Path, change: str, words: str) -> None:
    path = tmp_path / "a.parquet"
    rewrite(path, change)
    with pytest.raises(TraceInvalid, match=words) as caught:
        read_recording(path)
    assert "\n" not in str(caught.value)


def test_what_is_no_recording_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceInvalid, match="no such file"):
        read_recording(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("t_s,rps\n0,1\n1,1\n")
    with pytest.raises(TraceInvalid, match="not a readable Parquet file"):
        read_recording(tmp_path / "text.parquet")


def test_too_little_to_make_a_trace_is_refused() -> None:
    with pytest.raises(TraceInvalid, match="2 or more"):
        some([1.0]).trace()
    with pytest.raises(TraceInvalid, match="some rates"):
        some([None, None]).trace()
    with pytest.raises(TraceInvalid, match="equal counts"):
        replace(some([1.0, 2.0]), allocations=())
