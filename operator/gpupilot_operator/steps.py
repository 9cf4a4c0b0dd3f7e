"""What can be done to the cluster, as data: decided purely, performed by ``actuate``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpupilot_operator.granted import Granted
from gpupilot_operator.plan import Batching
from gpupilot_operator.views import Limits, Name, Pod


@dataclass(frozen=True, slots=True, kw_only=True)
class Make:
    """Make an object that is not known to be there.

    Attributes:
        manifest: What it is to be.
        replicas: Pods to begin with, of a Deployment.
    """

    manifest: Mapping[str, Any]
    replicas: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """Bring an object back to its manifest.

    Attributes:
        manifest: What it is to be.
        paths: Where it differs.
    """

    manifest: Mapping[str, Any]
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Change the replicas of a Deployment, unless somebody else has meanwhile.

    Attributes:
        at: The Deployment.
        seen: Pods it asked for when this was decided.
        wanted: Pods it is to ask for.
    """

    at: Name
    seen: int
    wanted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Remove a Deployment, unless it is another one by now.

    Attributes:
        at: The Deployment.
        uid: Of the one that is meant.
        version: What it was like; another state is left alone. ``None`` takes any.
    """

    at: Name
    uid: str
    version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Write on a Deployment what its pods are granted beyond their template.

    Attributes:
        at: The Deployment.
        granted: What they are granted.
    """

    at: Name
    granted: Granted


@dataclass(frozen=True, slots=True, kw_only=True)
class Resized:
    """Change CPU and memory of a pod that runs.

    Attributes:
        pod: The pod.
        container: The container that serves.
        limits: Its new limits.
        requests: Its new requests.
    """

    pod: Name
    container: str
    limits: Limits
    requests: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Tell the Triton of a pod how to serve, and write on the pod that it was told.

    Attributes:
        pod: The pod, with its address.
        model: The model's name.
        batching: How to serve it.
        preferred: Batch sizes that are sent at once; empty keeps the model's own.
        told: What is written on the pod.
    """

    pod: Pod
    model: str
    batching: Batching
    preferred: tuple[int, ...] = ()
    told: str


Step = Make | Repair | Scale | Remove | Grant | Resized | Load


def performed(step: Step) -> str:
    """Return what was done, as the log tells it."""
    match step:
        case Make():
            return f"made {named(step.manifest)}"
        case Repair():
            return f"repaired {named(step.manifest)}: {', '.join(step.paths)}"
        case Scale():
            return f"scaled Deployment/{step.at.name} from {step.seen} to {step.wanted}"
        case Remove():
            return f"removed Deployment/{step.at.name}"
        case Grant():
            return f"noted on Deployment/{step.at.name} what its pods were granted"
        case Resized():
            return f"resized Pod/{step.pod.name}"
        case Load():
            return f"told the Triton of Pod/{step.pod.at.name} how to serve"


def named(manifest: Mapping[str, Any]) -> str:
    """Return an object's kind and name, such as ``Deployment/shop-1000``."""
    return f"{manifest['kind']}/{manifest['metadata']['name']}"
