"""The public weights come from a hub: resumed, checked, refused when they are not the model."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gpupilot_agent.mobilenet.architecture import build
from gpupilot_agent.mobilenet.weights import PINNED_SHA256

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What a local hub serves, how it misbehaves, and what it was asked."""

    body: bytes
    stated: str
    cut_after: int = 0
    ranges: list[str] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def hub() -> Iterator[Hub]:
    """Serve a file as the hub does: its checksum as the entity tag, any part of it on demand."""
    body = build(5).SerializeToString(deterministic=True)
    served = Hub(body=body, stated=hashlib.sha256(body).hexdigest())

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _head(self) -> bytes:
            asked = self.headers.get("Range", "")
            start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
            part = served.body[start:]
            self.send_response(206 if asked else 200)
            if asked:
                last = len(served.body) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{last + 1}")
            self.send_header("Content-Length", str(len(part)))
            self.send_header("ETag", f'"{served.stated}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()
            return part

        def do_HEAD(self) -> None:
            self._head()

        def do_GET(self) -> None:
            served.ranges.append(self.headers.get("Range", ""))
            part = self._head()
            if served.cut_after:
                part, served.cut_after = part[: served.cut_after], 0
                self.close_connection = True
            self.wfile.write(part)

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}"
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


def fetch(url: str, folder: Path, *, revision: str = COMMIT) -> subprocess.CompletedProcess[str]:
    """Run ``gpupilot model`` against a hub, the store in ``folder``."""
    environment = {**os.environ, "HF_ENDPOINT": url, "GPUPILOT_CACHE": str(folder / "cache")}
    program = "from gpupilot_agent.cli.main import run; run()"
    words = ["model", "--weights", "public", "--out", str(folder / "out"), "--json"]
    words += ["--revision", revision]
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_broken_download_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after = 5_000_000
    broken = fetch(hub.url, tmp_path)
    assert broken.returncode == 2
    assert "run it again to go on" in broken.stderr
    assert not (tmp_path / "out").exists()
    done = fetch(hub.url, tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["kind"] == "public"
    assert said["sha256"] == hub.stated
    assert COMMIT in said["source"]
    assert hub.ranges == ["", "bytes=5000000-"]
    for device in ("cpu", "gpu"):
        served = tmp_path / "out" / device / "mobilenetv4" / "1" / "model.onnx"
        assert served.read_bytes() == hub.body


def test_what_is_there_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    assert fetch(hub.url, tmp_path).returncode == 0
    asked = len(hub.ranges)
    assert fetch(hub.url, tmp_path).returncode == 0
    assert len(hub.ranges) == asked


def test_a_damaged_file_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.stated = "0" * 64
    done = fetch(hub.url, tmp_path)
    assert done.returncode == 2
    assert "damaged" in done.stderr
    assert not (tmp_path / "out").exists()


def test_another_file_under_the_same_name_is_refused(hub: Hub, tmp_path: Path) -> None:
    assert fetch(hub.url, tmp_path).returncode == 0
    (tmp_path / "cache" / "models" / "mobilenetv4-public.onnx").unlink()
    hub.body = build(6).SerializeToString(deterministic=True)
    hub.stated = hashlib.sha256(hub.body).hexdigest()
    done = fetch(hub.url, tmp_path)
    assert done.returncode == 2
    assert "another file" in done.stderr


def test_the_main_branch_is_pinned(hub: Hub, tmp_path: Path) -> None:
    """Refused before a byte is fetched when the hub states another file, and after when it lies."""
    stated = fetch(hub.url, tmp_path, revision="main")
    assert stated.returncode == 2
    assert "--revision COMMIT takes the one you name" in stated.stderr
    assert hub.ranges == []
    hub.stated = PINNED_SHA256
    lied = fetch(hub.url, tmp_path, revision="main")
    assert lied.returncode == 2
    assert f"damaged ({hashlib.sha256(hub.body).hexdigest()}, not {PINNED_SHA256})" in lied.stderr
    assert not (tmp_path / "out").exists()


def test_a_page_instead_of_a_model_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.body = b"<html>please sign in</html>" * 1000
    hub.stated = hashlib.sha256(hub.body).hexdigest()
    done = fetch(hub.url, tmp_path)
    assert done.returncode == 2
    assert "no ONNX file" in done.stderr


def test_offline_says_what_works_without(tmp_path: Path) -> None:
    done = fetch("http://127.0.0.1:9", tmp_path)
    assert done.returncode == 2
    assert "cannot reach http://127.0.0.1:9" in done.stderr
    assert "--weights seeded" in done.stderr
    assert len(done.stderr.splitlines()) == 1
