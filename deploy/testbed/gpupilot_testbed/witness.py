"""Somebody who watches the replicas all the time, so that nothing in between goes unseen."""

from __future__ import annotations

import http.client
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpupilot_testbed.api import Api

EVERY_S = 0.2
LABEL = "gpupilot.dev/service"
DEPLOYMENTS = f"/apis/apps/v1/deployments?labelSelector={LABEL}"
Key = tuple[str, str]
"""Namespace and name of a service."""


class Witness:
    """Remembers every number of replicas that a service's Deployments asked for."""

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self._seen: defaultdict[Key, list[tuple[float, int]]] = defaultdict(list)
        self._ended = threading.Event()

    def since(self, key: Key, at_s: float) -> list[int]:
        """Return the numbers a service had from a time on (``time.monotonic``), each once in turn.

        The one it had at that time is the first.
        """
        before = [count for seen_s, count in self._seen[key] if seen_s <= at_s][-1:]
        return before + [count for seen_s, count in self._seen[key] if seen_s > at_s]

    @contextmanager
    def watching(self, kubeconfig: Path) -> Iterator[None]:
        """Watch within the block, past whatever stands between the operator and the API server."""
        thread = threading.Thread(target=self._watch, args=(kubeconfig,))
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _watch(self, kubeconfig: Path) -> None:
        with Api(kubeconfig) as api:
            while not self._ended.wait(EVERY_S):
                try:
                    self._look(api)
                except (OSError, http.client.HTTPException):
                    continue  # the API server is away: there is nothing to see

    def _look(self, api: Api) -> None:
        answer = api.ask("GET", DEPLOYMENTS)
        if answer.refused:
            return
        found: defaultdict[Key, int] = defaultdict(int)
        for each in answer.body["items"]:
            metadata = each["metadata"]
            found[metadata["namespace"], metadata["labels"][LABEL]] += each["spec"]["replicas"]
        now_s = time.monotonic()
        for key, count in found.items():
            seen = self._seen[key]
            if not seen or seen[-1][1] != count:
                seen.append((now_s, count))
