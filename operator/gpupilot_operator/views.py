"""What the operator keeps of each object it watches: pure, and no more than it decides by."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from sys import intern
from typing import Any

from pydantic import ValidationError

from gpupilot_envs.errors import SpecInvalid
from gpupilot_operator import naming
from gpupilot_operator.granted import GRANTED
from gpupilot_operator.packed import NOTHING, Packed, pack
from gpupilot_operator.quantities import milli, whole
from gpupilot_operator.service import SERVICE_LABEL, SHARE_LABEL, Service, parse_service
from gpupilot_operator.status_fields import InferenceServiceStatus
from gpupilot_operator.troubles import UNSCHEDULABLE, failure, trouble

TRITON = "triton"
"""The container that serves."""
BATCHING = f"{naming.GROUP}/batching"
"""Annotation of a pod: how its server was told to serve."""
KSERVE = "serving.kserve.io"

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """Which object: unique among those of its kind.

    Attributes:
        namespace: Where.
        name: Its name there.
    """

    namespace: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """An InferenceService as it stands.

    Attributes:
        at: Which.
        uid: Tells it from a later one of the same name.
        generation: Counts changes of its spec.
        service: What it asks; ``None`` where its spec cannot be read.
        invalid: What is wrong with its spec, ``None`` where nothing is.
        status: Its status.
        annotations: Its annotations.
    """

    at: Name
    uid: str
    generation: int
    service: Service | None
    invalid: str | None
    status: InferenceServiceStatus
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of the container that serves; ``None`` where it has none.

    Attributes:
        cpu_milli: Thousandths of a core.
        memory_bytes: Bytes.
    """

    cpu_milli: int | None
    memory_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A Deployment.

    Attributes:
        at: Which.
        uid: Tells it from a later one of the same name.
        owner_uid: Who controls it.
        created: When, in a form that sorts.
        service: The service it belongs to by its label.
        share_milli: The share its pods hold, by its label.
        replicas: Pods asked for.
        pods: Pods there are.
        ready: Pods that answer.
        container: The container that serves.
        limits: Its limits.
        failure: Why no pods can be made, in Kubernetes' words; ``None`` where they can.
        granted: The annotation that says what its pods were granted.
        kserve: The KServe service it is the predictor of.
        is_external: Whether KServe leaves its replicas to others.
        kept: The object, without status and bookkeeping, where it is ours.
    """

    at: Name
    uid: str
    owner_uid: str | None
    created: str
    service: str | None
    share_milli: int | None
    replicas: int
    pods: int
    ready: int
    container: str
    limits: Limits
    failure: str | None
    granted: str | None
    kserve: str | None
    is_external: bool
    kept: Packed = field(repr=False)

    @property
    def body(self) -> Body:
        """The object as it was kept."""
        return self.kept.opened()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod of a service of ours.

    Attributes:
        at: Which.
        service: The service it belongs to.
        share_milli: The share it holds.
        ready: Whether it answers.
        unschedulable: Whether no node has room for it.
        trouble: Why it does not answer, in one of Kubernetes' words; ``None`` where it does, or
            may soon.
        ending: Whether it was told to end, or has ended.
        address: Its IP, ``None`` before it has one.
        limits: Of the container that serves.
        requests: Of the same.
        instance: Names the run of its server: another one has forgotten what it was told.
        told: What its server was told: the annotation.
    """

    at: Name
    service: str
    share_milli: int | None
    ready: bool
    unschedulable: bool
    trouble: str | None
    ending: bool
    address: str | None
    limits: Limits
    requests: Limits
    instance: str | None
    told: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaler:
    """Somebody else who sets replicas.

    Attributes:
        at: The HorizontalPodAutoscaler.
        says: Who it is to its user, such as ``ScaledObject/shop``.
        kind: Kind of what it scales.
        target: Name of what it scales.
    """

    at: Name
    says: str
    kind: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """A ConfigMap with files of a service.

    Attributes:
        at: Which.
        service: The service it belongs to.
        files: Its data and binary data.
    """

    at: Name
    service: str
    files: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What the objects of a namespace may ask for together.

    Attributes:
        at: The ResourceQuota.
        hard: The most of each resource, as it is written.
    """

    at: Name
    hard: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Any other object that carries a service.

    Attributes:
        at: Which.
        kind: Its kind.
        owner_uid: Who controls it.
        service: The service it belongs to.
        kept: The object, without status and bookkeeping.
    """

    at: Name
    kind: str
    owner_uid: str | None
    service: str
    kept: Packed = field(repr=False)

    @property
    def body(self) -> Body:
        """The object as it was kept."""
        return self.kept.opened()


def name_of(body: Body) -> Name:
    """Return which object this is."""
    metadata = body["metadata"]
    return Name(namespace=metadata["namespace"], name=metadata["name"])


def version_of(body: Body) -> int:
    """Return how late this state of an object is; they compare (KEP-5504), also between objects."""
    return int(body["metadata"]["resourceVersion"])


def resource(body: Body) -> Resource:
    """Return what is kept of an InferenceService."""
    metadata = body["metadata"]
    service, invalid = None, None
    try:
        service = parse_service({**body, "spec": _shared(body["spec"])})
    except SpecInvalid as error:
        invalid = str(error)
    return Resource(
        at=name_of(body),
        uid=metadata["uid"],
        generation=metadata["generation"],
        service=service,
        invalid=invalid,
        status=_status(body),
        annotations=dict(metadata.get("annotations") or {}),
    )


def _status(body: Body) -> InferenceServiceStatus:
    """Return a status; one that an older or newer operator wrote otherwise is written anew."""
    try:
        return InferenceServiceStatus.model_validate(_shared(body.get("status") or {}))
    except ValidationError:
        return InferenceServiceStatus()


def deployment(body: Body) -> Deployment:
    """Return what is kept of a Deployment."""
    metadata, spec, status = body["metadata"], body["spec"], body.get("status") or {}
    labels = metadata.get("labels") or {}
    notes = metadata.get("annotations") or {}
    template = spec["template"]
    container = _serving(template["spec"]["containers"])
    external = {**((template.get("metadata") or {}).get("annotations") or {}), **notes}
    ours = SERVICE_LABEL in labels
    return Deployment(
        at=name_of(body),
        uid=metadata["uid"],
        owner_uid=_controller(metadata),
        created=metadata["creationTimestamp"],
        service=labels.get(SERVICE_LABEL),
        share_milli=_share(labels),
        replicas=spec.get("replicas", 1),
        pods=status.get("replicas", 0),
        ready=status.get("readyReplicas", 0),
        container=container["name"],
        limits=_limits(container, "limits"),
        failure=failure(status),
        granted=notes.get(GRANTED),
        kserve=_predictor_of(template),
        is_external=external.get(f"{KSERVE}/autoscalerClass") == "external",
        kept=_lean(body) if ours else NOTHING,
    )


def pod(body: Body) -> Pod:
    """Return what is kept of a pod."""
    metadata, status = body["metadata"], body.get("status") or {}
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    container = _serving(body["spec"]["containers"])
    running = _serving(status.get("containerStatuses") or ({},), container["name"])
    placed = conditions.get("PodScheduled", {})
    return Pod(
        at=name_of(body),
        service=metadata["labels"][SERVICE_LABEL],
        share_milli=_share(metadata["labels"]),
        ready=conditions.get("Ready", {}).get("status") == "True",
        unschedulable=placed.get("reason") == UNSCHEDULABLE,
        trouble=trouble(status),
        ending="deletionTimestamp" in metadata or status.get("phase") in ("Succeeded", "Failed"),
        address=status.get("podIP"),
        limits=_limits(container, "limits"),
        requests=_limits(container, "requests"),
        instance=running.get("containerID"),
        told=(metadata.get("annotations") or {}).get(BATCHING),
    )


def scaler(body: Body) -> Scaler:
    """Return what is kept of a HorizontalPodAutoscaler; KEDA makes one for a ScaledObject."""
    at, target = name_of(body), body["spec"]["scaleTargetRef"]
    owners = body["metadata"].get("ownerReferences") or ()
    maker = next((each for each in owners if each["kind"] == "ScaledObject"), None)
    says = (
        f"HorizontalPodAutoscaler/{at.name}" if maker is None else f"ScaledObject/{maker['name']}"
    )
    return Scaler(at=at, says=says, kind=target["kind"], target=target["name"])


def files(body: Body) -> Files:
    """Return what is kept of a ConfigMap."""
    texts = {key: text.encode() for key, text in (body.get("data") or {}).items()}
    others = {key: base64.b64decode(text) for key, text in (body.get("binaryData") or {}).items()}
    return Files(
        at=name_of(body),
        service=body["metadata"]["labels"][SERVICE_LABEL],
        files={**texts, **others},
    )


def quota(body: Body) -> Quota:
    """Return what is kept of a ResourceQuota."""
    return Quota(at=name_of(body), hard=dict(body["spec"].get("hard") or {}))


def part(body: Body) -> Part:
    """Return what is kept of any other object that carries a service."""
    metadata = body["metadata"]
    return Part(
        at=name_of(body),
        kind=body["kind"],
        owner_uid=_controller(metadata),
        service=metadata["labels"][SERVICE_LABEL],
        kept=_lean(body),
    )


def _serving(containers: Any, name: str = TRITON) -> Any:
    """Return the container that serves: Triton's, else the first."""
    return next((each for each in containers if each.get("name") == name), containers[0])


def _limits(container: Body, which: str) -> Limits:
    said = (container.get("resources") or {}).get(which) or {}
    return Limits(cpu_milli=milli(said.get("cpu")), memory_bytes=whole(said.get("memory")))


def _share(labels: Mapping[str, str]) -> int | None:
    text = labels.get(SHARE_LABEL, "")
    return int(text) if text.isdecimal() else None


def _predictor_of(template: Body) -> str | None:
    """Return the KServe service whose predictor a pod template is."""
    labels = (template.get("metadata") or {}).get("labels") or {}
    name: str | None = labels.get(f"{KSERVE}/inferenceservice")
    return name if labels.get("component") == "predictor" else None


def _controller(metadata: Body) -> str | None:
    owners = metadata.get("ownerReferences") or ()
    return next((each["uid"] for each in owners if each.get("controller")), None)


def _lean(body: Body) -> Packed:
    """Return an object without what is never compared, which is most of it."""
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    kept = {key: value for key, value in body.items() if key != "status"}
    return pack({**kept, "metadata": metadata})


def _shared(part: Any) -> Any:
    """Return plain data with every text kept once: a thousand services say mostly the same."""
    if isinstance(part, str):
        return intern(part)
    if isinstance(part, dict):
        return {intern(key): _shared(value) for key, value in part.items()}
    return [_shared(each) for each in part] if isinstance(part, list) else part
