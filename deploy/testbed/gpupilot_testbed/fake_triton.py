"""The Triton of every fake pod: one server on an address of loopback that they all share.

It takes whatever model it is told to load, as an operator does that sets instances and batching.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from gpupilot_operator.triton_control import PORT

TRIES = 20


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Give the configuration of a model: one that says nothing."""
        self._answer()

    def do_POST(self) -> None:
        """Load a model."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer()

    def _answer(self) -> None:
        body = b"{}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True


@contextmanager
def served() -> Iterator[str]:
    """Answer on some address of 127.0.0.0/8, which is yielded, at Triton's port.

    Raises:
        OSError: No address is to be had.
    """
    with _bound() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield str(server.server_address[0])
        server.shutdown()


def _bound() -> _Server:
    for _ in range(TRIES - 1):
        try:
            return _Server((_address(), PORT), _Page)
        except OSError:  # another cluster's
            continue
    return _Server((_address(), PORT), _Page)


def _address() -> str:
    return f"127.{random.randint(16, 250)}.{random.randint(0, 255)}.{random.randint(1, 254)}"
