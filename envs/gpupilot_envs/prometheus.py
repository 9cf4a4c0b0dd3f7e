"""Asks a Prometheus: instant and range queries with retries, TLS, credentials and a tenant.

The only importer of ``prometheus_api_client``. That library has no time limit of its own, does
not split a range that is longer than the server's 11,000 points per series, and raises three
families of errors; this module does away with all three. Mimir, Cortex and Thanos answer the
same API.
"""

from __future__ import annotations

import ast
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from math import isfinite, nan
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from gpupilot_envs.errors import InputInvalid, MetricsUnavailable

Floats = NDArray[np.float64]

POINTS_MAX = 10_000
"""Most points asked for per series and query; servers refuse more than 11,000."""

URL_MOST = 2000
"""Longest query in a URL: servers and proxies refuse more than some 8,000 characters of it."""

SIDE_BY_SIDE = 7
"""Queries at a time: as many as a reading takes. A server runs 20 (``--query.max-concurrency``)."""

ATTEMPTS = 4
BACKOFF_S = 0.25
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
TENANT_HEADER = "X-Scope-OrgID"
_STATUS = re.compile(r"HTTP Status Code (\d+) \((.*)\)$", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where a Prometheus is and how to be let in.

    Attributes:
        url: Base URL, a path prefix included (Mimir: ``https://HOST/prometheus``).
        user: Name for basic authentication.
        password_file: File with its password; read anew for every query.
        token_file: File with a bearer token; read anew for every query, because tokens expire.
        ca_file: Certificate authority to trust instead of the system's.
        cert_file: Client certificate.
        key_file: Its key.
        tenant: Tenant of a Mimir or Cortex (``X-Scope-OrgID``).
        timeout_s: Longest wait for an answer.
        attempts: How often a query is tried before it is given up.
    """

    url: str
    user: str | None = None
    password_file: Path | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    tenant: str | None = None
    timeout_s: float = 30.0
    attempts: int = ATTEMPTS

    def __post_init__(self) -> None:
        """Refuse what cannot work before anything is asked."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputInvalid("--prometheus", self.url, "http://HOST:PORT or https://HOST:PORT")
        if self.user and self.token_file:
            raise InputInvalid("--token-file", str(self.token_file), "not together with --user")
        if bool(self.user) != bool(self.password_file):
            raise InputInvalid("--user", self.user, "a name, together with --password-file")
        if self.key_file and not self.cert_file:
            raise InputInvalid("--key-file", str(self.key_file), "also --cert-file")
        for path in (
            self.password_file,
            self.token_file,
            self.ca_file,
            self.cert_file,
            self.key_file,
        ):
            if path is not None and not path.is_file():
                raise InputInvalid("credentials", str(path), "a file that can be read")

    @property
    def shown(self) -> str:
        """The URL without a password that may stand in it."""
        parts = urlsplit(self.url)
        host = (parts.hostname or "") + (f":{parts.port}" if parts.port else "")
        return urlunsplit((parts.scheme, host, parts.path, "", "")).rstrip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One series of an answer.

    Attributes:
        labels: Its labels.
        times_s: Unix times of its points, ascending, shape ``(n,)``.
        values: Values, NaN where Prometheus says NaN or an infinity, shape ``(n,)``.
    """

    labels: Mapping[str, str]
    times_s: Floats
    values: Floats


class Prometheus:
    """A Prometheus that is asked questions."""

    def __init__(self, access: Access, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """Prepare the connection; nothing is sent yet.

        Args:
            access: Where and how.
            sleep: Waits between two attempts; a test waits less.

        Raises:
            InputInvalid: The extra ``prometheus`` is not installed.
        """
        try:
            from prometheus_api_client import PrometheusConnect
            from urllib3.util.retry import Retry
        except ImportError as error:
            allowed = "the extra of that name: pip install 'gpupilot[prometheus]'"
            raise InputInvalid("prometheus", "not installed", allowed) from error
        self.access = access
        self._sleep = sleep
        self._headers: dict[str, str] = {}
        self._threads = ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="prometheus")
        self._connection = PrometheusConnect(
            url=access.url.rstrip("/"), headers=self._headers, retry=Retry(total=0, read=False)
        )
        session = self._connection._session
        session.mount(self._connection.url, _transport(Retry(total=0, read=False)))
        if access.ca_file:
            session.verify = str(access.ca_file)
        if access.cert_file:
            certificate = str(access.cert_file)
            session.cert = (certificate, str(access.key_file)) if access.key_file else certificate

    def numbers(
        self, queries: Iterable[str], at_s: float
    ) -> Iterator[tuple[Mapping[str, str], float]]:
        """Yield labels and value of each series that answers, infinities as NaN.

        Args:
            queries: Asked side by side; each answers a vector. Their answers come in this order.
            at_s: Unix time.

        Raises:
            MetricsUnavailable: After the last attempt, or at once when trying again cannot help.
        """
        for items in self._threads.map(lambda query: self._at(query, at_s), queries):
            for item in items:
                value = float(item["value"][1])
                yield item["metric"], value if isfinite(value) else nan

    def _at(self, query: str, at_s: float) -> list[dict[str, Any]]:
        return self._ask(
            lambda: self._connection.custom_query(
                query, params={"time": f"{at_s:.3f}"}, timeout=self.access.timeout_s
            )
        )

    def span(self, query: str, start_s: int, end_s: int, step_s: int) -> list[Series]:
        """Return the answer on a grid, ends included, however long it is.

        Args:
            query: Answers a vector.
            start_s: First Unix time, whole seconds.
            end_s: Last Unix time.
            step_s: Seconds between two points.

        Raises:
            MetricsUnavailable: See :meth:`numbers`.
        """
        pieces: dict[tuple[tuple[str, str], ...], list[list[Any]]] = {}
        for first_s, last_s in chunks(start_s, end_s, step_s):
            found = self._ask(
                lambda first_s=first_s, last_s=last_s: self._connection.custom_query_range(  # type: ignore[misc]
                    query,
                    start_time=datetime.fromtimestamp(first_s, UTC),
                    end_time=datetime.fromtimestamp(last_s, UTC),
                    step=str(step_s),
                    timeout=self.access.timeout_s,
                )
            )
            for item in found:
                key = tuple(sorted(item["metric"].items()))
                pieces.setdefault(key, []).extend(item["values"])
        return [_series(dict(labels), points) for labels, points in pieces.items()]

    def close(self) -> None:
        """Close the connection."""
        self._threads.shutdown(cancel_futures=True)
        self._connection.close()

    def _ask(self, call: Callable[[], Any]) -> list[dict[str, Any]]:
        for attempt in range(1, self.access.attempts + 1):
            self._authenticate()
            try:
                return _vector(call())
            except _errors() as error:
                complaint = _complaint(error, self.access)
            if not complaint.passing or attempt == self.access.attempts:
                raise complaint
            self._sleep(BACKOFF_S * 2.0 ** (attempt - 1))
        raise AssertionError("attempts is at least 1")

    def _authenticate(self) -> None:
        access = self.access
        if access.tenant:
            self._headers[TENANT_HEADER] = access.tenant
        if access.token_file:
            token = access.token_file.read_text(encoding="utf-8").strip()
            self._headers["Authorization"] = f"Bearer {token}"
        if access.user and access.password_file:
            password = access.password_file.read_text(encoding="utf-8").rstrip("\r\n")
            self._connection.auth = (access.user, password)


def _transport(retry: Any) -> Any:
    """Return a transport that sends what is too long for a URL as a form, and reads answers lean.

    Prometheus' query API takes both; the library knows only URLs. An answer says the same few
    labels tens of thousands of times: each text is kept once.
    """
    from requests import PreparedRequest, Response
    from requests.adapters import HTTPAdapter

    class Answer(Response):
        def json(self, **_: Any) -> Any:
            return from_json(self.content, cache_strings="all")

    class Transport(HTTPAdapter):
        def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:
            path, _, words = (request.url or "").partition("?")
            if len(words) > URL_MOST:
                request.prepare_method("POST")
                request.url, request.body = path, words
                request.headers["Content-Type"] = "application/x-www-form-urlencoded"
                request.headers["Content-Length"] = str(len(words))
            return super().send(request, *args, **options)

        def build_response(self, *args: Any) -> Response:
            answer = super().build_response(*args)
            answer.__class__ = Answer
            return answer

    return Transport(max_retries=retry)


def chunks(start_s: int, end_s: int, step_s: int) -> Iterator[tuple[int, int]]:
    """Yield first and last time of each part of a grid that one query may ask for."""
    span_s = (POINTS_MAX - 1) * step_s
    first_s = start_s
    while first_s <= end_s:
        yield first_s, min(first_s + span_s, end_s)
        first_s += span_s + step_s


def _series(labels: Mapping[str, str], points: list[list[Any]]) -> Series:
    columns = np.array([(at, float(value)) for at, value in points], dtype=np.float64)
    values = columns[:, 1]
    return Series(
        labels=labels,
        times_s=columns[:, 0],
        values=np.where(np.isfinite(values), values, np.nan),
    )


def _vector(found: object) -> list[dict[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise TypeError("the answer is no vector")
    return found


@cache
def _errors() -> tuple[type[Exception], ...]:
    """Return what a query may raise: the library, the network, an answer of another shape.

    Asked for only once something was raised: the two libraries take half a second to import.
    """
    from prometheus_api_client import PrometheusApiClientException
    from requests.exceptions import RequestException

    return PrometheusApiClientException, RequestException, ValueError, KeyError, TypeError


def _complaint(error: Exception, access: Access) -> MetricsUnavailable:
    """Return what went wrong as one sentence, and whether it may pass."""
    from prometheus_api_client import PrometheusApiClientException
    from requests.exceptions import ConnectionError as Unreachable
    from requests.exceptions import SSLError, Timeout

    where = f"Prometheus at {access.shown}"
    if isinstance(error, PrometheusApiClientException):
        matched = _STATUS.match(str(error))
        status, body = (int(matched[1]), matched[2]) if matched else (0, repr(str(error)))
        sentence = f"{where} answers {status}: {_said(body)}"
        return MetricsUnavailable(sentence, passing=status in PASSING)
    if isinstance(error, SSLError):
        return MetricsUnavailable(f"{where}: TLS failed: {_short(error)}", passing=False)
    if isinstance(error, Timeout):
        sentence = f"{where} did not answer within {access.timeout_s:g} s"
        return MetricsUnavailable(sentence, passing=True)
    if isinstance(error, Unreachable):
        return MetricsUnavailable(f"{where} cannot be reached: {_short(error)}", passing=True)
    return MetricsUnavailable(
        f"{where} gives no answer of a Prometheus ({type(error).__name__})", passing=False
    )


def _said(body: str) -> str:
    """Return what the server said: the error of Prometheus' JSON, else the first words."""
    content = ast.literal_eval(body)
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text.strip()[:200] or "nothing"


def _short(error: Exception) -> str:
    """Return the innermost reason of a chain of network errors."""
    while error.__context__ is not None and isinstance(error.__context__, Exception):
        error = error.__context__
    return str(error).strip() or type(error).__name__
