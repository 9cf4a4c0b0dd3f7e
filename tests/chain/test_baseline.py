"""The baseline on real processes: two short levels, the folder it leaves, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from jsonschema import Draft202012Validator

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 4


@pytest.mark.parametrize(("protocol", "users"), [("http", (2, 12)), ("grpc", (6,))])
def test_a_short_baseline(protocol: str, users: tuple[int, ...], tmp_path: Path) -> None:
    out = tmp_path / "baseline" / "now"
    words = ["--users", ",".join(map(str, users)), "--warm-up", 2.5, "--seconds", SECONDS]
    words += ["--think-s", 0.1, "--protocol", protocol, "--target-ms", 500, "--out", out]
    words += [f"--stack-option={o}" for o in ("--prometheus-port=0", "--seed=3", "--replicas=2")]
    command = [sys.executable, ROOT / "loadtests" / "baseline.py", *words]
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=120, check=False
    )
    # 3: a busy machine made the generator late, which it says and this test does not judge
    assert done.returncode in (0, 3), done.stderr
    found = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    schema = json.loads((ROOT / "docs/schemas/baseline-v1.json").read_text(encoding="utf-8"))
    Draft202012Validator(schema).validate(found)
    for count, level in zip(users, found["levels"], strict=True):
        assert level["users"] == count
        assert level["success_percent"] == 100.0
        assert 0.0 < level["busy_percent"] < 100.0
        assert level["batch_mean"] >= 1.0
        assert level["memory_mib"] > 2 * 30
        assert level["gpu_percent"] is None
        logged = pq.read_table(out / f"requests-{count}.parquet")
        assert logged.num_rows > level["requests"] > 0
        # Little's law: users = throughput x (latency + pause), within what chance allows
        cycle_s = level["latency_ms"]["mean"] / 1000.0 + 0.1
        assert level["throughput_rps"] * cycle_s == pytest.approx(count, rel=0.35)
        assert level["gateway_ms"]["p50"] < level["latency_ms"]["p99"]
    busy = [level["busy_percent"] for level in found["levels"]]
    assert busy == sorted(busy)
    assert found["config"]["replicas"] == 2
    assert "dynamic_batching" in (out / "model-config.pbtxt").read_text(encoding="utf-8")
    assert (out / "table.md").read_text(encoding="utf-8") in done.stdout
    assert {"config.yaml", "environment.json"} < {path.name for path in out.iterdir()}
    assert [path.name for path in out.parent.iterdir()] == ["now"]
