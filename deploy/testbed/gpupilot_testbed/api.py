"""One connection to the API server: JSON in, JSON out, nothing between.

The operator has its own client; this one serves the testbed and its tests, which must also see
what a client library would hide: the status code and the words of a refusal.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import yaml

from gpupilot_testbed.kubeconfig import CONTEXT

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
_JSON = "application/json"
PATIENCE_S = 60.0
IDLE_S = 20.0
"""A connection that was quiet for longer is not used again: the server may have ended it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the API server said.

    Attributes:
        status: The HTTP status.
        body: The object, or a ``Status`` that says what is wrong.
    """

    status: int
    body: Any

    @property
    def refused(self) -> bool:
        """Whether it was not done."""
        return self.status >= http.client.BAD_REQUEST

    @property
    def message(self) -> str:
        """What a refusal said, empty where nothing was refused."""
        return str(self.body.get("message", "")) if self.refused else ""


class Api:
    """Talks to the cluster of a kubeconfig, as the user in it. Not to be shared by threads."""

    def __init__(self, kubeconfig: Path) -> None:
        """Read the kubeconfig; connects with the first request.

        Raises:
            ValueError: The kubeconfig is not one of a testbed.
        """
        url, context = access(kubeconfig)
        where = urlsplit(url)
        assert where.hostname is not None
        self._connection = http.client.HTTPSConnection(
            where.hostname, where.port, timeout=PATIENCE_S, context=context
        )
        self._used_s = time.monotonic()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._connection.close()

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        kind: str = _JSON,
        user: str | None = None,
    ) -> Answer:
        """Send one request and return the answer, whatever its status.

        Args:
            method: The verb.
            path: Path and query.
            body: Sent as JSON.
            kind: Content type, such as :data:`MERGE`.
            user: Somebody else to ask as, which an administrator may.
        """
        text = None if body is None else json.dumps(body)
        headers = {} if text is None else {"Content-Type": kind}
        if user is not None:
            headers["Impersonate-User"] = user
        answer = self._sent(method, path, text, headers)
        said = answer.read()
        if answer.getheader("Content-Type") == _JSON:
            return Answer(status=answer.status, body=json.loads(said))
        # a path that is not served yet is refused in plain words
        return Answer(status=answer.status, body={"message": said.decode("utf-8").strip()})

    def stream(self, path: str) -> Iterator[bytes]:
        """Yield the lines of an answer as they come, until the server ends it."""
        answer = self._sent("GET", path, None, {})
        while line := answer.readline():
            yield line
        answer.close()

    def _sent(
        self, method: str, path: str, text: str | None, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        """Send a request on a connection that is known to live; one that fails is not kept."""
        if time.monotonic() - self._used_s > IDLE_S:
            self.close()
        try:
            self._connection.request(method, path, body=text, headers=dict(headers))
            answer = self._connection.getresponse()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        self._used_s = time.monotonic()
        return answer

    def get(self, path: str) -> Any:
        """Return an object or a list, which must be there."""
        return done(self.ask("GET", path))


def done(answer: Answer) -> Any:
    """Return the body of an answer that must not be a refusal.

    Raises:
        AssertionError: It was refused; says what the API server said.
    """
    assert not answer.refused, f"{answer.status}: {answer.message}"
    return answer.body


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with some of its fields changed, as a merge patch would."""
    changed = dict(below)
    for key, value in above.items():
        deeper = isinstance(value, dict) and isinstance(below.get(key), dict)
        changed[key] = merged(below[key], value) if deeper else value
    return changed


def access(kubeconfig: Path) -> tuple[str, ssl.SSLContext]:
    """Return the API server's URL, and what shows it who asks.

    Raises:
        ValueError: The kubeconfig is not one of a testbed.
    """
    document = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    if document["current-context"] != CONTEXT:
        raise ValueError(f"{kubeconfig} is not a testbed's: {document['current-context']}")
    cluster = document["clusters"][0]["cluster"]
    return str(cluster["server"]), _tls(cluster, document["users"][0]["user"])


def _tls(cluster: Mapping[str, str], user: Mapping[str, str]) -> ssl.SSLContext:
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode("ascii")
    context = ssl.create_default_context(cadata=authority)
    # the standard library reads a client's certificate from a file only
    with tempfile.NamedTemporaryFile() as file:
        file.write(base64.b64decode(user["client-certificate-data"]))
        file.write(base64.b64decode(user["client-key-data"]))
        file.flush()
        context.load_cert_chain(file.name)
    return context
