"""What is scaled without being owned: how a service's target is found, and whose it is: pure.

A KServe service in Standard (RawDeployment) mode runs its predictor as a Deployment whose pods are
labelled with it; with ``serving.kserve.io/autoscalerClass: external`` KServe makes no autoscaler
and, from 0.15.1 on, leaves the Deployment's replicas alone (kserve ``deployment_reconciler.go``;
before, it set them back to ``minReplicas``, as ``none`` does now).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gpupilot_operator.service import Service
from gpupilot_operator.spec_predictor import TargetKind
from gpupilot_operator.views import KSERVE, Deployment


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a service may point to.

    Attributes:
        namespace: Where.
        kind: Its kind.
        name: Its name.
    """

    namespace: str
    kind: str
    name: str


def target(service: Service) -> Target | None:
    """Return what a service scales without owning it, ``None`` where it runs a model itself."""
    said = service.spec.predictor.target_ref
    if said is None:
        return None
    return Target(namespace=service.namespace, kind=said.kind.value, name=said.name)


def names(deployment: Deployment) -> Iterable[Target]:
    """Return the names by which a service may point to a Deployment."""
    at = deployment.at
    yield Target(namespace=at.namespace, kind=TargetKind.DEPLOYMENT.value, name=at.name)
    if deployment.kserve is not None:
        kind = TargetKind.INFERENCE_SERVICE.value
        yield Target(namespace=at.namespace, kind=kind, name=deployment.kserve)


def conflict(found: Deployment | None) -> str | None:
    """Return who else sets a target's replicas by what it is, ``None`` where nobody does."""
    if found is None:
        return None
    if found.service is not None:
        return f"InferenceService/{found.service}, which owns Deployment/{found.at.name},"
    if found.kserve is not None and not found.is_external:
        return f"KServe, without {KSERVE}/autoscalerClass: external on InferenceService/" + (
            found.kserve
        )
    return None


def file_names(service: Service) -> tuple[str, ...]:
    """Return the ConfigMaps that a spec names."""
    autoscaling = service.spec.autoscaling
    bundle = () if autoscaling.policy_ref is None else (autoscaling.policy_ref.config_map,)
    profile = () if autoscaling.profile is None else (autoscaling.profile,)
    return (*bundle, *profile)
