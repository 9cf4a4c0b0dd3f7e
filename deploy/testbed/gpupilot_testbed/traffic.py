"""Services nobody runs: what their gateways and their Tritons would say to Prometheus.

For clusters whose nodes are fake. The traffic is what a test says it is, told as the counters that
it would have made; a real Prometheus scrapes them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from gpupilot_agent.stack.envoy import BOUNDS_MS, HISTOGRAM, SCOPE

FAMILY = f"envoy_{SCOPE}_{HISTOGRAM}"
_BOUNDS_US = tuple(round(1000.0 * bound) - 1 for bound in BOUNDS_MS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How one service fares.

    Attributes:
        rate_rps: Requests a second.
        latency_s: What each takes.
        failing: Share of requests that fail, 0 to 1.
        silent: There are no series.
        broken: Every number is NaN.
        twice: Every series is there a second time, as where two jobs scrape one pod.
        late_s: How old samples say they are: told by a scraper whose clock is behind. Below 0, in
            the future.
    """

    rate_rps: float
    latency_s: float = 0.02
    failing: float = 0.0
    silent: bool = False
    broken: bool = False
    twice: bool = False
    late_s: float = 0.0


@dataclass(slots=True, kw_only=True)
class _Counted:
    load: Load
    since_s: float
    took_us: dict[str, dict[float, float]] = field(
        default_factory=lambda: {"ok": {0.0: 1.0}, "failed": {0.0: 1.0}}
    )

    def count(self, now_s: float) -> None:
        """Add what came since the last time."""
        came = self.load.rate_rps * (now_s - self.since_s)
        self.since_s = now_s
        for outcome, share in (("ok", 1.0 - self.load.failing), ("failed", self.load.failing)):
            took = self.took_us[outcome]
            each_us = 1e6 * self.load.latency_s
            took[each_us] = took.get(each_us, 0.0) + share * came


class Traffic:
    """The series of all services, by namespace and name."""

    def __init__(self) -> None:
        """Begin with no service."""
        self._lock = threading.Lock()
        self._services: dict[tuple[str, str], _Counted] = {}

    def put(self, namespace: str, name: str, load: Load) -> None:
        """Let a service have some traffic from now on."""
        with self._lock:
            now_s = time.time()
            counted = self._services.setdefault(
                (namespace, name), _Counted(load=load, since_s=now_s)
            )
            counted.count(now_s)
            counted.load = load

    def change(self, namespace: str, name: str, **changes: Any) -> None:
        """Change some of how a service fares."""
        self.put(namespace, name, replace(self._services[namespace, name].load, **changes))

    def forget(self, namespace: str) -> None:
        """Let the services of a namespace have no series any more: their pods are gone."""
        with self._lock:
            self._services = {
                key: each for key, each in self._services.items() if key[0] != namespace
            }

    def text(self) -> str:
        """Return what a scrape sees now."""
        lines = [f"# TYPE {FAMILY} histogram"]
        with self._lock:
            now_s = time.time()
            for (namespace, name), counted in self._services.items():
                counted.count(now_s)
                labels = f'namespace="{namespace}",service="{name}"'
                for job in ("pods", "again") if counted.load.twice else ("pods",):
                    lines += _lines(f'{labels},scraped_by="{job}"', counted, now_s)
        return "\n".join([*lines, ""])

    @contextmanager
    def served(self) -> Iterator[int]:
        """Answer scrapes on a free port of loopback, which is yielded."""
        traffic = self

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = traffic.text().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield server.server_address[1]
            finally:
                server.shutdown()
                thread.join()


def _lines(labels: str, counted: _Counted, now_s: float) -> Iterator[str]:
    load = counted.load
    if load.silent:
        return
    at = f" {round(1000.0 * (now_s - load.late_s))}" if load.late_s else ""
    for outcome, took in counted.took_us.items():
        for name, bound, value in _values(took):
            own = f'{labels},outcome="{outcome}"{bound}'
            yield f"{FAMILY}_{name}{{{own}}} {'NaN' if load.broken else value!r}{at}"


def _values(took: Mapping[float, float]) -> Iterator[tuple[str, str, float]]:
    """Yield what a histogram says of requests by what they took, in microseconds."""
    for bound in _BOUNDS_US:
        below = sum(count for took_us, count in took.items() if took_us <= bound)
        yield "bucket", f',le="{bound}"', below
    every = sum(took.values())
    yield "bucket", ',le="+Inf"', every
    yield "count", "", every
    yield "sum", "", sum(took_us * count for took_us, count in took.items())
