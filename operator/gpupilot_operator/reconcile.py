"""From what the cluster shows of a service to what has to be done about it: pure, level-triggered.

Two who may ask for something meet here: the resource (:func:`reconciled`) and a decision of the
control loop (:func:`carried`). What was done already yields nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from gpupilot_envs.errors import ChangeRefused
from gpupilot_operator import manifests
from gpupilot_operator.conditions import written
from gpupilot_operator.drift import differences, stamped
from gpupilot_operator.granted import granted, preferred
from gpupilot_operator.known import Known, generation
from gpupilot_operator.plan import Plan
from gpupilot_operator.pod import START_MINUTES, Platform
from gpupilot_operator.pods import brought
from gpupilot_operator.service import Service
from gpupilot_operator.share import Shift, grown
from gpupilot_operator.spec_gpu import Gpu
from gpupilot_operator.steps import Grant, Make, Remove, Repair, Scale, Step
from gpupilot_operator.views import Body, Deployment, Name

START_MOST = timedelta(minutes=START_MINUTES)
"""A share whose pods have not all answered within this time is given up."""


def reconciled(known: Known, platform: Platform, now: datetime) -> tuple[Step, ...]:
    """Return what brings the objects of a service to what its resource asks.

    Args:
        known: What the cluster shows of it.
        platform: What the cluster has and allows.
        now: In UTC.
    """
    if known.service.spec.predictor.model is None:
        return ()
    now_serving = known.shift
    return (
        *_objects(known, platform, now_serving),
        *_bounded(known),
        *_left(known, now_serving, now),
        *_granted(known),
    )


def carried(known: Known, plan: Plan, platform: Platform) -> tuple[Step, ...]:
    """Return what carries out a decision.

    Args:
        known: What the cluster shows of the service.
        plan: What is to be changed of what runs.
        platform: What the cluster has and allows.

    Raises:
        ChangeRefused: It cannot be carried out now; says why.
    """
    newest = known.newest
    if newest is None:
        raise ChangeRefused("nothing runs that could be changed")
    if known.target is not None:
        return _adopted(newest, plan)
    if plan.share_milli is not None and plan.share_milli != newest.share_milli:
        return _shared(known, newest, plan, plan.share_milli, platform)
    beside = _beside(known)
    if beside is not None and plan.replicas is not None and plan.replicas > newest.replicas:
        return _grown(known, beside, newest, plan, plan.replicas)
    return _changed(known, newest, plan)


def _changed(known: Known, newest: Deployment, plan: Plan) -> tuple[Step, ...]:
    """Return what changes the newest pods, their share left as it is."""
    scaled = () if plan.replicas is None else (_scale(newest, plan.replicas),)
    if plan.resize is None and plan.batching is None:
        return scaled
    given = known.granted.and_then(plan)
    pods = [each for each in known.pods if each.share_milli == newest.share_milli]
    return (
        *scaled,
        Grant(at=newest.at, granted=given),
        *brought(pods, given, model_name(known.service), preferred(known.service.spec.predictor)),
    )


def model_name(service: Service) -> str:
    """Return the model's name in Triton's repository."""
    model = service.spec.predictor.model
    return service.name if model is None or model.name is None else model.name


def first_share(gpu: Gpu, near_milli: int | None = None) -> int:
    """Return the share a service begins with: the largest, or the smallest that is enough.

    Args:
        gpu: What a spec says of shares.
        near_milli: A share that was held and is no longer offered.
    """
    enough = [share for share in gpu.offered if near_milli is not None and share >= near_milli]
    return enough[0] if enough else gpu.offered[-1]


def _objects(known: Known, platform: Platform, now_serving: Shift) -> Iterator[Step]:
    """Yield what makes or repairs the objects, in the order in which they need each other."""
    service, gpu = known.service, known.service.spec.gpu
    serving = now_serving.serving_milli
    shares = [serving, now_serving.starting_milli]
    offered = [share for share in shares if share in gpu.offered]
    if not offered:
        offered = [first_share(gpu, serving)]
    for share in offered:
        manifest = manifests.deployment(service, platform, share)
        yield from _begun(known, manifest)
    front = offered[0] if serving is None else serving
    for manifest in manifests.around(service, platform, front):
        yield from _one(manifest, _live(known, manifest))


def _begun(known: Known, manifest: Mapping[str, Any]) -> Iterator[Step]:
    """Yield what makes or repairs a Deployment; one beside others is then said to be complete."""
    live = _live(known, manifest)
    yield from _one(manifest, live, _begin_with(known))
    if live is None and known.owned:
        metadata = manifest["metadata"]
        at = Name(namespace=metadata["namespace"], name=metadata["name"])
        yield Grant(at=at, granted=known.granted)


def _one(
    manifest: Mapping[str, Any], live: Body | None, replicas: int | None = None
) -> Iterator[Step]:
    wanted = stamped(manifest)
    if live is None:
        yield Make(manifest=wanted, replicas=replicas)
    elif paths := differences(wanted, live):
        yield Repair(manifest=wanted, paths=paths)


def _live(known: Known, manifest: Mapping[str, Any]) -> Body | None:
    name = manifest["metadata"]["name"]
    if manifest["kind"] == "Deployment":
        return next((each.body for each in known.owned if each.at.name == name), None)
    found = known.parts.get((manifest["kind"], name))
    ours = found is not None and found.owner_uid == known.service.uid
    return found.body if found is not None and ours else None


def _begin_with(known: Known) -> int:
    """Return how many pods a Deployment begins with: as many as run, else the fewest allowed."""
    predictor = known.service.spec.predictor
    if known.newest is not None:
        return known.newest.replicas
    return predictor.replicas or predictor.min_replicas


def _bounded(known: Known) -> Iterator[Step]:
    """Yield what raises a Deployment of ours to the fewest pods its resource allows."""
    newest = known.newest
    if newest is None or newest.replicas >= known.least:
        return
    if len(known.owned) == 1 or newest.granted is not None:
        yield _scale(newest, known.least)


def _left(known: Known, now_serving: Shift, now: datetime) -> Iterator[Step]:
    """Yield what takes down the pods of shares that answer no more, or never did."""
    for each in known.owned:
        if each.share_milli in now_serving.leaving_milli:
            yield from _emptied(each)
    newest = known.newest
    if newest is None or now_serving.starting_milli is None:
        return
    # one that was made but never asked for its pods: whoever began it ended in between
    if newest.granted is None or newest.created < written(now - START_MOST):
        yield _remove(newest)


def _emptied(deployment: Deployment) -> Iterator[Step]:
    """Yield the next step to the end of a Deployment; its last pods are waited for."""
    if deployment.replicas:
        yield _scale(deployment, 0)
    elif not deployment.pods:
        yield _remove(deployment)


def _granted(known: Known) -> Iterator[Step]:
    """Yield what brings pods to what their Deployment was granted."""
    predictor = known.service.spec.predictor
    for each in known.owned:
        given = granted(each.granted, predictor)
        pods = [pod for pod in known.pods if pod.share_milli == each.share_milli]
        yield from brought(pods, given, model_name(known.service), preferred(predictor))


def _adopted(target: Deployment, plan: Plan) -> tuple[Step, ...]:
    if plan.share_milli or plan.resize or plan.batching:
        raise ChangeRefused(f"only the replicas of Deployment/{target.at.name} are ours to change")
    return () if plan.replicas is None else (_scale(target, plan.replicas),)


def _shared(
    known: Known, newest: Deployment, plan: Plan, share_milli: int, platform: Platform
) -> tuple[Step, ...]:
    """Return what begins a change of share, or gives up one that has not taken over yet."""
    now_serving, service = known.shift, known.service
    if now_serving.starting_milli is not None and share_milli == now_serving.serving_milli:
        back = next(each for each in known.owned if each.share_milli == share_milli)
        wanted = back.replicas if plan.replicas is None else plan.replicas
        return (_scale(back, wanted), _remove(newest))
    if len(known.owned) > 1:
        raise ChangeRefused("the last change of share is still under way")
    replicas = newest.replicas if plan.replicas is None else plan.replicas
    given = known.granted.and_then(plan)
    at = Name(namespace=service.namespace, name=manifests.deployment_name(service, share_milli))
    manifest = stamped(manifests.deployment(service, platform, share_milli))
    return (Make(manifest=manifest, replicas=replicas), Grant(at=at, granted=given))


def _beside(known: Known) -> Deployment | None:
    """Return the Deployment that serves while another share starts, ``None`` in no such change."""
    now_serving = known.shift
    if now_serving.starting_milli is None:
        return None
    return next(each for each in known.owned if each.share_milli == now_serving.serving_milli)


def _grown(
    known: Known, serving: Deployment, starting: Deployment, plan: Plan, wanted: int
) -> tuple[Step, ...]:
    """Return what answers a load that grows while a share starts, or gives the change up for it."""
    limits = known.service.spec.limits
    pods = grown(
        generation(serving),
        generation(starting),
        wanted,
        budget_milli=limits.gpu_budget_milli,
        replicas_max=limits.replicas_max,
    )
    more = (_scale(serving, pods.serving),) if pods.serving > serving.replicas else ()
    if pods.starting is None:
        return (_remove(starting), *more)
    # those that serve first: what fails then leaves the decision to be carried out again
    return (*more, *_changed(known, starting, plan))


def _scale(deployment: Deployment, wanted: int) -> Scale:
    return Scale(at=deployment.at, seen=deployment.replicas, wanted=wanted)


def _remove(deployment: Deployment) -> Remove:
    version = deployment.body["metadata"]["resourceVersion"]
    return Remove(at=deployment.at, uid=deployment.uid, version=version)
