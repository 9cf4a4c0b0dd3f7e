"""A proxy that fails on purpose: before the API server, or before Prometheus.

Whoever asks speaks plain HTTP to it on loopback; it asks on with the administrator's identity. What
fails is said by rules that may change while it runs.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web

START_S = 10.0
_HOP = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive", "host"})
"""Headers of one connection, not of the message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to requests that match.

    Attributes:
        match: Regular expression on ``VERB /path?query``, found anywhere in it.
        delay_s: Waited before anything else.
        status: Answered instead of asking on; ``None`` asks on.
        body: The answer's JSON; without it a ``Status`` as Kubernetes writes it.
        headers: Of the answer.
        cut: The connection is broken off without an answer.
        lost: The request is asked on, its answer broken off: done, and nobody knows.
        silent: Nothing is ever answered, as behind a firewall that drops.
        every: Only every so-manieth request that matches.
        most: Requests it happens to, at the most; ``None`` for all.
    """

    match: str
    delay_s: float = 0.0
    status: int | None = None
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    lost: bool = False
    silent: bool = False
    every: int = 1
    most: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request that came.

    Attributes:
        verb: HTTP method.
        path: Path and query.
        status: What was answered, 0 where the connection was broken off.
    """

    verb: str
    path: str
    status: int


class Proxy:
    """Forwards to one server, and fails where it is told to.

    Attributes:
        asked: Every request that was answered, oldest first.
    """

    def __init__(self, upstream: str, tls: ssl.SSLContext | None = None) -> None:
        """Forward to ``upstream``, a URL without a path; ``tls`` holds who asks."""
        self.asked: list[Asked] = []
        self._upstream, self._tls = upstream, tls
        self._faults: tuple[Fault, ...] = ()
        self._met: list[int] = []
        self._open: dict[int, web.Request] = {}
        self._port: Future[int] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port.result(START_S)}"

    def start(self) -> None:
        """Listen on a free port of loopback, in a thread."""
        self._thread.start()
        self._port.result(START_S)

    def stop(self) -> None:
        """Break off everything and end."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    @contextmanager
    def failing(self, *faults: Fault) -> Iterator[None]:
        """Fail so within the block, not after it; what is already open stays open."""
        self._met = [0] * len(faults)
        self._faults = faults
        try:
            yield
        finally:
            self._faults = ()

    def cut(self) -> None:
        """Break off what is open now, watches above all."""
        self._loop.call_soon_threadsafe(self._abort)

    def written(self) -> list[Asked]:
        """Return the requests that change something."""
        return [each for each in self.asked if each.verb != "GET"]

    def _abort(self) -> None:
        for request in tuple(self._open.values()):
            if request.transport is not None:
                request.transport.abort()

    async def _serve(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        application = web.Application(client_max_size=2**26)
        connector = TCPConnector(ssl=self._tls or False, limit=0)
        async with ClientSession(connector=connector, timeout=ClientTimeout()) as session:

            async def handle(request: web.Request) -> web.StreamResponse:
                return await self._handle(session, request)

            application.router.add_route("*", "/{path:.*}", handle)
            # PromQL for many services is long
            runner = web.AppRunner(
                application, access_log=None, shutdown_timeout=0.1, max_line_size=2**20
            )
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self._port.set_result(runner.addresses[0][1])
            await self._ended.wait()
            self._abort()
            await runner.cleanup()

    async def _handle(self, session: ClientSession, request: web.Request) -> web.StreamResponse:
        self._open[id(request)] = request
        try:
            fault = self._fault_of(request)
            answer = await self._failed(fault, request) if fault else None
            if answer is None:
                answer = await self._forwarded(session, request, lost=bool(fault and fault.lost))
        finally:
            del self._open[id(request)]
        self.asked.append(Asked(verb=request.method, path=request.path_qs, status=answer.status))
        return answer

    def _fault_of(self, request: web.Request) -> Fault | None:
        said = f"{request.method} {request.path_qs}"
        for index, fault in enumerate(self._faults):
            if re.search(fault.match, said):
                self._met[index] += 1
                turn, due = divmod(self._met[index], fault.every)
                if due == 0 and (fault.most is None or turn <= fault.most):
                    return fault
        return None

    async def _failed(self, fault: Fault, request: web.Request) -> web.StreamResponse | None:
        """Return the answer that a fault gives, ``None`` where it lets the request through."""
        await asyncio.sleep(fault.delay_s)
        if fault.silent:
            await asyncio.Event().wait()
        if fault.cut:
            return _broken(request)
        if fault.status is None:
            return None
        body = fault.body or _status(fault.status)
        return web.json_response(body, status=fault.status, headers=fault.headers)

    async def _forwarded(
        self, session: ClientSession, request: web.Request, *, lost: bool
    ) -> web.StreamResponse:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP}
        url = f"{self._upstream}{request.raw_path}"
        # of a body there is not, nothing may be said: no type either
        sent = await request.read() or None
        try:
            async with session.request(
                request.method, url, headers=headers, data=sent, auto_decompress=False
            ) as answer:
                if lost:
                    await answer.read()
                    return _broken(request)
                kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
                told = web.StreamResponse(status=answer.status, headers=kept)
                await told.prepare(request)
                async for chunk in answer.content.iter_any():
                    await told.write(chunk)
                await told.write_eof()
                return told
        except (ClientError, ConnectionError):
            return _broken(request)


def _broken(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def _status(code: int) -> dict[str, Any]:
    """Return a refusal as the API server words it."""
    reasons = {409: "Conflict", 410: "Expired", 429: "TooManyRequests", 500: "InternalError"}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f"made to fail with {code}",
        "reason": reasons.get(code, "Unknown"),
        "code": code,
    }
