"""Trace and arrival files: what is read, and one clear sentence for whatever cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpupilot_envs.errors import TraceInvalid
from gpupilot_envs.workload.trace import RateTrace, read_arrivals, read_trace, write_trace


def csv(folder: Path, text: str) -> Path:
    path = folder / "mine.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_is_written_is_read_back(tmp_path: Path, suffix: str) -> None:
    trace = RateTrace(name="mine", bin_s=57.0, rps=np.array([1.0, 0.0, 2.5]))
    path = tmp_path / f"mine{suffix}"
    write_trace(path, trace)
    again = read_trace(path)
    assert (again.name, again.family, again.sha256) == ("mine", "mine", trace.sha256)


def test_times_are_shifted_to_zero_and_other_columns_ignored(tmp_path: Path) -> None:
    trace = read_trace(csv(tmp_path, "note,t_s,rps\na,1000, 5\nb,1015,6\nc,1030,7\n"))
    assert trace.bin_s == 15.0
    assert trace.rps.tolist() == [5.0, 6.0, 7.0]
    assert trace.starts_s.tolist() == [0.0, 15.0, 30.0]


def test_whole_numbers_in_parquet_are_rates_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.parquet"
    pq.write_table(pa.table({"t_s": [0, 1, 2], "rps": [4, 5, 6]}), path)
    assert read_trace(path).mean_rps == 5.0


def test_gaps_and_family_come_from_beside_the_trace(tmp_path: Path) -> None:
    path = csv(tmp_path, "t_s,rps\n0,1\n10,0\n20,3\n30,4\n")
    (tmp_path / "gaps.csv").write_text(
        "trace,start_s,end_s,note\nmine,10,20,stalled\nother,0,40,not ours\n"
    )
    (tmp_path / "index.csv").write_text("name,family\nmine,house\n")
    trace = read_trace(path)
    assert trace.masked.tolist() == [False, True, False, False]
    assert trace.family == "house"
    explicit = read_trace(path, gaps=[(25.0, 40.0)], family="guests")
    assert explicit.masked.tolist() == [False, False, True, True]
    assert explicit.family == "guests"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("t_s,rate\n0,1\n1,2\n", r"columns: \['t_s', 'rate'\].*a column named rps"),
        ("time,rate\n0,1\n1,2\n", "a column named t_s and rps"),
        ("t_s,rps\n0,1\n1,nan\n", "rps, row 2: nan"),
        ("t_s,rps\n0,1\n1,\n", "rps, row 2: nan"),
        ("t_s,rps\n0,1\n1,inf\n", "rps, row 2: inf"),
        ("t_s,rps\n0,1\n1,-3\n", "rps, row 2: -3.0"),
        ("t_s,rps\n0,1\n1,many\n", "rps, row 2: 'many'"),
        ("t_s,rps\n0,1\n2,1\n1,1\n", "t_s, row 3: 1.0 is not allowed; expected more than 2"),
        ("t_s,rps\n0,1\n0,1\n", "t_s, row 2: 0.0"),
        ("t_s,rps\n0,1\n1,1\n2,1\n5,1\n6,1\n", "t_s, row 4: 5.0.*regular grid of 1 s"),
        ("t_s,rps\nnan,1\n1,1\n", "t_s, row 1: nan"),
        ("t_s,rps\n", "t_s: '0 rows'.*at least 2 rows"),
        ("t_s,rps\n0,1\n", "t_s: '1 rows'.*at least 2 rows"),
        ("t_s,rps,rps\n0,1,1\n1,1,1\n", "rps only once"),
        ("", "CSV file with the header t_s,rps"),
        ("t_s,rps\n0,1,2\n", "CSV file with the header t_s,rps"),
        ("PAR1 and no more", "damaged Parquet"),
    ],
)
def test_a_broken_trace_is_refused_in_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = csv(tmp_path, text)
    with pytest.raises(TraceInvalid, match=words) as caught:
        read_trace(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_binary_rubbish_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.parquet"
    path.write_bytes(bytes(range(256)) * 4)
    with pytest.raises(TraceInvalid, match=r"mine\.parquet"):
        read_trace(path)


@pytest.mark.parametrize("read", [read_trace, read_arrivals])
def test_missing_files_and_folders_are_refused(tmp_path: Path, read: object) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(TraceInvalid, match="a readable Parquet or CSV file"):
            read(path)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("trace,begin\nmine,1\n", "a column named start_s and end_s"),
        ("trace,start_s,end_s\nmine,one,2\n", "two numbers"),
        ("trace,start_s,end_s\nmine,5,2\n", "0 <= start_s < end_s"),
    ],
)
def test_broken_gaps_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = csv(tmp_path, "t_s,rps\n0,1\n1,1\n")
    (tmp_path / "gaps.csv").write_text(text)
    with pytest.raises(TraceInvalid, match=words):
        read_trace(path)


def test_binary_gaps_are_refused(tmp_path: Path) -> None:
    path = csv(tmp_path, "t_s,rps\n0,1\n1,1\n")
    (tmp_path / "gaps.csv").write_bytes(bytes(range(128, 256)))
    with pytest.raises(TraceInvalid, match=r"gaps\.csv.*a readable CSV file"):
        read_trace(path)


def test_times_of_day_are_no_seconds(tmp_path: Path) -> None:
    path = tmp_path / "mine.parquet"
    stamps = pa.array([0, 1], pa.timestamp("s"))
    pq.write_table(pa.table({"t_s": stamps, "rps": [1.0, 2.0]}), path)
    with pytest.raises(TraceInvalid, match=r"t_s, row 1: .* expected a number"):
        read_trace(path)


def test_arrivals_may_tie_and_start_at_zero(tmp_path: Path) -> None:
    arrivals = read_arrivals(csv(tmp_path, "t_s\n7.5\n7.5\n9\n"))
    assert arrivals.tolist() == [0.0, 0.0, 1.5]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rps\n1\n", "a column named t_s"),
        ("t_s\n", "at least 1 rows"),
        ("t_s\n2\n1\n", "t_s, row 2: 1.0 is not allowed; expected at least 2"),
        ("t_s\n2\nnan\n", "t_s, row 2: nan"),
    ],
)
def test_broken_arrivals_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(TraceInvalid, match=words):
        read_arrivals(csv(tmp_path, text))
