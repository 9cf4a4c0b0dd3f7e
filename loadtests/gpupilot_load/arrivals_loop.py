"""Open loop: every request leaves at its own time, however the server fares.

A closed loop waits for answers and so sends less when the server is slow; its percentiles leave
out exactly the requests that would have suffered (coordinated omission). Here the clock decides.
With several workers each sends every so-manieth arrival of the same schedule from a common start.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import gevent
from gevent.lock import BoundedSemaphore
from gevent.pool import Group
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from gpupilot_envs.errors import GpupilotError
from gpupilot_load import schedule
from gpupilot_load.schedule import Floats
from gpupilot_load.session import Session, refuse
from gpupilot_load.ticker import Ticker

START, DONE = "gpupilot_start", "gpupilot_done"
HEAD_START_S = 3.0
"""Between the order to start and the first arrival: workers connect and draw pictures."""

_LOG = logging.getLogger("gpupilot_load")


class OpenLoop:
    """Sends one process' share of the arrivals and reports when they are all answered."""

    def __init__(self, session: Session) -> None:
        """Wait for the test to start."""
        self._session = session
        self._environment = session.environment
        self._origin_s = 0.0
        self._sending: gevent.Greenlet | None = None
        self._in_flight: dict[object, tuple[float, float]] = {}
        self._requests = Group()
        self._workers_done = 0
        runner = self._environment.runner
        if isinstance(runner, WorkerRunner):
            runner.register_message(START, self._ordered, concurrent=True)
        if isinstance(runner, MasterRunner):
            runner.register_message(DONE, self._worker_done)

    def start(self) -> None:
        """Begin: alone at once, as the master by telling the workers when."""
        runner = self._environment.runner
        try:
            arrivals = schedule.arrivals_of(self._session.options)
            self._session.begin()
        except GpupilotError as error:
            refuse(self._environment, error)
            return
        if isinstance(runner, MasterRunner):
            self._workers_done = 0
            gevent.spawn_later(1.0, self._order, runner)
        elif not isinstance(runner, WorkerRunner):
            self._send_from(arrivals, time.time() + 0.1)

    def stop(self) -> None:
        """Stop sending; what is in flight and already late is counted as failed."""
        if self._sending is not None:
            self._sending.kill()
            self._sending = None
        self._requests.kill()
        target_s = self._session.tally.target_s
        now_s = time.monotonic()
        for due_s, lag_s in self._in_flight.values():
            age_s = now_s - due_s
            if target_s is not None and age_s > target_s:
                self._session.keep(self._session.outcome(due_s, lag_s, 0.0, age_s, "unfinished"))
        self._in_flight.clear()

    def _order(self, runner: MasterRunner) -> None:
        ids = sorted(runner.clients.keys(), key=runner.get_worker_index)
        origin_s = time.time() + HEAD_START_S
        for index, client_id in enumerate(ids):
            share = {"origin_s": origin_s, "index": index, "workers": len(ids)}
            runner.send_message(START, share, client_id)

    def _ordered(self, environment: Environment, msg: Any, **_: object) -> None:
        del environment
        while self._session.transport is None:
            gevent.sleep(0.01)
        arrivals = schedule.arrivals_of(self._session.options)
        mine = schedule.share(arrivals, msg.data["index"], msg.data["workers"])
        self._send_from(mine, msg.data["origin_s"])

    def _send_from(self, arrivals: Floats, origin_s: float) -> None:
        self._origin_s = time.monotonic() + origin_s - time.time()
        self._session.started_s = self._origin_s
        self._sending = gevent.spawn(self._send, arrivals)

    def _send(self, arrivals: Floats) -> None:
        places = BoundedSemaphore(self._session.options.in_flight)
        ticker = Ticker()
        try:
            for offset_s in arrivals.tolist():
                due_s = self._origin_s + offset_s
                if due_s <= time.monotonic():
                    gevent.sleep(0)
                ticker.sleep_until(due_s)
                lag_s = time.monotonic() - due_s
                self._requests.start(gevent.Greenlet(self._one, due_s, lag_s, places))
        finally:
            ticker.close()
        self._requests.join(timeout=self._session.options.timeout_s)
        gevent.spawn(self._finished)

    def _one(self, due_s: float, lag_s: float, places: BoundedSemaphore) -> None:
        request = object()
        self._in_flight[request] = (due_s, lag_s)
        came_s = time.monotonic()
        with places:
            waited_s = time.monotonic() - came_s
            self._session.send(due_s=due_s, lag_s=lag_s, waited_s=waited_s)
        self._in_flight.pop(request, None)

    def _finished(self) -> None:
        runner = self._environment.runner
        _LOG.info("all arrivals were sent")
        if isinstance(runner, WorkerRunner):
            runner.send_message(DONE)
        elif runner is not None:
            _end(self._environment)

    def _worker_done(self, environment: Environment, msg: Any, **_: object) -> None:
        del msg
        self._workers_done += 1
        runner = environment.runner
        if isinstance(runner, MasterRunner) and self._workers_done >= len(runner.clients):
            gevent.spawn(_end, environment)


def _end(environment: Environment) -> None:
    """End a run without a person; with the web page, leave its results on show."""
    runner = environment.runner
    if runner is None:
        return
    if environment.web_ui is None:
        runner.quit()
    else:
        runner.stop()
