"""One Locust process during one test: sends, measures, writes down, and judges at the end."""

from __future__ import annotations

import json
import logging
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gevent
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from gpupilot_envs.atomic import write_text
from gpupilot_envs.errors import GpupilotError, OutputRefused
from gpupilot_load import options
from gpupilot_load.request_log import RequestLog
from gpupilot_load.tally import Outcome, Tally, summary, verdict
from gpupilot_load.ticker import Ticker
from gpupilot_load.transport import Transport, connect

BAD_INPUT = 2
FLUSH_S = 1.0
BEAT_S = 0.02
USERS_CONNECTIONS = 1024
"""Most connections of a closed loop: more users than this wait for one."""
REPORT_KEY = "gpupilot_tally"

_LOG = logging.getLogger("gpupilot_load")


class RequestFailed(Exception):
    """What Locust shows as the failure of a request: its reason alone."""


class Session:
    """Everything one process keeps between the start of a test and its end."""

    def __init__(self, environment: Environment, *, open_loop: bool) -> None:
        """Remember the environment; nothing is connected before :meth:`begin`."""
        self.environment = environment
        self.open_loop = open_loop
        self.tally = Tally()
        self.unsent = Tally()
        self.loop_lag_s = 0.0
        self.started_s = time.monotonic()
        self.transport: Transport | None = None
        self.log: RequestLog | None = None
        self._prepared: Transport | None = None
        self._background: list[gevent.Greenlet] = []

    @property
    def options(self) -> Any:
        """The parsed command line."""
        return self.environment.parsed_options

    @property
    def is_worker(self) -> bool:
        """Whether another process judges the run."""
        return isinstance(self.environment.runner, WorkerRunner)

    @property
    def sends(self) -> bool:
        """Whether this process sends requests; a master only adds up."""
        return not isinstance(self.environment.runner, MasterRunner)

    def prepare(self) -> None:
        """Connect before the run begins: on a busy machine it takes seconds, and `-t` counts them.

        Only where the run begins by itself. What fails here fails again, and is said, in
        :meth:`begin`.
        """
        if self.options.headless and self.sends and not self.is_worker:
            with suppress(GpupilotError):
                options.objective(self.options)
                self._prepared = self._connected()

    def begin(self) -> None:
        """Start a test: forget the last one, connect, open the log.

        Raises:
            GpupilotError: An option is wrong, the server or the model is not there, or a file
                cannot be written.
        """
        self.end()
        target_s = options.objective(self.options).target_s
        self.tally, self.unsent = Tally(target_s=target_s), Tally(target_s=target_s)
        self.started_s = time.monotonic()
        if not self.sends:
            return
        prepared, self._prepared = self._prepared, None
        self.transport = prepared or self._connected()
        if self.options.requests:
            self.log = RequestLog(self._log_path(Path(self.options.requests)))
        self._background = [gevent.spawn(self._beat), gevent.spawn(self._flush)]
        self.started_s = time.monotonic()

    def send(self, *, due_s: float, lag_s: float, waited_s: float = 0.0) -> None:
        """Send one request and count how it ended.

        Args:
            due_s: When it was to be sent, on ``time.monotonic``.
            lag_s: How late the generator turned to it.
            waited_s: How long it waited for a place in flight.
        """
        if self.transport is None:
            return
        reply = self.transport.infer()
        latency_s = time.monotonic() - due_s
        outcome = self.outcome(due_s, lag_s, waited_s, latency_s, reply.reason)
        self.keep(outcome)
        self.environment.events.request.fire(
            request_type=self.transport.protocol,
            name=f"{self.options.model} (warm-up)" if outcome.warm_up else self.options.model,
            response_time=1000.0 * latency_s,
            response_length=reply.size_bytes,
            exception=None if reply.ok else RequestFailed(reply.reason),
        )

    def outcome(
        self, due_s: float, lag_s: float, waited_s: float, latency_s: float, reason: str
    ) -> Outcome:
        """Return the record of one request."""
        return Outcome(
            intended_s=time.time() - (time.monotonic() - due_s),
            lag_s=lag_s,
            waited_s=waited_s,
            latency_s=latency_s,
            ok=reason == "ok",
            reason=reason,
            warm_up=due_s - self.started_s < self.options.warm_up,
        )

    def keep(self, outcome: Outcome) -> None:
        """Count one request and write it down."""
        self.tally.add(outcome)
        self.unsent.add(outcome)
        self._write_down(lambda log: log.add(outcome))

    def report(self) -> dict[str, Any]:
        """Return what happened since the last report, as a worker sends it to the master."""
        packed = self.unsent.packed()
        self.unsent = Tally(target_s=self.unsent.target_s)
        return packed

    def end(self) -> None:
        """Stop sending and finish the file of requests."""
        gevent.killall(self._background)
        self._background = []
        if self.transport is not None:
            self.transport.close()
            self.transport = None
        if self.log is not None:
            log, self.log = self.log, None
            log.close()

    def judge(self) -> None:
        """Print the run in numbers, write the summary and set the exit code."""
        if self.environment.process_exit_code == BAD_INPUT:
            return
        objective = options.objective(self.options)
        found = summary(self.tally, objective, open_loop=self.open_loop)
        code, sentence = verdict(found, objective)
        found |= {"verdict": sentence, "run": self._run()}
        print(json.dumps(found, indent=2))  # noqa: T201 - the result of the run
        _LOG.info(sentence)
        if self.options.summary:
            write_text(Path(self.options.summary), json.dumps(found, indent=2) + "\n")
        if code is not None:
            self.environment.process_exit_code = code

    def _connected(self) -> Transport:
        """Return a transport as the options ask for it."""
        return connect(
            self.options.host or self.environment.host or "",
            self.options.model,
            timeout_s=self.options.timeout_s,
            connections=max(self.options.in_flight, 1) if self.open_loop else USERS_CONNECTIONS,
            seed=self.options.seed,
            images=Path(self.options.images) if self.options.images else None,
        )

    def _run(self) -> dict[str, Any]:
        """Return how and where the run was made, so that another can be made like it."""
        chosen = {
            name: value
            for name, value in vars(self.options).items()
            if name in _KEPT and value not in ("", None)
        }
        return {
            "options": chosen,
            "locust": version("locust"),
            "python": platform.python_version(),
            "machine": platform.platform(),
            "cores": os.cpu_count(),
            "load_average": list(os.getloadavg()),
        }

    def _beat(self) -> None:
        """Measure how late this process' event loop is: a busy one delays what it measures."""
        ticker, due_s = Ticker(), time.monotonic()
        try:
            while True:
                due_s = max(due_s + BEAT_S, time.monotonic())
                ticker.sleep_until(due_s)
                self.loop_lag_s = time.monotonic() - due_s
        finally:
            ticker.close()

    def _flush(self) -> None:
        while True:
            gevent.sleep(FLUSH_S)
            self._write_down(RequestLog.flush)

    def _write_down(self, act: Callable[[RequestLog], None]) -> None:
        """Write to the log; a run whose requests cannot be kept ends."""
        if self.log is None:
            return
        try:
            act(self.log)
        except OutputRefused as error:
            self.log = None
            refuse(self.environment, error)

    def _log_path(self, asked: Path) -> Path:
        runner = self.environment.runner
        if not isinstance(runner, WorkerRunner):
            return asked
        return asked.with_name(f"{asked.stem}-{runner.worker_index}{asked.suffix}")


_KEPT = frozenset(
    {
        "host",
        "model",
        "images",
        "slo_ms",
        "slo_percent",
        "warm_up",
        "timeout_s",
        "lag_limit_ms",
        "seed",
        "think_s",
        "rate",
        "trace",
        "arrivals",
        "duration",
        "mean_rps",
        "speed",
        "trace_start",
        "cv",
        "in_flight",
        "num_users",
        "spawn_rate",
        "run_time",
        "processes",
        "expect_workers",
    }
)


def refuse(environment: Environment, error: GpupilotError) -> None:
    """End the run because of what the user gave or what the machine refuses."""
    _LOG.error("%s", error)
    environment.process_exit_code = BAD_INPUT
    if environment.runner is not None:
        gevent.spawn(environment.runner.quit)


def follow(session_of: Callable[[Environment], Session], events: Any) -> None:
    """Let Locust's events drive the sessions: reports from workers, the end, the verdict.

    Args:
        session_of: Returns the session of an environment.
        events: ``locust.events``.
    """

    def _report(client_id: str, data: dict[str, Any], **_: object) -> None:
        del client_id
        data[REPORT_KEY] = _worker_session().report()

    def _reported(client_id: str, data: dict[str, Any], **_: object) -> None:
        del client_id
        if REPORT_KEY in data:
            _worker_session().tally.merge(Tally.unpacked(data[REPORT_KEY]))

    known: list[Session] = []

    def _worker_session() -> Session:
        return known[0]

    def _init(environment: Environment, **_: object) -> None:
        known.append(session_of(environment))
        known[0].prepare()

    def _quitting(environment: Environment, **_: object) -> None:
        session = session_of(environment)
        try:
            session.end()
            if not session.is_worker:
                session.judge()
        except GpupilotError as error:
            _LOG.error("%s", error)
            environment.process_exit_code = BAD_INPUT

    events.report_to_master.add_listener(_report)
    events.worker_report.add_listener(_reported)
    events.init.add_listener(_init)
    events.quitting.add_listener(_quitting)
