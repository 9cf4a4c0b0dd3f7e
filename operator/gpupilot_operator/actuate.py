"""Performs what was decided, one step at a time; says in a sentence what went wrong."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from gpupilot_envs.errors import ChangeOvertaken
from gpupilot_operator import kinds, naming, triton_control
from gpupilot_operator.granted import GRANTED
from gpupilot_operator.kinds import BY_KIND, Kind
from gpupilot_operator.kube import APPLY, JSON_PATCH, MERGE, STRATEGIC, Answer, Connection, Request
from gpupilot_operator.logs import FIELDS
from gpupilot_operator.service import Service
from gpupilot_operator.steps import (
    Grant,
    Load,
    Make,
    Remove,
    Repair,
    Resized,
    Scale,
    Step,
    named,
    performed,
)
from gpupilot_operator.views import BATCHING, Limits, Name

BY_US = {"fieldManager": naming.FIELD_MANAGER}
LOADS = 8
"""Servers that are told side by side."""
TOLD_MOST = 10_000
"""Pods of which it is remembered what they were told; told again, one loads again."""
Made = Callable[[Kind, Mapping[str, Any]], None]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of steps.

    Attributes:
        done: How many were performed.
        wrong: What went wrong then, ``None`` where nothing did.
        overtaken: What changed meanwhile, so that the rest is decided anew: nothing is wrong then.
    """

    done: int = 0
    wrong: str | None = None
    overtaken: str | None = None

    @property
    def is_settled(self) -> bool:
        """Whether there was nothing to do."""
        return self.done == 0 and self.wrong is None and self.overtaken is None


class Actuator:
    """Performs steps for services; may be shared by threads."""

    def __init__(self, connection: Connection, made: Made = lambda _kind, _body: None) -> None:
        """Perform through a connection.

        Args:
            connection: To the API server.
            made: Told of every object as it is after it was applied, so that it need not be
                waited for; of some kinds no watch tells.
        """
        self._connection = connection
        self._made = made
        self._loads = ThreadPoolExecutor(LOADS, thread_name_prefix="load")
        self._told: dict[Name, str] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Begin nothing more; who is being told is told to the end, or again by another."""
        self._loads.shutdown(wait=False, cancel_futures=True)

    def perform(self, service: Service, steps: Iterable[Step]) -> Outcome:
        """Perform steps in their order, up to the first that fails; the rest is decided anew.

        A step of a single pod holds up no other.
        """
        done, first = 0, None
        for step in steps:
            try:
                wrong = self._performed(service, step)
            except ChangeOvertaken as error:
                _log.info(f"{service.key}: {error}", extra={FIELDS: {"service": service.key}})
                return Outcome(done=done, wrong=first, overtaken=str(error))
            first = first or wrong
            if wrong is None:
                done += 1
                if not isinstance(step, Load):  # begun, and told of when it is done
                    _tell(service, step)
            elif not isinstance(step, Resized):
                break
        return Outcome(done=done, wrong=first)

    def _performed(self, service: Service, step: Step) -> str | None:
        match step:
            case Make():
                return self._make(service, step)
            case Repair():
                return self._apply(step.manifest)
            case Scale():
                return self._scale(step)
            case Remove():
                return self._remove(step)
            case Grant():
                notes = {"metadata": {"annotations": {GRANTED: step.granted.text()}}}
                return self._merge(kinds.DEPLOYMENT, step.at, notes)
            case Resized():
                return self._resize(step)
            case Load():
                self._begin_load(service, step)
                return None

    def _make(self, service: Service, step: Make) -> str | None:
        """Make an object, unless one of that name is there and not ours."""
        metadata = step.manifest["metadata"]
        kind = BY_KIND[step.manifest["kind"]]
        at = Name(namespace=metadata["namespace"], name=metadata["name"])
        found = self._connection.send(_request("get", kind, at))
        if not found.refused and not _is_of(found.body, service):
            return f"{kind.kind}/{at.name} is there already and not of this resource: rename one"
        if found.refused and found.status != HTTPStatus.NOT_FOUND:
            return found.wrong
        wrong = self._apply(step.manifest)
        if wrong is not None or step.replicas is None:
            return wrong
        return self._scale(Scale(at=at, seen=0, wanted=step.replicas))

    def _apply(self, manifest: Mapping[str, Any]) -> str | None:
        """Apply a manifest; what another changed in our fields is taken back, and said."""
        answer = self._applied(manifest, BY_US)
        if answer.status == HTTPStatus.CONFLICT and _is_about_fields(answer):
            said = f"{named(manifest)}: taking back what another changed: {answer.wrong}"
            _log.warning(said, extra={FIELDS: {"object": named(manifest)}})
            answer = self._applied(manifest, {**BY_US, "force": "true"})
        if _is_of_an_end(answer):
            return None
        if answer.refused:
            return f"{named(manifest)}: {answer.wrong}"
        self._made(BY_KIND[manifest["kind"]], answer.body)
        return None

    def _applied(self, manifest: Mapping[str, Any], query: Mapping[str, str]) -> Answer:
        metadata = manifest["metadata"]
        return self._connection.send(
            Request(
                verb="patch",
                kind=BY_KIND[manifest["kind"]],
                namespace=metadata["namespace"],
                name=metadata["name"],
                body=manifest,
                content=APPLY,
                query=query,
            )
        )

    def _scale(self, step: Scale) -> str | None:
        """Change replicas, provided that they still are what the decision was made on.

        Raises:
            ChangeOvertaken: They are not.
        """
        change = [{"op": "add", "path": "/spec/replicas", "value": step.wanted}]
        if step.seen:  # none is left out by the API server, and what is not there has no value
            change = [{"op": "test", "path": "/spec/replicas", "value": step.seen}, *change]
        answer = self._connection.send(
            Request(
                verb="patch",
                kind=kinds.DEPLOYMENT,
                namespace=step.at.namespace,
                name=step.at.name,
                sub="scale",
                body=change,
                content=JSON_PATCH,
                query=BY_US,
            )
        )
        if answer.status == HTTPStatus.UNPROCESSABLE_ENTITY and step.seen:
            said = f"replicas of Deployment/{step.at.name} are no longer {step.seen}"
            raise ChangeOvertaken(f"{said}: decided anew")
        return answer.wrong

    def _remove(self, step: Remove) -> str | None:
        conditions = {"uid": step.uid} | (
            {} if step.version is None else {"resourceVersion": step.version}
        )
        options = {"preconditions": conditions, "propagationPolicy": "Background"}
        answer = self._connection.send(_request("delete", kinds.DEPLOYMENT, step.at, body=options))
        changed = (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)
        return None if answer.status in changed else answer.wrong

    def _resize(self, step: Resized) -> str | None:
        resources = {"limits": _written(step.limits), "requests": _written(step.requests)}
        body = {"spec": {"containers": [{"name": step.container, "resources": resources}]}}
        request = _request("patch", kinds.POD, step.pod, sub="resize", body=body, content=STRATEGIC)
        answer = self._connection.send(request)
        if answer.status == HTTPStatus.NOT_FOUND:
            return None  # it went meanwhile
        return answer.wrong

    def _begin_load(self, service: Service, step: Load) -> None:
        """Have a server told, unless it was or is being; loading takes longer than anyone waits."""
        with self._lock:
            if self._told.get(step.pod.at) == step.told:
                return
            if len(self._told) >= TOLD_MOST:
                self._told.clear()
            self._told[step.pod.at] = step.told
        self._loads.submit(self._finish_load, service, step)

    def _finish_load(self, service: Service, step: Load) -> None:
        wrong = self._load(step)
        if wrong is None:
            _tell(service, step)
            return
        with self._lock:
            self._told.pop(step.pod.at, None)
        said = f"{service.key}: Pod/{step.pod.at.name} was not told how to serve: {wrong}"
        _log.warning(said, extra={FIELDS: {"service": service.key}})

    def _load(self, step: Load) -> str | None:
        if step.pod.address is None:
            return f"pod {step.pod.at.name} has no address yet"
        wrong = triton_control.load(step.pod.address, step.model, step.batching, step.preferred)
        if wrong is not None:
            return wrong
        return self._merge(
            kinds.POD, step.pod.at, {"metadata": {"annotations": {BATCHING: step.told}}}
        )

    def _merge(self, kind: Kind, at: Name, body: Mapping[str, Any]) -> str | None:
        return self._connection.send(_request("patch", kind, at, body=body, content=MERGE)).wrong


def _tell(service: Service, step: Step) -> None:
    _log.info(f"{service.key}: {performed(step)}", extra={FIELDS: {"service": service.key}})


def _request(verb: str, kind: Kind, at: Name, **others: Any) -> Request:
    query = BY_US if verb == "patch" else {}
    return Request(
        verb=verb, kind=kind, namespace=at.namespace, name=at.name, query=query, **others
    )


def _is_of(body: Mapping[str, Any], service: Service) -> bool:
    owners = body["metadata"].get("ownerReferences") or ()
    return any(each["uid"] == service.uid and each.get("controller") for each in owners)


def _is_of_an_end(answer: Answer) -> bool:
    """Say whether an answer is that the whole namespace is about to go."""
    return answer.status == HTTPStatus.FORBIDDEN and "NamespaceTerminating" in _causes(answer)


def _is_about_fields(answer: Answer) -> bool:
    return set(_causes(answer)) == {"FieldManagerConflict"}


def _causes(answer: Answer) -> list[str]:
    details = answer.body.get("details") if isinstance(answer.body, Mapping) else None
    return [each.get("reason", "") for each in (details or {}).get("causes") or ()]


def _written(limits: Limits) -> dict[str, str]:
    texts = {
        "cpu": None if limits.cpu_milli is None else f"{limits.cpu_milli}m",
        "memory": None if limits.memory_bytes is None else str(limits.memory_bytes),
    }
    return {name: text for name, text in texts.items() if text is not None}
