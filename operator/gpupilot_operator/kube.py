"""The one door to the Kubernetes API: requests out, answers back, every one counted and timed out.

What the API server refuses is an answer, not an exception, and so is a server that is away: the
loops are level-triggered and look again. Of the ``kubernetes`` client the authentication
(:mod:`.kube_access`) and the connections are used; bodies are plain JSON.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from gpupilot_envs.errors import ClusterUnavailable
from gpupilot_operator.kinds import Kind
from gpupilot_operator.kube_access import Access

JSON = "application/json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"

METHODS = {
    "get": "GET",
    "list": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
}
READING = frozenset({"get", "list"})
TIMEOUT_S = (3.0, 10.0)
LEASE_TIMEOUT_S = (1.5, 2.0)
"""Shorter: who cannot renew in time must know in time."""
TRIES = 3
BUSY_MOST_S = 5.0
"""Longest wait that a busy server may ask of us; with a longer one the next look is soon enough."""
PAGE = 100
"""Objects in one answer of a list, so that no answer is very large."""
AWAY = 0
"""Status of an answer that the API server did not give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request.

    Attributes:
        verb: As roles name it; one of :data:`METHODS`.
        kind: Of what.
        namespace: Where; ``None`` is everywhere.
        name: Of which object; ``None`` is the list of them.
        sub: Which part of it, such as ``scale``.
        body: Sent as JSON.
        content: Content type, such as :data:`MERGE`.
        query: Options.
    """

    verb: str
    kind: Kind
    namespace: str | None
    name: str | None = None
    sub: str | None = None
    body: Any = None
    content: str = JSON
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def resource(self) -> str:
        """What it is about, as roles name it: ``deployments/scale``."""
        return self.kind.plural if self.sub is None else f"{self.kind.plural}/{self.sub}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a request.

    Attributes:
        status: HTTP status, :data:`AWAY` where the API server did not answer.
        body: The object, or a ``Status`` that says what is wrong.
    """

    status: int
    body: Any

    @property
    def refused(self) -> bool:
        """Whether it was not done, or nobody knows."""
        return not HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def wrong(self) -> str | None:
        """What is wrong in a sentence, ``None`` where nothing is."""
        if not self.refused:
            return None
        said = self.body.get("message") if isinstance(self.body, Mapping) else None
        return f"{self.status}: {said or 'no reason given'}" if self.status else str(said)


Counted = Callable[[Request, int], None]
"""Told of every request and the status of its answer."""


class Connection:
    """Talks to the API server; may be shared by threads."""

    def __init__(
        self,
        *,
        may_write: Callable[[], bool],
        counted: Counted = lambda _request, _status: None,
        timeout_s: tuple[float, float] = TIMEOUT_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Find the API server and who we are to it, see :class:`.kube_access.Access`.

        Args:
            may_write: Asked right before every write; a replica that may not, sends none.
            counted: Told of every request.
            timeout_s: To connect, and between two pieces of an answer.
            sleep: Waits for seconds.

        Raises:
            ClusterUnavailable: Neither says where the API server is.
        """
        self._access = Access()
        self._may_write = may_write
        self._counted = counted
        self._timeout_s = timeout_s
        self._sleep = sleep

    def close(self) -> None:
        """Close the connections."""
        self._access.close()

    def send(self, request: Request) -> Answer:
        """Send a request and return its answer, again where the server was too busy to begin.

        Only 429 is tried again, and 401 with what says anew who we are: both say that nothing was
        done. A conflict, a failure and a silence are left to the caller, who looks at what is
        there first.
        """
        used = self._access.client
        answer = self._tried(request, used)
        if answer.status == HTTPStatus.UNAUTHORIZED and self._access.renewed(used):
            return self._tried(request, self._access.client)
        return answer

    def _tried(self, request: Request, by: client.ApiClient) -> Answer:
        for _ in range(TRIES - 1):
            answer, wait_s = self._sent(request, by)
            if answer.status != HTTPStatus.TOO_MANY_REQUESTS or wait_s > BUSY_MOST_S:
                return answer
            self._sleep(wait_s)
        return self._sent(request, by)[0]

    def pages(
        self, kind: Kind, namespace: str | None = None
    ) -> Iterator[tuple[list[dict[str, Any]], int]]:
        """Yield the objects of a kind that concern us in pages, each with the version of the list.

        Raises:
            ClusterUnavailable: A page cannot be had.
        """
        query = {"limit": str(PAGE)}
        if kind.selector:
            query["labelSelector"] = kind.selector
        while True:
            request = Request(verb="list", kind=kind, namespace=namespace, query=query)
            answer = self.send(request)
            if answer.refused:
                raise ClusterUnavailable(f"cannot list {kind.plural}: {answer.wrong}")
            metadata = answer.body["metadata"]
            items = [_named(each, kind) for each in answer.body["items"]]
            yield items, int(metadata["resourceVersion"])
            more = metadata.get("continue")
            if not more:
                return
            query = {**query, "continue": more}

    def _sent(self, request: Request, by: client.ApiClient) -> tuple[Answer, float]:
        """Return the answer, and how many seconds a busy server wants to be left alone."""
        if request.verb not in READING and not self._may_write():
            said = "not sent: another replica leads, or may by now"
            return Answer(status=AWAY, body={"message": said}), 0.0
        try:
            answer, wait_s = _exchanged(request, by, self._timeout_s)
        except (HTTPError, ApiException, OSError, ValueError) as error:
            said = f"the API server did not answer: {error}"
            answer, wait_s = Answer(status=AWAY, body={"message": said}), 0.0
        self._counted(request, answer.status)
        return answer, wait_s


def _exchanged(
    request: Request, by: client.ApiClient, timeout_s: tuple[float, float]
) -> tuple[Answer, float]:
    headers = {"Accept": JSON}
    if request.body is not None:
        headers["Content-Type"] = request.content
    prepared = by.param_serialize(
        METHODS[request.verb],
        request.kind.path(request.namespace, request.name, request.sub),
        query_params=list(request.query.items()),
        header_params=headers,
        body=request.body,
        auth_settings=["BearerToken"],
    )
    response = by.call_api(*prepared, _request_timeout=timeout_s)
    text = response.read()
    wait_s = float(response.headers.get("Retry-After") or 1.0)
    return Answer(status=response.status, body=_parsed(text)), wait_s


def _named(body: dict[str, Any], kind: Kind) -> dict[str, Any]:
    """Return an object of a list as it is elsewhere: a list says the kind only once."""
    return {"apiVersion": kind.api_version, "kind": kind.kind, **body}


def _parsed(text: bytes) -> Any:
    """Return a body; a refusal in plain words becomes the message it is."""
    try:
        return json.loads(text)
    except ValueError:
        return {"message": text.decode("utf-8", "replace").strip()}
