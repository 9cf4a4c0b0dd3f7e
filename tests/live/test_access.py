"""Getting at a Prometheus: proxies with credentials and TLS, and servers that fail for a while."""

from __future__ import annotations

import base64
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpupilot_envs.errors import InputInvalid, MetricsUnavailable
from gpupilot_envs.prometheus import POINTS_MAX, Access, Prometheus, chunks


class Listener(ThreadingHTTPServer):
    """Says nothing of clients that gave up: it would stand among another test's errors."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell of every other error."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


@dataclass(slots=True)
class Gate:
    """A reverse proxy before the real Prometheus, and what it insists on.

    Attributes:
        upstream: The real one.
        required: Headers without which it answers 401.
        failures: Statuses of the next answers, before it lets anything through.
        body: Answer this instead of asking upstream.
        delay_s: Time it takes.
        seen: Headers of each request.
    """

    upstream: str
    required: dict[str, str] = field(default_factory=dict)
    failures: list[int] = field(default_factory=list)
    body: bytes | None = None
    delay_s: float = 0.0
    seen: list[dict[str, str]] = field(default_factory=list)
    url: str = ""


class Proxy(BaseHTTPRequestHandler):
    """Passes on what it is asked."""

    gate: Gate

    def do_GET(self) -> None:
        self._pass_on(None)

    def do_POST(self) -> None:
        self._pass_on(self.rfile.read(int(self.headers["Content-Length"])))

    def _pass_on(self, form: bytes | None) -> None:
        gate = self.gate
        gate.seen.append(dict(self.headers))
        time.sleep(gate.delay_s)
        if any(self.headers.get(name) != value for name, value in gate.required.items()):
            self._answer(401, b"who are you?")
        elif gate.failures:
            self._answer(gate.failures.pop(0), b'{"status":"error","error":"not \\"now\\""}')
        elif gate.body is not None:
            self._answer(200, gate.body)
        else:
            with urllib.request.urlopen(f"{gate.upstream}{self.path}", form, timeout=10) as answer:
                self._answer(200, answer.read())

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


Gates = Callable[..., Gate]


@pytest.fixture
def gate(prometheus: Any) -> Iterator[Gates]:
    """Return a function that opens a proxy, with TLS when given a certificate and its key."""
    opened: list[ThreadingHTTPServer] = []

    def opening(tls: tuple[Path, Path] | None = None, **words: Any) -> Gate:
        made = Gate(upstream=prometheus.url, **words)
        server = Listener(("127.0.0.1", 0), type("P", (Proxy,), {"gate": made}))
        server.daemon_threads = True
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        opened.append(server)
        scheme = "http" if tls is None else "https"
        made.url = f"{scheme}://localhost:{server.server_address[1]}"
        return made

    yield opening
    for server in opened:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*made, *names, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def up(access: Access, **words: Any) -> int:
    """Return how many targets are up, as the Prometheus behind ``access`` sees them."""
    connection = Prometheus(access, sleep=lambda _: None, **words)
    try:
        return len(list(connection.numbers(["up"], time.time())))
    finally:
        connection.close()


def written(folder: Path, text: str) -> Path:
    path = folder / "secret"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_bearer_token_is_read_anew(gate: Gates, tmp_path: Path) -> None:
    proxy = gate(required={"Authorization": "Bearer first"})
    token = written(tmp_path, "first\n")
    connection = Prometheus(Access(url=proxy.url, token_file=token))
    list(connection.numbers(["up"], time.time()))
    proxy.required["Authorization"] = "Bearer second"
    token.write_text("second\n", encoding="utf-8")
    list(connection.numbers(["up"], time.time()))
    connection.close()


def test_basic_authentication(gate: Gates, tmp_path: Path) -> None:
    login = base64.b64encode(b"ann:pa ss").decode()
    proxy = gate(required={"Authorization": f"Basic {login}"})
    up(Access(url=proxy.url, user="ann", password_file=written(tmp_path, "pa ss\n")))
    with pytest.raises(MetricsUnavailable, match="answers 401") as caught:
        up(Access(url=proxy.url))
    assert not caught.value.passing
    assert len(proxy.seen) == 2


def test_a_tenant_is_named(gate: Gates) -> None:
    proxy = gate(required={"X-Scope-OrgID": "team-a"})
    up(Access(url=proxy.url, tenant="team-a"))


def test_tls_is_checked_against_the_authority_given(
    gate: Gates, certificate: tuple[Path, Path]
) -> None:
    proxy = gate(tls=certificate)
    up(Access(url=proxy.url, ca_file=certificate[0]))
    with pytest.raises(MetricsUnavailable, match="TLS failed"):
        up(Access(url=proxy.url))


def test_what_passes_is_tried_again(gate: Gates) -> None:
    proxy = gate(failures=[503, 502, 429])
    waited: list[float] = []
    connection = Prometheus(Access(url=proxy.url), sleep=waited.append)
    list(connection.numbers(["up"], time.time()))
    connection.close()
    assert waited == [0.25, 0.5, 1.0]


def test_what_does_not_pass_is_not(gate: Gates) -> None:
    proxy = gate(failures=[422])
    with pytest.raises(MetricsUnavailable, match='answers 422: not "now"'):
        up(Access(url=proxy.url))
    assert len(proxy.seen) == 1


def test_it_gives_up_in_the_end(gate: Gates) -> None:
    proxy = gate(failures=[503] * 9)
    with pytest.raises(MetricsUnavailable, match="answers 503") as caught:
        up(Access(url=proxy.url))
    assert caught.value.passing
    assert len(proxy.seen) == 4


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b"{}", b'{"data":{"result":[1,"2"]}}'])
def test_something_else_than_prometheus_is_said_so(gate: Gates, body: bytes) -> None:
    with pytest.raises(MetricsUnavailable, match="no answer of a Prometheus"):
        up(Access(url=gate(body=body).url))


def test_a_slow_server_is_not_waited_for(gate: Gates) -> None:
    proxy = gate(delay_s=1.0)
    began_s = time.monotonic()
    with pytest.raises(MetricsUnavailable, match=r"did not answer within 0\.2 s"):
        up(Access(url=proxy.url, timeout_s=0.2, attempts=2))
    assert time.monotonic() - began_s < 1.0


def test_nobody_there() -> None:
    with pytest.raises(MetricsUnavailable, match="cannot be reached"):
        up(Access(url="http://127.0.0.1:9"))


def test_a_password_in_the_url_is_not_shown() -> None:
    assert Access(url="http://ann:secret@host:9090/p/").shown == "http://host:9090/p"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"url": "localhost:9090"}, "--prometheus: 'localhost:9090'"),
        ({"url": "http://h", "user": "ann"}, "--user"),
        ({"url": "http://h", "token_file": Path("/no/such")}, "a file that can be read"),
        ({"url": "http://h", "key_file": Path(__file__)}, "also --cert-file"),
        (
            {
                "url": "http://h",
                "user": "ann",
                "password_file": Path(__file__),
                "token_file": Path(__file__),
            },
            "not together with --user",
        ),
    ],
)
def test_access_that_cannot_work_is_refused_at_once(words: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputInvalid, match=sentence):
        Access(**words)


@given(start_s=st.integers(0, 100), points=st.integers(1, 45_000), step_s=st.integers(1, 60))
def test_the_parts_of_a_grid_are_the_grid(start_s: int, points: int, step_s: int) -> None:
    end_s = start_s + (points - 1) * step_s
    parts = [range(first, last + 1, step_s) for first, last in chunks(start_s, end_s, step_s)]
    assert all(len(part) <= POINTS_MAX for part in parts)
    assert sum(len(part) for part in parts) == points
    assert (parts[0][0], parts[-1][-1]) == (start_s, end_s)
    assert all(b[0] - a[-1] == step_s for a, b in pairwise(parts))
