"""The three pages of the operator, ``/metrics``, ``/healthz`` and ``/readyz``, on one port."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from gpupilot_operator.health import Health

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

PATIENCE_S = 10
"""A client that says nothing for as long is let go."""


def pages(registry: CollectorRegistry, health: Health) -> WSGIApplication:
    """Return what answers all three."""
    metrics: WSGIApplication = make_wsgi_app(registry)
    probes = {"/healthz": health.alive, "/readyz": health.ready}

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return metrics(environ, start)
        if path not in probes:
            return _text(start, "404 Not Found", "there are /metrics, /healthz and /readyz")
        found = probes[path]()
        status = "200 OK" if found.well else "503 Service Unavailable"
        return _text(start, status, found.text)

    return answer


@contextmanager
def served(app: WSGIApplication, port: int, host: str = "") -> Iterator[int]:
    """Serve pages in a thread while the context lasts; yield the port, chosen where 0 is asked.

    Raises:
        OSError: The port is taken.
    """
    server = make_server(host, port, app, server_class=_Server, handler_class=_Quiet)
    thread = threading.Thread(target=server.serve_forever, name="pages", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingMixIn, WSGIServer):
    """A scrape that takes long does not keep a probe waiting."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    """Probes come every few seconds: a line for each would be most of the log."""

    timeout = PATIENCE_S

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _text(start: StartResponse, status: str, text: str) -> list[bytes]:
    body = f"{text}\n".encode()
    start(
        status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    )
    return [body]
