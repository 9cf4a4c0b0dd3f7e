"""A run's folder is read as it was written, and what is wrong with one is one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.profile import Batching
from gpupilot_envs.runs import (
    CARD,
    REQUESTS,
    Requests,
    RunCard,
    find_runs,
    read_run,
    requests_of,
    write_run,
)


def card(**changes: object) -> RunCard:
    given = {
        "name": "steady",
        "flavour": "emulated",
        "purpose": "fidelity",
        "profile": "mobilenetv4-edge",
        "replicas": 1,
        "instances": 1,
        "batching": Batching(),
        "target_ms": 60.0,
        "duration_s": 30.0,
    }
    return RunCard.model_validate(given | changes)


def columns() -> dict[str, list[object]]:
    return {
        "intended_s": [1e9 + 0.1, 1e9, 1e9 + 0.3],
        "lag_s": [0.0, 0.01, 0.02],
        "waited_s": [0.0, 0.0, 0.0],
        "latency_s": [0.05, 0.06, 0.07],
        "ok": [True, True, False],
        "reason": ["ok", "ok", "503"],
        "warm_up": [False, True, False],
    }


def test_a_card_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = card(environment={"cores": 2}, load_ratio=0.8, rate_rps=250.0)
    write_run(tmp_path, written)
    assert read_run(tmp_path) == written


@pytest.mark.parametrize(
    ("field", "value"), [("purpose", "both"), ("replicas", 0), ("target_ms", -1), ("colour", 1)]
)
def test_a_wrong_field_is_named(tmp_path: Path, field: str, value: object) -> None:
    document = card().model_dump(mode="json") | {field: value}
    (tmp_path / CARD).write_text(str(document).replace("None", "null"))
    with pytest.raises(InputInvalid, match=field):
        read_run(tmp_path)


def test_a_folder_without_a_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match=CARD):
        read_run(tmp_path)


def test_requests_start_when_the_generator_turned_to_them(tmp_path: Path) -> None:
    pq.write_table(pa.table(columns()), tmp_path / REQUESTS)
    found = requests_of(tmp_path, card(warm_up_s=0.05))
    np.testing.assert_allclose(found.sent_s, [0.0, 0.09, 0.31], atol=1e-6)
    np.testing.assert_allclose(found.latency_s, [0.05, 0.05, 0.05])
    assert found.ok.tolist() == [True, True, False]
    assert found.counted_from_s == pytest.approx(0.09, abs=1e-6)
    assert found.counted_until_s == pytest.approx(0.31, abs=1e-6)


def test_the_compact_form_says_the_same(tmp_path: Path) -> None:
    plain, compact = tmp_path / "plain", tmp_path / "compact"
    plain.mkdir()
    compact.mkdir()
    given = columns()
    pq.write_table(pa.table(given), plain / REQUESTS)
    times = {
        "intended_us": [100_000, 0, 300_000],
        "lag_us": [0, 10_000, 20_000],
        "latency_us": [50_000, 60_000, 70_000],
    }
    pq.write_table(pa.table(times | {"ok": given["ok"]}), compact / REQUESTS)
    one, other = (requests_of(folder, card(warm_up_s=0.05)) for folder in (plain, compact))
    np.testing.assert_allclose(one.sent_s, other.sent_s, atol=1e-6)
    np.testing.assert_allclose(one.latency_s, other.latency_s, atol=1e-9)
    np.testing.assert_array_equal(one.warm_up, other.warm_up)


def test_requests_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match=REQUESTS):
        requests_of(tmp_path, card())
    (tmp_path / REQUESTS).write_text("no parquet")
    with pytest.raises(InputInvalid, match=REQUESTS):
        requests_of(tmp_path, card())
    lacking = {name: values for name, values in columns().items() if name != "lag_s"}
    pq.write_table(pa.table(lacking), tmp_path / REQUESTS)
    with pytest.raises(InputInvalid, match="lag_s"):
        requests_of(tmp_path, card())
    pq.write_table(pa.table(columns()), tmp_path / REQUESTS)
    with pytest.raises(InputInvalid, match="warm-up"):
        requests_of(tmp_path, card(warm_up_s=1.0))


def test_runs_are_found_below_a_folder_once(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_run(tmp_path / "cpu" / name, card(name=name))
    found = find_runs([tmp_path, tmp_path / "cpu" / "a"])
    assert [folder.name for folder in found] == ["a", "b"]


def test_a_generator_that_is_always_late_tells_no_pauses() -> None:
    sent_s = np.linspace(0.0, 20.0, 200)
    found = Requests(
        sent_s=sent_s,
        latency_s=np.full(200, 0.02),
        ok=np.ones(200, dtype=bool),
        warm_up=sent_s < 1.0,
        pauses_s=tuple((at, at + 0.05) for at in range(20)),
    )
    assert found.calm_spans_s() == ((found.counted_from_s, 20.0),)


def test_a_pause_of_the_machine_is_found_and_left_out(tmp_path: Path) -> None:
    intended_s = np.linspace(0.0, 20.0, 2001)
    lag_s = np.where((intended_s >= 9.995) & (intended_s < 10.095), 10.1 - intended_s, 0.0)
    columns = {"intended_s": intended_s, "lag_s": lag_s, "latency_s": lag_s + 0.02}
    table = pa.table(columns | {"ok": np.ones(2001, dtype=bool)})
    pq.write_table(table, tmp_path / REQUESTS)
    found = requests_of(tmp_path, card(warm_up_s=1.0))
    ((from_s, until_s),) = found.pauses_s
    assert (from_s, until_s) == pytest.approx((10.0, 10.1), abs=0.011)
    (first, second) = found.calm_spans_s()
    assert first == pytest.approx((1.0, 9.7), abs=0.02)
    assert second == pytest.approx((11.6, 20.0), abs=0.05)
