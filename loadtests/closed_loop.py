"""Closed-loop users: each waits for its answer, pauses, and asks again (10, 50, 100 users).

locust -f loadtests/closed_loop.py --headless -u 10 -r 10 -t 60s --host http://127.0.0.1:8000
"""

from __future__ import annotations

import random
import time
from typing import Any

from locust import User, events, task
from locust.env import Environment

from gpupilot_envs.errors import GpupilotError
from gpupilot_load import options
from gpupilot_load.session import Session, follow, refuse

_SESSIONS: dict[Environment, Session] = {}


def session_of(environment: Environment) -> Session:
    """Return the session of this process."""
    if environment not in _SESSIONS:
        _SESSIONS[environment] = Session(environment, open_loop=False)
    return _SESSIONS[environment]


def _parser(parser: Any) -> None:
    options.add_common(parser)
    options.add_closed(parser)


def _start(environment: Environment, **_: object) -> None:
    try:
        session_of(environment).begin()
    except GpupilotError as error:
        refuse(environment, error)


events.init_command_line_parser.add_listener(_parser)
events.test_start.add_listener(_start)
follow(session_of, events)


class InferenceUser(User):  # type: ignore[misc]
    """A user who sends one picture after another."""

    def on_start(self) -> None:
        """Give every user pauses of its own, the same in every run."""
        session = session_of(self.environment)
        runner = self.environment.runner
        number = 0 if runner is None else 1000 * runner.worker_index + runner.user_count
        self._random = random.Random(session.options.seed * 1_000_003 + number)

    def wait_time(self) -> float:
        """Return the seconds to pause."""
        mean_s = session_of(self.environment).options.think_s
        return self._random.expovariate(1.0 / mean_s) if mean_s > 0.0 else 0.0

    @task  # type: ignore[untyped-decorator]
    def classify(self) -> None:
        """Send one request; the lag is that of this process, which would delay the reading."""
        session = session_of(self.environment)
        session.send(due_s=time.monotonic(), lag_s=session.loop_lag_s)
