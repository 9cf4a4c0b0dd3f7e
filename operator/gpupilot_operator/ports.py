"""What the control loop needs of the outside: the only doors of one tick.

Real ones stand in the edge modules (``kube``, ``metrics``, ``exporter``); the loop itself is handed
data and time, and everything between reading and writing is pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.live import LiveReading
from gpupilot_operator.plan import Plan
from gpupilot_operator.service import Service
from gpupilot_operator.status_fields import InferenceServiceStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefacts:
    """Files a service refers to, as its ConfigMaps hold them; ``None`` where there is none.

    Attributes:
        profile: A service profile of its own, YAML.
        bundle: A policy bundle of its own.
        proof: The newest answer of the gate, JSON.
    """

    profile: bytes | None = None
    bundle: bytes | None = None
    proof: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One service as the cluster shows it: from watches, no request is made to read it.

    Attributes:
        service: The resource.
        status: Its status as it stands.
        running: What it runs with: the replicas its Deployment asks for, limits as the pods have
            them.
        ready: Pods that answer.
        pending: Pods that do not yet.
        unschedulable: Pods for which no node has room.
        annotations: Of the resource: pause, override and the like.
        set_by_hand: A count asked for by ``kubectl scale``; ``None`` where none is set.
        other_writer: Who else sets the replicas, such as ``HorizontalPodAutoscaler/shop``.
        artefacts: Files it refers to.
    """

    service: Service
    status: InferenceServiceStatus
    running: Allocation
    ready: int
    pending: int = 0
    unschedulable: int = 0
    annotations: Mapping[str, str] = field(default_factory=dict)
    set_by_hand: int | None = None
    other_writer: str | None = None
    artefacts: Artefacts = field(default=Artefacts())


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is to be changed of one service.

    Attributes:
        seen: The service as it was when this was decided.
        plan: What is to be changed.
    """

    seen: Seen
    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something worth an event: few, typed, on change only.

    Attributes:
        reason: One CamelCase word.
        message: One sentence.
        warning: Whether a person should look.
    """

    reason: str
    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """What is to be told of one service.

    Attributes:
        service: The resource.
        patch: Merge patch of its status subresource; ``None`` where nothing differs.
        events: Events, oldest first.
    """

    service: Service
    patch: Mapping[str, Any] | None = None
    events: tuple[Event, ...] = ()


class Cluster(Protocol):
    """The Kubernetes API; its failures of single services are answers, never exceptions."""

    def services(self) -> tuple[Seen, ...]:
        """Return all services, from watches."""
        ...

    def carry_out(self, changes: Sequence[Change]) -> Mapping[str, str | None]:
        """Make the changes side by side; return by key what went wrong, ``None`` where nothing.

        A change that failed is not tried again here: the next tick decides anew.
        """
        ...

    def tell(self, tellings: Sequence[Telling]) -> Mapping[str, str | None]:
        """Patch status and post events side by side; return by key what went wrong."""
        ...


class Metrics(Protocol):
    """Prometheus, in a constant number of queries for all services."""

    def read(self, services: Sequence[Service], at_s: float) -> Mapping[str, LiveReading]:
        """Return the reading of each service by key.

        Raises:
            MetricsUnavailable: Prometheus does not answer; a service without series is no error.
        """
        ...
