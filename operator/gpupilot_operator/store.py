"""The cluster as watches tell it, kept in memory: what every decision is made from.

Told in any order, late or twice, it comes to the same state; nothing in it has to be remembered
over a restart.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from gpupilot_operator import adopt, kinds, views
from gpupilot_operator.adopt import Target
from gpupilot_operator.kinds import Kind
from gpupilot_operator.known import Known, seen
from gpupilot_operator.ports import Seen
from gpupilot_operator.service import Service
from gpupilot_operator.shelf import Shelf
from gpupilot_operator.views import (
    Deployment,
    Files,
    Name,
    Part,
    Pod,
    Quota,
    Resource,
    Scaler,
)

DELETED = "DELETED"
"""What a watch says of an object that went."""

Group = tuple[str, ...]


class Store:
    """Everything that was told; may be shared by threads."""

    def __init__(self) -> None:
        """Begin with nothing known."""
        self._lock = threading.Lock()
        self._resources = Shelf[Resource](_of_resource)
        self._deployments = Shelf[Deployment](_of_deployment)
        self._pods = Shelf[Pod](lambda each: [(each.at.namespace, each.service)])
        self._scalers = Shelf[Scaler](lambda each: [(each.at.namespace, each.kind, each.target)])
        self._files = Shelf[Files](lambda each: [(each.at.namespace, each.service)])
        self._quotas = Shelf[Quota](lambda each: [each.at.namespace])
        self._parts = {
            kind.kind: Shelf[Part](lambda each: [(each.at.namespace, each.service)])
            for kind in (kinds.SERVICE, kinds.BUDGET, kinds.MONITOR)
        }
        self._shelves: dict[str, Shelf[Any]] = {
            **self._parts,
            kinds.INFERENCE_SERVICE.kind: self._resources,
            kinds.DEPLOYMENT.kind: self._deployments,
            kinds.POD.kind: self._pods,
            kinds.AUTOSCALER.kind: self._scalers,
            kinds.CONFIG_MAP.kind: self._files,
            kinds.QUOTA.kind: self._quotas,
        }
        self._touched: set[Name] = set()
        self._seen: dict[Name, Seen | None] = {}

    def see(self, kind: Kind, change: str | None, body: Mapping[str, Any]) -> None:
        """Take in one event of a watch, or one object of a list.

        Args:
            kind: Of the object.
            change: What the watch says of it, ``None`` for an object of a list.
            body: The object.
        """
        at, version, gone = views.name_of(body), views.version_of(body), change == DELETED
        with self._lock:
            shelf = self._shelf(kind)
            view = None if gone else _VIEWS.get(kind.kind, views.part)(body)
            before, changed = shelf.put(at, version, view)
            if changed:
                self._touch(each for each in (before, view) if each is not None)

    def keep(self, kind: Kind, there: Collection[Name], version: int) -> None:
        """Let go of objects that a list did not name: nobody told that they went.

        Args:
            kind: What was listed.
            there: Every object that was named.
            version: Of the list.
        """
        with self._lock:
            self._touch(self._shelf(kind).keep(there, version))

    def services(self) -> tuple[Seen, ...]:
        """Return every service that something runs for, by name."""
        with self._lock:
            found = [self._see(each.at) for each in self._resources.views()]
        there = [each for each in found if each is not None]
        return tuple(sorted(there, key=lambda each: each.service.key))

    def names(self) -> list[Name]:
        """Return every resource, whatever its state."""
        with self._lock:
            return [each.at for each in self._resources.views()]

    def resource(self, at: Name) -> Resource | None:
        """Return a resource as it stands, ``None`` where there is none."""
        with self._lock:
            return self._resources.get(at)

    def known(self, at: Name) -> Known | None:
        """Return all that is known of a service; ``None`` where its spec cannot be read."""
        with self._lock:
            found = self._resources.get(at)
            if found is None or found.service is None:
                return None
            return self._known(found, found.service)

    def touched(self) -> set[Name]:
        """Return the services of which anything changed since this was last asked."""
        with self._lock:
            found, self._touched = self._touched, set()
            return found

    def _shelf(self, kind: Kind) -> Shelf[Any]:
        return self._shelves[kind.kind]

    def _touch(self, changed: Iterable[Any]) -> None:
        for view in changed:
            for at in self._concerned(view):
                self._touched.add(at)
                self._seen.pop(at, None)

    def _concerned(self, view: Any) -> Iterable[Name]:
        """Return the services that an object says something of."""
        namespace = view.at.namespace
        if isinstance(view, Resource):
            return [view.at, *(each.at for each in self._rivals(view.service))]
        if isinstance(view, Deployment):
            return self._scaled_by_us(view)
        if isinstance(view, Scaler):
            return self._scaled_by(view)
        if isinstance(view, Quota):
            return [each.at for each in self._resources.of(namespace)]
        if isinstance(view, Files):
            # a spec may name a ConfigMap that is labelled with another service
            return [each.at for each in self._resources.of(("files", namespace, view.at.name))] + [
                Name(namespace=namespace, name=view.service)
            ]
        return [Name(namespace=namespace, name=view.service)]

    def _scaled_by_us(self, view: Deployment) -> list[Name]:
        found = [each.at for target in adopt.names(view) for each in self._resources.of(target)]
        if view.service is not None:
            found.append(Name(namespace=view.at.namespace, name=view.service))
        return found

    def _scaled_by(self, view: Scaler) -> list[Name]:
        namespace = view.at.namespace
        if view.kind == kinds.DEPLOYMENT.kind:
            target = self._deployments.get(Name(namespace=namespace, name=view.target))
            return [] if target is None else self._scaled_by_us(target)
        found = self._resources.of(Target(namespace=namespace, kind=view.kind, name=view.target))
        return [*(each.at for each in found), Name(namespace=namespace, name=view.target)]

    def _see(self, at: Name) -> Seen | None:
        if at not in self._seen:
            found = self._resources.get(at)
            service = None if found is None else found.service
            self._seen[at] = (
                None if found is None or service is None else seen(self._known(found, service))
            )
        return self._seen[at]

    def _known(self, found: Resource, service: Service) -> Known:
        group = (service.namespace, service.name)
        target = self._target(service)
        pods, parts = self._pods.of(group), self._parts.values()
        owned = [each for each in self._deployments.of(group) if each.owner_uid == service.uid]
        return Known(
            service=service,
            status=found.status,
            annotations=found.annotations,
            owned=tuple(sorted(owned, key=lambda each: (each.created, each.at.name))),
            target=target,
            pods=tuple(pods),
            parts={(each.kind, each.at.name): each for shelf in parts for each in shelf.of(group)},
            other_writer=self._other_writer(service, target, owned),
            quotas=tuple(each.hard for each in self._quotas.of(service.namespace)),
            files=tuple(self._files_of(service)),
        )

    def _target(self, service: Service) -> Deployment | None:
        wanted = adopt.target(service)
        if wanted is None:
            return None
        found = self._deployments.of(wanted)
        return found[0] if found else None

    def _other_writer(
        self, service: Service, target: Deployment | None, owned: Collection[Deployment]
    ) -> str | None:
        """Return who else sets the replicas: of our Deployments, the target, or the resource."""
        scaled = [*owned, *(() if target is None else (target,))]
        groups: list[Group] = [
            (service.namespace, kinds.DEPLOYMENT.kind, each.at.name) for each in scaled
        ]
        groups.append((service.namespace, kinds.INFERENCE_SERVICE.kind, service.name))
        reference = service.spec.predictor.target_ref
        if reference is not None:
            groups.append((service.namespace, reference.kind.value, reference.name))
        found = [each.says for group in groups for each in self._scalers.of(group)]
        found += [f"InferenceService/{each.at.name}" for each in self._rivals(service)]
        return min(found) if found else adopt.conflict(target)

    def _rivals(self, service: Service | None) -> list[Resource]:
        """Return other resources that scale the same target."""
        wanted = None if service is None else adopt.target(service)
        found = [] if wanted is None else self._resources.of(wanted)
        return [each for each in found if service is None or each.at.name != service.name]

    def _files_of(self, service: Service) -> Iterable[Files]:
        yield from self._files.of((service.namespace, service.name))
        for name in adopt.file_names(service):
            found = self._files.get(Name(namespace=service.namespace, name=name))
            if found is not None and found.service != service.name:
                yield found


def _of_resource(view: Resource) -> Iterable[Any]:
    if view.service is None:
        return []
    wanted = adopt.target(view.service)
    names = [("files", view.at.namespace, name) for name in adopt.file_names(view.service)]
    return [view.at.namespace, *names, *(() if wanted is None else (wanted,))]


def _of_deployment(view: Deployment) -> Iterable[Any]:
    own = [] if view.service is None else [(view.at.namespace, view.service)]
    return [*own, *adopt.names(view)]


_VIEWS: dict[str, Any] = {
    kinds.INFERENCE_SERVICE.kind: views.resource,
    kinds.DEPLOYMENT.kind: views.deployment,
    kinds.POD.kind: views.pod,
    kinds.AUTOSCALER.kind: views.scaler,
    kinds.CONFIG_MAP.kind: views.files,
    kinds.QUOTA.kind: views.quota,
}
