"""A server that speaks KServe v2 and can be told to stall, and Locust as a user starts it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Script:
    """How the server behaves and what it was sent.

    Attributes:
        stall: From and until when no answer leaves, seconds after the first request.
        reject_every: Answer every so-manieth request with 503; 0 for none.
        bodies: Length of the JSON part and of the whole of every request.
    """

    stall: tuple[float, float] = (0.0, 0.0)
    reject_every: int = 0
    bodies: list[tuple[int, int]] = field(default_factory=list)
    first_s: float | None = None


class Handler(BaseHTTPRequestHandler):
    """Answers a model's metadata and its inference requests."""

    protocol_version = "HTTP/1.1"
    script: Script

    def do_GET(self) -> None:
        if self.path != "/v2/models/eye":
            self._answer(404, b'{"error":"unknown model"}')
            return
        tensor = {"name": "pixels", "datatype": "FP32", "shape": [-1, 3, 8, 8]}
        document = {"name": "eye", "inputs": [tensor], "outputs": [{"name": "classes"}]}
        self._answer(200, json.dumps(document).encode())

    def do_POST(self) -> None:
        script = self.script
        body = self.rfile.read(int(self.headers["Content-Length"]))
        now_s = time.monotonic()
        script.first_s = script.first_s or now_s
        script.bodies.append((int(self.headers["Inference-Header-Content-Length"]), len(body)))
        begin_s, end_s = (script.first_s + edge for edge in script.stall)
        if begin_s <= now_s < end_s:
            time.sleep(end_s - now_s)
        rejected = script.reject_every and len(script.bodies) % script.reject_every == 0
        self._answer(503 if rejected else 200, b"\0" * 40)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[tuple[str, Script]]:
    """Yield the server's URL and its script."""
    script = Script()
    handler = type("Scripted", (Handler,), {"script": script})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        listening.daemon_threads = True
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}", script
        listening.shutdown()
        thread.join()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run of Locust ended.

    Attributes:
        code: Exit code.
        said: Everything it wrote.
        summary: The run in numbers; empty when it did not get that far.
    """

    code: int
    said: str
    summary: dict[str, Any]


Locust = Callable[..., Ended]


@pytest.fixture
def locust(tmp_path: Path) -> Locust:
    """Return a function that runs one of our Locust files without a web page."""

    def call(file: str, *words: object) -> Ended:
        found = tmp_path / "summary.json"
        command = [Path(sys.executable).with_name("locust"), "-f", ROOT / "loadtests" / file]
        options = ["--headless", "--model", "eye", "--summary", found, *words]
        done = subprocess.run(
            [str(word) for word in (*command, *options)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=tmp_path,
        )
        document = json.loads(found.read_text(encoding="utf-8")) if found.exists() else {}
        return Ended(code=done.returncode, said=done.stdout + done.stderr, summary=document)

    return call
