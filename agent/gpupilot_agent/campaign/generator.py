"""Runs Locust beside a campaign: our users, the load of one run, its own lateness."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpupilot_agent.stack import processes
from gpupilot_agent.stack.lifecycle import COMPUTING_RANK, WAKING_RANK
from gpupilot_agent.stack.processes import Process
from gpupilot_envs.atomic import write_text
from gpupilot_envs.errors import InputInvalid, StackFailed

STARTS_WITHIN_S = 180.0
"""A busy machine takes twenty times as long as an idle one."""

ENDS_WITHIN_S = 120.0
OPEN, CLOSED = "open_loop.py", "closed_loop.py"
PROCESS, SUMMARY = "process.json", "summary.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A Locust to be started.

    Attributes:
        script: ``open_loop.py``, which ends when all is sent, or ``closed_loop.py``.
        options: Beside those that every load has.
        host: The gateway.
        target_ms: Latency target.
        warm_up_s: Sent, not counted.
        length_s: Seconds from the first request to the last.
        seed: Of arrivals, pauses and pictures.
        folder: Where its files go.
        lag_limit_ms: It calls itself invalid when its 99th percentile lags more.
        realtime: Whether it runs before everything else once it sends.
    """

    script: str
    options: Sequence[str]
    host: str
    target_ms: float
    warm_up_s: float
    length_s: float
    seed: int
    folder: Path
    lag_limit_ms: float
    realtime: bool = False

    @property
    def requests(self) -> Path:
        """Every request, as it happens."""
        return self.folder / "requests.csv"

    def command(self, scripts: Path) -> list[str]:
        """Return the command line."""
        common = {
            "--host": self.host,
            "--slo-ms": f"{self.target_ms:g}",
            "--warm-up": f"{self.warm_up_s:g}",
            "--lag-limit-ms": f"{self.lag_limit_ms:g}",
            "--seed": str(self.seed),
            "--requests": str(self.requests),
            "--summary": str(self.folder / SUMMARY),
        }
        words = [word for pair in common.items() for word in pair]
        start = [sys.executable, "-m", "locust", "-f", str(scripts / self.script), "--headless"]
        return [*start, *words, *self.options]


def load_scripts(folder: Path | None) -> Path:
    """Return the folder of our Locust users: the one named, or that of the repository we are in.

    Raises:
        InputInvalid: It is not there: they come with the repository, not with the wheel.
    """
    here = Path(__file__).resolve().parents[3] / "loadtests"
    for place in (folder,) if folder is not None else (Path("loadtests"), here):
        if place is not None and (place / "open_loop.py").is_file():
            return place.resolve()
    allowed = "the folder loadtests of the repository"
    raise InputInvalid("--loadtests", str(folder or "loadtests"), allowed)


class Generator:
    """A running Locust."""

    def __init__(self, load: Load, scripts: Path) -> None:
        """Start it; returns when the first request is on its way.

        Raises:
            StackFailed: It does not start; says what it said.
        """
        self.load = load
        load.folder.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        log = load.folder / "locust.log"
        self.process = processes.start("locust", load.command(scripts), log, environment)
        write_text(load.folder / PROCESS, self.process.model_dump_json())
        try:
            processes.wait_until(
                self._sends, [self.process], within_s=STARTS_WITHIN_S, what="locust"
            )
            if load.realtime:
                processes.before_all(self.process, rank=WAKING_RANK)
        except BaseException:
            self.stop()
            raise
        self.began_s = self._first_s()

    def stop(self) -> None:
        """End it, whatever it is doing."""
        processes.stop([self.process])

    def finished(self) -> dict[str, Any]:
        """Return its summary when all is sent and answered.

        Raises:
            StackFailed: It did not end in time, or left no summary.
        """
        try:
            self._wait()
        finally:
            self.stop()
        try:
            text = (self.load.folder / SUMMARY).read_text(encoding="utf-8")
            found: dict[str, Any] = json.loads(text)
        except (OSError, ValueError) as error:
            raise StackFailed("locust left no summary", log=self.process.tail()) from error
        return found

    def _wait(self) -> None:
        until_s = self.began_s + self.load.length_s
        time.sleep(max(until_s - time.time(), 0.0))
        if self.load.realtime:
            processes.before_all(self.process, rank=COMPUTING_RANK)
        if self.load.script == CLOSED:
            # its own time limit would begin long before its first request on a busy machine
            processes.stop([self.process], within_s=ENDS_WITHIN_S)
        while self.process.is_alive():
            if time.time() > until_s + ENDS_WITHIN_S:
                raise StackFailed("locust did not end in time", log=self.process.tail())
            time.sleep(0.2)

    def _sends(self) -> bool:
        try:
            return self.load.requests.read_bytes().count(b"\n") >= 2
        except OSError:
            return False

    def _first_s(self) -> float:
        """Return the Unix time for which the first answered request was meant."""
        with self.load.requests.open(encoding="utf-8") as file:
            next(file)
            return float(next(file).partition(",")[0])


def end_earlier(folder: Path) -> None:
    """End the Locust that was started for a folder, where it still runs."""
    with suppress(FileNotFoundError):
        text = (folder / PROCESS).read_text(encoding="utf-8")
        processes.stop([Process.model_validate_json(text)])


def before_others() -> bool:
    """Put this process, and with it what it will start, before all ordinary work.

    Programs start with the lower rank of those that compute; they are raised when they measure.

    Returns:
        Whether that is permitted.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(COMPUTING_RANK))
    except PermissionError:
        return False
    return True
