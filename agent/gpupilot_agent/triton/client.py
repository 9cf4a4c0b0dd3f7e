"""Asks a server for classes: KServe v2 over HTTP with binary tensors, not JSON numbers.

The binary tensor extension puts a JSON header and the raw tensor into one body; the length of
the header is in ``Inference-Header-Content-Length``. As JSON the same tensor is five times as
large and costs the server five times as much.
"""

from __future__ import annotations

import http.client
import json
from typing import Self
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.triton.repository import INPUT, MODEL, OUTPUT
from gpupilot_envs.errors import InputInvalid, StackFailed

HEADER_LENGTH = "Inference-Header-Content-Length"
PATIENCE_S = 60.0

Floats = NDArray[np.float32]


def encode(tensors: Floats) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of a request for the logits of a batch."""
    raw = np.ascontiguousarray(tensors, dtype="<f4").tobytes()
    header = {
        "inputs": [
            {
                "name": INPUT,
                "shape": list(tensors.shape),
                "datatype": "FP32",
                "parameters": {"binary_data_size": len(raw)},
            }
        ],
        "outputs": [{"name": OUTPUT, "parameters": {"binary_data": True}}],
    }
    head = json.dumps(header).encode()
    headers = {HEADER_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
    return headers, head + raw


def decode(header_length: str | None, body: bytes) -> Floats:
    """Return the logits of an answer, shape ``(batch, 1000)``.

    Raises:
        StackFailed: Not an answer to :func:`encode`.
    """
    try:
        length = int(header_length or "")
        (output,) = json.loads(body[:length])["outputs"]
        return np.frombuffer(body[length:], dtype="<f4").reshape(output["shape"])
    except (ValueError, KeyError) as error:
        raise StackFailed(f"the server's answer cannot be read: {body[:200]!r}") from error


class Client:
    """Asks one server over one kept connection; a context manager that closes it."""

    def __init__(self, url: str, *, model: str = MODEL) -> None:
        """Remember whom to ask; nothing is sent yet.

        Raises:
            InputInvalid: Not the address of an HTTP server.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or parts.hostname is None:
            raise InputInvalid("--url", url, "http://host:port")
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=PATIENCE_S)
        self._path = f"{parts.path.rstrip('/')}/v2/models/{model}/infer"
        self._url = url

    def __call__(self, tensors: Floats) -> Floats:
        """Return the logits of a batch.

        Raises:
            StackFailed: No answer, or a refusal; says which.
        """
        headers, body = encode(tensors)
        try:
            self._connection.request("POST", self._path, body, headers)
            answer = self._connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise StackFailed(f"no answer from {self._url}: {error}") from error
        if answer.status != http.client.OK:
            reason = said.decode("utf-8", "replace").strip()
            raise StackFailed(f"{self._url} refused: {answer.status} {reason}")
        return decode(answer.getheader(HEADER_LENGTH), said)

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._connection.close()
