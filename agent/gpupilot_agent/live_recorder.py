"""Records a real service from Prometheus: from the past, from now on, or both; never half a file.

Prometheus keeps the samples, so the file need not be written often to be safe: it is always whole
(written beside itself, then renamed), and whatever stopped the recorder, the next start asks for
what is missing since the last row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.errors import InputInvalid, MetricsUnavailable, TraceInvalid
from gpupilot_envs.live import LiveSignals
from gpupilot_envs.live_reading import DETAIL_COLUMNS, LiveReading
from gpupilot_envs.triton_server import BatchWatch
from gpupilot_envs.workload.recording import Recording, append_recording, read_recording

ROWS_PER_WRITE = 1000
"""Rows of the past that are fetched and written at once."""

RETRY_MAX_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingPlan:
    """What is to be recorded.

    Attributes:
        service: Name of the service, as its exporters call it.
        out: The file.
        every_s: Seconds between two rows, and the window of each; whole.
        since_s: Unix time of the past to begin at, ``None`` to begin now.
        follow: Whether to go on until told to stop.
        delay_s: Time Prometheus is given to hold all samples of a window.
        flush_s: Longest time between two writes while following.
        running: What the service runs with where Kubernetes does not say.
        target_s: Latency target of the attainment.
        queries: Query that answers each column.
    """

    service: str
    out: Path
    every_s: int
    since_s: float | None
    follow: bool
    delay_s: float
    flush_s: float
    running: Allocation
    target_s: float
    queries: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Progress:
    """What has happened so far.

    Attributes:
        rows: Rows written by this run.
        answered: Rows in which the service had any series.
        resumed: Whether the file was there before.
        sources: Where the latency came from.
        lacks_target: Whether the gateway has no bucket at the target.
        bounds_s: The gateway's bucket bounds, newest seen.
    """

    rows: int = 0
    answered: int = 0
    resumed: bool = False
    sources: set[str] = field(default_factory=set)
    lacks_target: bool = False
    bounds_s: tuple[float, ...] = ()


class LiveRecorder:
    """Fetches what is due and appends it."""

    def __init__(
        self,
        live: LiveSignals,
        plan: RecordingPlan,
        *,
        watch: BatchWatch | None = None,
        tell: Callable[[str], None] = lambda _: None,
        now_s: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Look at what is there already; nothing is written yet.

        Args:
            live: Reads the signals.
            plan: What is to be recorded.
            watch: Counts executions by batch size on the servers themselves.
            tell: Told when Prometheus is away and when it is back.
            now_s: The clock.
            sleep: Waits.

        Raises:
            TraceInvalid: The file is of another service or grid.
        """
        self._live, self._plan, self._watch = live, plan, watch
        self._tell, self._now_s, self._sleep = tell, now_s, sleep
        self.progress = Progress()
        self._next_s = self._first_time()

    def run(self) -> Progress:
        """Record the past, and go on when asked to; returns when done.

        Raises:
            InputInvalid: No series of the service is to be found; names those there are.
            MetricsUnavailable: Prometheus does not answer, and nobody asked to follow.
            OutputRefused: The file cannot be written; it is as whole as before.
        """
        for _ in self._past():
            pass
        if not self.progress.answered and not self.progress.resumed:
            self._must_exist()
        while self._plan.follow:
            due_s = self._next_s + self._plan.delay_s
            rows_due = max(round(self._plan.flush_s / self._plan.every_s), 1)
            wake_s = due_s + (rows_due - 1) * self._plan.every_s
            self._sleep(max(wake_s - self._now_s(), 0.0))
            self._follow_once()
        return self.progress

    def _first_time(self) -> int:
        every_s, out = self._plan.every_s, self._plan.out
        if not out.exists():
            since_s = self._now_s() if self._plan.since_s is None else self._plan.since_s
            return (int(since_s) // every_s + 1) * every_s
        known = read_recording(out)
        if known.service != self._plan.service:
            raise TraceInvalid(f"{out}: service", self._plan.service, f"{known.service!r}")
        if not known.readings:
            return int(self._now_s()) // every_s * every_s
        last = known.readings[-1]
        if last.window_s != every_s or last.at_s % every_s:
            raise TraceInvalid("--every", every_s, f"{last.window_s:g}, as {out} is recorded")
        self.progress.resumed = True
        return int(last.at_s) + every_s

    def _past(self) -> Iterator[None]:
        """Record everything that is due, a part at a time."""
        every_s = self._plan.every_s
        while True:
            end_s = int(self._now_s() - self._plan.delay_s) // every_s * every_s
            if self._next_s > end_s:
                return
            last_s = min(end_s, self._next_s + (ROWS_PER_WRITE - 1) * every_s)
            found = self._live.span(self._plan.service, every_s, self._next_s, last_s)
            self._next_s = last_s + every_s
            self._keep(found)
            yield

    def _follow_once(self) -> None:
        wait_s = 1.0
        while True:
            try:
                for _ in self._past():
                    pass
            except MetricsUnavailable as error:
                if not error.passing:
                    raise
                if wait_s == 1.0:
                    self._tell(f"{error}; trying again, nothing is lost that Prometheus keeps")
                self._sleep(wait_s)
                wait_s = min(2.0 * wait_s, RETRY_MAX_S)
                continue
            if wait_s > 1.0:
                self._tell("Prometheus answers again")
            return

    def _keep(self, found: Sequence[LiveReading]) -> None:
        """Append readings; those before the first answer of a new file are left out."""
        kept = list(found)
        if not self.progress.answered and not self.progress.resumed:
            while kept and kept[0].is_empty:
                kept.pop(0)
        if not kept:
            return
        self._note(kept)
        append_recording(self._plan.out, self._recording(kept))
        self.progress.rows += len(kept)

    def _note(self, kept: Sequence[LiveReading]) -> None:
        self.progress.answered += sum(not reading.is_empty for reading in kept)
        for reading in kept:
            if "rate_rps" in reading.sources:
                self.progress.sources.add(reading.sources["rate_rps"])
            if reading.bounds_s:
                self.progress.bounds_s = reading.bounds_s
                if reading.signals.rate_rps and reading.signals.attainment_ratio is None:
                    self.progress.lacks_target = True

    def _recording(self, kept: Sequence[LiveReading]) -> Recording:
        sources: dict[str, set[str]] = {}
        for reading in kept:
            for column, source in reading.sources.items():
                sources.setdefault(column, set()).add(source)
        return Recording(
            service=self._plan.service,
            readings=tuple(reading.signals for reading in kept),
            allocations=tuple(self._allocation(reading) for reading in kept),
            queries=self._plan.queries,
            sources={column: ", ".join(sorted(names)) for column, names in sources.items()},
            details={
                name: tuple(reading.details.get(name) for reading in kept)
                for name in DETAIL_COLUMNS
            },
            batch_times=self._watch.grown() if self._watch is not None else {},
            target_s=self._plan.target_s,
        )

    def _allocation(self, reading: LiveReading) -> Allocation:
        said = dict(reading.running)
        if "replicas" not in said and reading.signals.replicas_ready is not None:
            said["replicas"] = reading.signals.replicas_ready
        return replace(self._plan.running, **said)

    def _must_exist(self) -> None:
        window_s = max(self._plan.every_s, 300)
        known = self._live.services(window_s, self._now_s())
        if self._plan.service in known:
            return
        said = ", ".join(known[:20]) or "none at all"
        allowed = f"a service with series in Prometheus; there are: {said}"
        raise InputInvalid("--service", self._plan.service, allowed)
