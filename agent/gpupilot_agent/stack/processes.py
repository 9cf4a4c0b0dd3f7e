"""Background processes that outlive the command which started them, and end without a trace."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from gpupilot_envs.errors import StackFailed

_FAILURE = re.compile("error|exception|fail|fatal|critical", re.IGNORECASE)
LOG_LINES = 15
"""Lines of a log shown when its process does not start."""


class Process(BaseModel):
    """A process we started, told apart from a later one that got the same number.

    Attributes:
        name: What it is to the user: ``gateway``, ``prometheus``, ``triton-0``.
        pid: Also the number of its process group.
        started: Its start in clock ticks since boot (``/proc/<pid>/stat``, field 22).
        log: Where it writes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    pid: int
    started: int
    log: Path

    def is_alive(self) -> bool:
        """Say whether it still runs; one that ended but was not collected does not."""
        stat = _stat(self.pid)
        return stat is not None and stat == ("alive", self.started)

    def age_s(self) -> float:
        """Return the seconds since it was started, to a clock tick (10 ms)."""
        ticks_per_s = os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.started / ticks_per_s

    def tail(self) -> str:
        """Return the last lines of its log that speak of a failure, or the last lines."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return "(no log)"
        telling = [line for line in lines if _FAILURE.search(line)] or lines
        return "\n".join(telling[-LOG_LINES:]) or "(empty log)"


def start(
    name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Process:
    """Start a command in a session of its own, its output in ``log``.

    Raises:
        StackFailed: The program cannot be executed.
    """
    with log.open("wb") as output:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if environment is None else dict(environment),
                start_new_session=True,
            )
        except OSError as error:
            raise StackFailed(f"cannot start {name}: {error}") from error
    stat = _stat(child.pid)
    child.returncode = 0  # it outlives us on purpose: no warning when this object goes
    return Process(name=name, pid=child.pid, started=0 if stat is None else stat[1], log=log)


def wait_until(
    ready: Callable[[], bool], processes: Sequence[Process], *, within_s: float, what: str
) -> None:
    """Wait until ``ready`` says so, watching that the processes stay alive.

    Raises:
        StackFailed: One of them ended, or the time ran out; the log's last lines are said.
    """
    deadline_s = time.monotonic() + within_s
    while not ready():
        for process in processes:
            if not process.is_alive():
                raise StackFailed(f"{process.name} ended while starting", log=process.tail())
        if time.monotonic() > deadline_s:
            logs = "\n".join(f"log of {p.name}:\n{p.tail()}" for p in processes)
            raise StackFailed(f"{what} was not ready within {within_s:g} s", log=logs)
        time.sleep(0.05)


def before_all(process: Process, *, rank: int) -> None:
    """Schedule every thread of a process and its children before all ordinary ones (``SCHED_RR``).

    Done when they have started: a start computes for seconds and would hold up what is measured.

    Args:
        process: Already started.
        rank: Among those before all others; the higher goes first.

    Raises:
        StackFailed: The machine does not permit it.
    """
    for thread in _threads(process):
        with suppress(ProcessLookupError):
            try:
                os.sched_setscheduler(thread, os.SCHED_RR, os.sched_param(rank))
            except PermissionError as error:
                raise StackFailed("--realtime needs root, or CAP_SYS_NICE") from error


def _threads(process: Process) -> list[int]:
    """Return the numbers of all threads of a process' group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/task/[0-9]*/stat"):
        fields = _fields(stat)
        if fields is not None and int(fields[2]) == process.pid:
            found.append(int(stat.parent.name))
    return found


def stop(processes: Sequence[Process], *, within_s: float = 15.0) -> None:
    """End processes and their children: asked first, forced after ``within_s`` seconds.

    Children of a process that ended on its own are ended too.
    """
    left = [process for process in processes if _lingers(process)]
    for process in left:
        if process.is_alive():
            os.kill(process.pid, signal.SIGTERM)
        else:
            _signal(process, signal.SIGTERM)
    _wait_gone(left, within_s)
    for process in left:
        _signal(process, signal.SIGKILL)
    _wait_gone(left, within_s)


def _wait_gone(processes: Sequence[Process], within_s: float) -> None:
    deadline_s = time.monotonic() + within_s
    while any(map(_lingers, processes)) and time.monotonic() < deadline_s:
        time.sleep(0.05)


def _signal(process: Process, number: signal.Signals) -> None:
    """Send a signal to the whole group, where any of it is left."""
    if _lingers(process):
        os.killpg(process.pid, number)


def _lingers(process: Process) -> bool:
    """Say whether the process or any of its group is still there.

    The number of a group is not given away while one of the group lives, so a leader with another
    start is somebody else's, and with it the group. A leader that is dead while threads of it still
    end holds their files and ports until the last one has ended.
    """
    _collect(process.pid)
    leader = _stat(process.pid)
    if leader is not None and leader[1] != process.started:
        return False
    for stat in Path("/proc").glob("[0-9]*/stat"):
        fields = _fields(stat)
        if fields is None or int(fields[2]) != process.pid:
            continue
        if fields[0] != "Z" or int(fields[17]) > 1:
            return True
    return False


def _collect(pid: int) -> None:
    """Take the exit status where the process is our own child; otherwise nothing is to be done."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _stat(pid: int) -> tuple[str, int] | None:
    fields = _fields(Path("/proc") / str(pid) / "stat")
    if fields is None:
        return None
    return ("dead" if fields[0] == "Z" else "alive", int(fields[19]))


def _fields(stat: Path) -> list[str] | None:
    """Return the fields behind the name: state, parent, group … (``man 5 proc``), or ``None``."""
    try:
        return stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
