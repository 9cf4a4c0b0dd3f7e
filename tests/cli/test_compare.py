"""`tune`, `compare` and `report` hand one another what they write, and resume."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Shell = Callable[..., Any]


@pytest.fixture
def service(tiny: Path) -> tuple[object, ...]:
    return ("--profile", tiny, "--target-ms", 500, "--scale-to-replicas", 2)


def test_tune_compare_report(
    shell: Shell, service: tuple[object, ...], traces: Path, tmp_path: Path
) -> None:
    tuned, out = tmp_path / "tuned", tmp_path / "out"
    training = ("--traces", traces / "calm.csv", "--policies", "queueing", "--trials", 3)
    ended = shell("tune", *service, *training, "--seeds", 1, "--out", tuned)
    assert ended.code == 0, ended.err
    assert "queueing" in ended.out
    assert "tuning: 100 % 3/3" in ended.err

    policies = "static,queueing,queueing-tuned"
    words = ("--traces", traces / "busy.csv", "--policies", policies, "--tuned", tuned)
    ended = shell("compare", *service, *words, "--seeds", 2, "--out", out, "--json")
    assert ended.code == 0, ended.err
    summary = json.loads(ended.out)
    assert list(summary["policies"]) == policies.split(",")
    assert json.loads((out / "summary.json").read_text(encoding="utf-8")) == summary

    _explained(shell, out)

    (out / "report.html").unlink()
    ended = shell("report", out)
    assert ended.code == 0, ended.err
    assert "queueing-tuned" in ended.out
    assert (out / "report.html").stat().st_size > 10_000

    again = shell("compare", *service, *words, "--seeds", 2, "--out", out)
    assert (again.code, "finished comparison" in again.err) == (2, True)


def _explained(shell: Shell, out: Path) -> None:
    """A moment of a comparison: what was granted, and what its policies would have done."""
    where = ("--policy", "static", "--trace", "busy", "--seed", 1)
    ahead = ("--minutes", 2, "--seeds", 2, "--baselines", "queueing-tuned")
    ended = shell("explain", out, *where, *ahead, "--at", 400, "--json")
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert 385 <= told["at_s"] <= 400
    assert told["asked"]["replicas"] == told["granted"]["replicas"] > 0
    named = [each["name"] for each in told["outlook"]["alternatives"]]
    assert (named[0], named[-1]) == ("as it decides", "queueing-tuned")
    assert told["outlook"]["decides_again"]["asked"] == told["asked"]["replicas"]
    shown = shell("explain", out, "--policy", "queueing", "--minutes", 0)
    assert (shown.code, "granted" in shown.out) == (0, True), shown.err
    for wrong, known in ((("--policy", "hpa"), "queueing-tuned"), (("--trace", "calm"), "busy")):
        ended = shell("explain", out, *where, *wrong, "--at", 400)
        assert (ended.code, known in ended.err) == (2, True)
    assert "to 600 s" in shell("explain", out, *where, "--at", 9e9).err


def test_traces_come_one_by_one_or_as_a_folder_or_as_a_shell_gives_them(
    shell: Shell, service: tuple[object, ...], traces: Path, tmp_path: Path
) -> None:
    calm, busy = traces / "calm.csv", traces / "busy.csv"
    ways = {
        "folder": ("--traces", traces),
        "shell": ("--traces", busy, calm),
        "repeated": ("--traces", busy, "--traces", calm),
    }
    rest = ("--policies", "static", "--seeds", 1, "--no-report", "--json")
    found = []
    for name, way in ways.items():
        ended = shell("compare", *way, *service, *rest, "--out", tmp_path / name)
        assert ended.code == 0, ended.err
        found.append(json.loads(ended.out)["policies"])
    assert found[0] == found[1] == found[2]
    assert not (tmp_path / "folder" / "report.html").exists()
