"""What `gpupilot record` says when Prometheus is away, unwell, empty, or no Prometheus."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from gpupilot_agent.cli.main import run

EMPTY = b'{"status":"success","data":{"resultType":"matrix","result":[]}}'

Answering = Callable[[int, bytes], str]
Recording = Callable[..., str]


@pytest.fixture
def answering() -> Iterator[Answering]:
    """Return a function that starts a server with one answer to everything."""
    opened: list[ThreadingHTTPServer] = []

    def start(status: int, body: bytes) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        opened.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in opened:
        server.shutdown()
        server.server_close()


@pytest.fixture
def recording(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Recording:
    """Return a function that records into ``tmp_path`` and returns the last sentence said."""

    def call(url: str, *words: str, code: int = 2) -> str:
        line = ["gpupilot", "record", "--prometheus", url, "--out", str(tmp_path / "r.parquet")]
        monkeypatch.setattr(sys, "argv", [*line, "--batch-max", "8", *words])
        with pytest.raises(SystemExit) as ended:
            run()
        said = capsys.readouterr()
        assert int(ended.value.code or 0) == code, said.err
        assert "Traceback" not in said.err
        return (said.err if code else said.out).strip().splitlines()[-1]

    return call


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (503, b"tsdb is not ready", "answers 503"),
        (200, EMPTY, "a service with series in Prometheus; there are: none at all"),
        (200, b"<html>a proxy's page</html>", "gives no answer of a Prometheus"),
    ],
    ids=["unwell", "empty", "another"],
)
def test_one_sentence_and_no_file(
    answering: Answering,
    recording: Recording,
    tmp_path: Path,
    status: int,
    body: bytes,
    sentence: str,
) -> None:
    assert sentence in recording(answering(status, body), "--service", "shop")
    assert list(tmp_path.iterdir()) == []


def test_nobody_there(recording: Recording, tmp_path: Path) -> None:
    assert "cannot be reached" in recording("http://127.0.0.1:9", "--service", "shop")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_name_is_told_the_right_ones(
    prometheus: Any, recording: Recording, tmp_path: Path
) -> None:
    said = recording(prometheus.url, "--service", "shpo", "--every", "30")
    there_are = said.rpartition("there are: ")[2].split(", ")
    assert "live" in there_are, "the one that is scraped now; what was scripted grows old"
    assert "shpo" not in there_are
    assert list(tmp_path.iterdir()) == []


def test_nan_and_a_restart_leave_no_number_that_is_none(
    prometheus: Any, recording: Recording, tmp_path: Path
) -> None:
    """NaN is an empty cell; a counter that falls to zero is no negative rate."""
    recording(prometheus.url, "--service", "nan", "--every", "30", code=0)
    unknown = pq.read_table(tmp_path / "r.parquet").column("rate_rps").to_pylist()
    assert set(unknown) == {None}
    (tmp_path / "r.parquet").unlink()
    recording(prometheus.url, "--service", "reset", "--every", "30", code=0)
    rates = pq.read_table(tmp_path / "r.parquet").column("rate_rps").to_pylist()
    known = [rate for rate in rates if rate is not None]
    assert len(known) > 30
    assert all(25.0 < rate < 41.0 for rate in known)
