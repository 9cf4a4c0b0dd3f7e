"""Open-loop arrivals at a rate, along a trace or as recorded; latency from the intended time.

locust -f loadtests/open_loop.py --headless --host http://127.0.0.1:8000 --rate 50 --duration 60
"""

from __future__ import annotations

from typing import Any

import gevent
from locust import User, events, task
from locust.env import Environment

from gpupilot_load import options
from gpupilot_load.arrivals_loop import OpenLoop
from gpupilot_load.session import Session, follow

_SESSIONS: dict[Environment, Session] = {}
_LOOPS: dict[Environment, OpenLoop] = {}


def session_of(environment: Environment) -> Session:
    """Return the session of this process."""
    if environment not in _SESSIONS:
        _SESSIONS[environment] = Session(environment, open_loop=True)
    return _SESSIONS[environment]


def _parser(parser: Any) -> None:
    options.add_common(parser)
    options.add_open(parser)


def _init(environment: Environment, **_: object) -> None:
    _LOOPS[environment] = OpenLoop(session_of(environment))


def _start(environment: Environment, **_: object) -> None:
    _LOOPS[environment].start()


def _stop(environment: Environment, **_: object) -> None:
    _LOOPS[environment].stop()


events.init_command_line_parser.add_listener(_parser)
events.init.add_listener(_init)
events.test_start.add_listener(_start)
events.test_stopping.add_listener(_stop)
follow(session_of, events)


class Clock(User):  # type: ignore[misc]
    """Stands in for the arrivals: Locust wants a user, and the schedule does not."""

    fixed_count = 1

    @task  # type: ignore[untyped-decorator]
    def stand(self) -> None:
        """Do nothing."""
        gevent.sleep(3600.0)
