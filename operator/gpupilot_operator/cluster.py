"""The cluster as the control loop meets it: read from the store, written side by side."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from gpupilot_envs.errors import ChangeRefused
from gpupilot_operator import kinds, telling
from gpupilot_operator.actuate import BY_US, Actuator, Outcome
from gpupilot_operator.kube import JSON_PATCH, MERGE, Answer, Connection, Request
from gpupilot_operator.logs import FIELDS
from gpupilot_operator.pod import Platform
from gpupilot_operator.ports import Change, Event, Failure, Seen, Telling
from gpupilot_operator.reconcile import carried, reconciled
from gpupilot_operator.service import Service
from gpupilot_operator.store import Store
from gpupilot_operator.views import Name, Resource

WORKERS = 16
"""Requests side by side: what 100 changes within a second need, and an API server takes easily."""
LOCKS = 1024
"""Held for one service each at most by a worker: so many hardly ever meet, and stay so many."""
LASTING = timedelta(seconds=30)
"""What keeps objects from being as asked for as long is no passing failure of a request."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """What keeps the objects of a service from being as its resource asks.

    Attributes:
        reason: In one CamelCase word.
        said: In a sentence.
        since: Since when, in UTC.
    """

    reason: str
    said: str
    since: datetime


class KubeCluster:
    """Implements ``ports.Cluster``, and does what the resources themselves ask."""

    def __init__(
        self,
        connection: Connection,
        store: Store,
        platform: Callable[[], Platform],
        *,
        identity: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Read from a store and write through a connection.

        Args:
            connection: To the API server.
            store: What watches told.
            platform: What the cluster has and allows, as it is now.
            identity: Who posts events.
            now: Time in UTC.
        """
        self._connection = connection
        self._store = store
        self._platform = platform
        self._identity = identity
        self._now = now
        self._actuator = Actuator(connection, lambda kind, body: store.see(kind, None, body))
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="kube")
        self._complaints: dict[Name, Complaint] = {}
        self._locks = tuple(threading.Lock() for _ in range(LOCKS))

    def close(self) -> None:
        """End the threads; what is being written is written to its end."""
        self._pool.shutdown()
        self._actuator.close()

    def services(self) -> tuple[Seen, ...]:
        """Return every service that something runs for."""
        found = self._store.services()
        # most of the time there is none
        return tuple(map(self._with_complaint, found)) if self._complaints else found

    def unready(self) -> Mapping[str, str]:
        """Return by key what something is wrong with, and why in a word."""
        found = self._complaints.copy()
        return {f"{at.namespace}/{at.name}": each.reason for at, each in found.items()}

    def carry_out(self, changes: Sequence[Change]) -> Mapping[str, Failure | None]:
        """Make the changes side by side; return by key what went wrong."""
        done = self._pool.map(self._carry_out, changes)
        return {each.seen.service.key: wrong for each, wrong in zip(changes, done, strict=True)}

    def tell(self, tellings: Sequence[Telling]) -> Mapping[str, str | None]:
        """Patch status and post events side by side; return by key what went wrong."""
        done = self._pool.map(self._tell, tellings)
        return {each.service.key: wrong for each, wrong in zip(tellings, done, strict=True)}

    def reconcile(self, names: Sequence[Name]) -> Mapping[Name, Outcome]:
        """Bring the objects of services to what their resources ask, side by side."""
        return dict(zip(names, self._pool.map(self._reconcile, names), strict=True))

    def _lock(self, at: Name) -> threading.Lock:
        """Return what keeps two changes of a service apart; some services share one."""
        return self._locks[hash(at) % LOCKS]

    def _carry_out(self, change: Change) -> Failure | None:
        service = change.seen.service
        at = Name(namespace=service.namespace, name=service.name)
        with self._lock(at):
            known = self._store.known(at)
            if known is None or known.service.uid != service.uid:
                said = "the resource went, or is another one by now"
                return Failure(said=said, passing=True)
            try:
                steps = carried(known, change.plan, self._platform())
            except ChangeRefused as error:
                return Failure(said=str(error))
            return _failure(self._actuator.perform(service, steps))

    def _tell(self, telling_: Telling) -> str | None:
        service = telling_.service
        at = Name(namespace=service.namespace, name=service.name)
        wrong = None if telling_.patch is None else self._patch_status(at, telling_.patch)
        if telling_.release_hand:
            wrong = self._release_hand(service) or wrong
        for each in telling_.events:
            wrong = self._post(at, service.uid, each) or wrong
        return wrong

    def _reconcile(self, at: Name) -> Outcome:
        with self._lock(at):
            resource, known = self._store.resource(at), self._store.known(at)
            if resource is None:
                self._complaints.pop(at, None)
                return Outcome()
            now = self._now()
            outcome = Outcome()
            if known is not None:
                steps = reconciled(known, self._platform(), now)
                outcome = self._actuator.perform(known.service, steps)
            if outcome.overtaken is not None:
                # what is wrong, if anything, is seen at the next look, which is soon
                return outcome
            why = telling.objection(resource, known, outcome.wrong)
            self._complain(resource, why, now)
            patch = telling.unready(resource, known, why, now)
            if patch is None:
                return outcome
            wrong = self._patch_status(at, patch)
            return Outcome(done=outcome.done + 1, wrong=outcome.wrong or wrong)

    def _complain(self, resource: Resource, why: Event | None, now: datetime) -> None:
        """Say once, in the log and in an event, what keeps a service from being as it is asked."""
        at = resource.at
        before = self._complaints.pop(at, None)
        if why is None:
            return
        if before is not None and before.said == why.message:
            self._complaints[at] = before
            return
        self._complaints[at] = Complaint(reason=why.reason, said=why.message, since=now)
        key = f"{at.namespace}/{at.name}"
        _log.warning(f"{key}: {why.message}", extra={FIELDS: {"service": key}})
        self._post(at, resource.uid, why)

    def _with_complaint(self, seen: Seen) -> Seen:
        at = Name(namespace=seen.service.namespace, name=seen.service.name)
        complaint = self._complaints.get(at)
        if complaint is None or self._now() - complaint.since < LASTING:
            return seen
        return replace(seen, refused=complaint.said)

    def _patch_status(self, at: Name, patch: Mapping[str, Any]) -> str | None:
        answer = self._patch(at, patch, content=MERGE, sub="status")
        # one that went meanwhile need not be told of
        return None if answer.status == HTTPStatus.NOT_FOUND else answer.wrong

    def _release_hand(self, service: Service) -> str | None:
        """Take the count set by hand out of a resource, unless it is another one by now."""
        count, path = service.spec.predictor.replicas, "/spec/predictor/replicas"
        if count is None:
            return None
        at = Name(namespace=service.namespace, name=service.name)
        change = [{"op": "test", "path": path, "value": count}, {"op": "remove", "path": path}]
        answer = self._patch(at, change, content=JSON_PATCH)
        changed = answer.status == HTTPStatus.UNPROCESSABLE_ENTITY
        return None if changed else answer.wrong

    def _patch(self, at: Name, body: Any, *, content: str, sub: str | None = None) -> Answer:
        return self._connection.send(
            Request(
                verb="patch",
                kind=kinds.INFERENCE_SERVICE,
                namespace=at.namespace,
                name=at.name,
                sub=sub,
                body=body,
                content=content,
                query=BY_US,
            )
        )

    def _post(self, at: Name, uid: str, event: Event) -> str | None:
        body = telling.event(at, uid, event, by=self._identity, now=self._now())
        request = Request(verb="create", kind=kinds.EVENT, namespace=at.namespace, body=body)
        return self._connection.send(request).wrong


def _failure(outcome: Outcome) -> Failure | None:
    """Return what kept a change from being made whole."""
    if outcome.wrong is not None:
        return Failure(said=outcome.wrong)
    return None if outcome.overtaken is None else Failure(said=outcome.overtaken, passing=True)
