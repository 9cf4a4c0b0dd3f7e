"""What the control loop needs of the outside: the only doors of one tick.

Real ones stand in the edge modules (``kube``, ``metrics``, ``exporter``); the loop itself is handed
data and time, and everything between reading and writing is pure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.live_reading import LiveReading
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.signals import Signals
from gpupilot_operator.facts import Grant
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
        quota_milli: GPU that all services of its namespace may hold together, in thousandths, as
            a ResourceQuota says; ``None`` where none does.
        other_writer: Who else sets the replicas, such as ``HorizontalPodAutoscaler/shop``.
        trouble: Why pods do not answer, as far as the cluster says; ``None`` where nothing is
            known to be wrong.
        refused: What has kept its objects from being as it asks for a while.
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
    quota_milli: int | None = None
    other_writer: str | None = None
    trouble: str | None = None
    refused: str | None = None
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
class Failure:
    """Why a change was not carried out, or not whole.

    Attributes:
        said: In a sentence.
        passing: Whether nothing is wrong, and the next decision is simply made on something else.
    """

    said: str
    passing: bool = False


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
        release_hand: Whether the count set by hand has had its time: ``spec.predictor.replicas``
            is to be taken out of the resource.
    """

    service: Service
    patch: Mapping[str, Any] | None = None
    events: tuple[Event, ...] = ()
    release_hand: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """One decision for the log.

    Attributes:
        service: The resource.
        policy: Who decided, by name.
        at_s: When.
        seen: The newest reading before it.
        running: What ran.
        grant: What was asked and granted.
        why: The decision in a clause.
        family: Its algorithm, as comparisons name it.
        profile: What the service costs to run; ``None`` where nobody knows.
        geared: Whether limits and batching could be changed too.
        bundle_sha256: Digest of the learned policy, ``None`` of a classical one.
        observation: What its network saw, float32, in the order of ``observation.FIELDS``.
        logits: Its answer, float32, minus infinity where a value could not be chosen.
        action: Index taken on every axis.
        price: Of a late request, in GPU time per request.
    """

    service: Service
    policy: str
    at_s: float
    seen: Signals
    running: Allocation
    grant: Grant
    why: str
    family: str
    profile: ServiceProfile | None = None
    geared: bool = False
    bundle_sha256: str | None = None
    observation: NDArray[np.float32] | None = None
    logits: NDArray[np.float32] | None = None
    action: NDArray[np.int64] | None = None
    price: float | None = None


class Cluster(Protocol):
    """The Kubernetes API; its failures of single services are answers, never exceptions."""

    def services(self) -> tuple[Seen, ...]:
        """Return all services, from watches."""
        ...

    def unready(self) -> Mapping[str, str]:
        """Return by key every resource that something is wrong with: why, in a CamelCase word.

        Also those for which nothing runs, which are no services yet.
        """
        ...

    def carry_out(self, changes: Sequence[Change]) -> Mapping[str, Failure | None]:
        """Make the changes side by side; return by key what went wrong, ``None`` where nothing.

        A change that failed is not tried again here: the next tick decides anew.
        """
        ...

    def tell(self, tellings: Sequence[Telling]) -> Mapping[str, str | None]:
        """Patch status and post events side by side; return by key what went wrong."""
        ...


class Metrics(Protocol):
    """Prometheus, in a constant number of queries for all services."""

    @property
    def queries(self) -> int:
        """Queries that the last reading of all services took."""
        ...

    def read(self, services: Sequence[Service], at_s: float) -> Mapping[str, LiveReading]:
        """Return the reading of each service by key.

        Raises:
            MetricsUnavailable: Prometheus does not answer; a service without series is no error.
        """
        ...


class DecisionLog(Protocol):
    """Where decisions are kept; what cannot be written is lost and said, never an exception."""

    def note(self, decisions: Sequence[Noted]) -> None:
        """Take in the decisions of one tick."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Everything outside that one tick needs.

    Attributes:
        cluster: Kubernetes.
        metrics: Prometheus.
        log: Where decisions are kept.
        clock: Counts seconds for the durations of a report, and decides nothing.
    """

    cluster: Cluster
    metrics: Metrics
    log: DecisionLog
    clock: Callable[[], float] = time.perf_counter
