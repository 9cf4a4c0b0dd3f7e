"""Everything the cluster shows of one service, put together: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpupilot_envs.allocation import Allocation
from gpupilot_operator.granted import Granted, granted
from gpupilot_operator.ports import Artefacts, Seen
from gpupilot_operator.quantities import whole
from gpupilot_operator.service import Service
from gpupilot_operator.share import Generation, Shift, shift
from gpupilot_operator.spec_autoscaling import Mode
from gpupilot_operator.spec_gpu import WHOLE_GPU_MILLI, Gpu
from gpupilot_operator.spec_predictor import Batcher
from gpupilot_operator.status_fields import InferenceServiceStatus
from gpupilot_operator.views import Deployment, Files, Part, Pod

PROOF = "proof.json"
PROFILE = "profile.yaml"
BUNDLE = "policy.bundle"
_STATED = Allocation(replicas=0)
"""What is assumed where neither the cluster nor the spec says: limits that nobody set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One service and what carries it.

    Attributes:
        service: The resource.
        status: Its status.
        annotations: Its annotations.
        owned: Its Deployments that are ours, oldest first: one, or two in a change of share.
        target: The Deployment it scales without owning it; ``None`` where there is none.
        pods: Its pods that are ours.
        parts: Other objects that carry it, by kind and name.
        other_writer: Who else sets the replicas.
        quotas: What its namespace may ask for, of each resource.
        files: ConfigMaps with files of it.
    """

    service: Service
    status: InferenceServiceStatus
    annotations: Mapping[str, str] = field(default_factory=dict)
    owned: tuple[Deployment, ...] = ()
    target: Deployment | None = None
    pods: tuple[Pod, ...] = ()
    parts: Mapping[tuple[str, str], Part] = field(default_factory=dict)
    other_writer: str | None = None
    quotas: tuple[Mapping[str, Any], ...] = ()
    files: tuple[Files, ...] = ()

    @property
    def newest(self) -> Deployment | None:
        """The Deployment whose pods were asked for last."""
        return self.owned[-1] if self.owned else self.target

    @property
    def least(self) -> int:
        """The fewest pods that are kept, whoever asked for fewer; 0 where that is not ours."""
        spec = self.service.spec
        paused = spec.autoscaling.mode is Mode.PAUSED
        return 0 if paused or self.target is not None else spec.predictor.min_replicas

    @property
    def shift(self) -> Shift:
        """Which share serves, starts and leaves."""
        front = self.parts.get(("Service", self.service.name))
        selector = {} if front is None else front.body["spec"].get("selector") or {}
        return shift([generation(each) for each in self.owned], selector)

    @property
    def granted(self) -> Granted:
        """What the newest pods were granted beyond their template."""
        text = None if self.newest is None else self.newest.granted
        return granted(text, self.service.spec.predictor)


def generation(deployment: Deployment) -> Generation:
    """Return the pods of a Deployment of ours as a change of share takes them."""
    return Generation(
        share_milli=deployment.share_milli or 0,
        replicas=deployment.replicas,
        pods=deployment.pods,
        ready=deployment.ready,
        is_begun=deployment.granted is not None,
    )


def seen(known: Known) -> Seen | None:
    """Return a service as the control loop takes it, ``None`` before anything runs for it."""
    newest = known.newest
    if newest is None:
        return None
    ready, pending, unschedulable = _counted(known)
    return Seen(
        service=known.service,
        status=known.status,
        running=_running(known, newest),
        ready=ready,
        pending=pending,
        unschedulable=unschedulable,
        annotations=known.annotations,
        set_by_hand=known.service.spec.predictor.replicas,
        quota_milli=quota_milli(known.quotas, known.service.spec.gpu),
        other_writer=known.other_writer,
        trouble=trouble(known),
        artefacts=_artefacts(known.service, known.files),
    )


def trouble(known: Known) -> str | None:
    """Return why pods of a service do not answer, as far as the cluster says."""
    newest = known.newest
    if newest is not None and newest.failure is not None:
        return newest.failure
    stuck = [(pod.at.name, pod.trouble) for pod in known.pods if pod.trouble and not pod.ending]
    return ": ".join(min(stuck)) if stuck else None


def quota_milli(quotas: Sequence[Mapping[str, Any]], gpu: Gpu) -> int | None:
    """Return the GPU that the services of a namespace may hold together, in thousandths.

    Args:
        quotas: What the namespace may ask for, of each resource, by ResourceQuota.
        gpu: How a service asks for GPUs; of slices, the largest sum that the quota admits counts.

    Returns:
        The tightest bound, ``None`` where no quota names a resource of the service.
    """
    worth = {gpu.resource_name: WHOLE_GPU_MILLI} | {
        name: share.milli / count
        for share in gpu.shares
        for name, asked in share.resources.items()
        if len(share.resources) == 1 and (count := whole(asked))
    }
    bounds = [
        round(sum(worth[name] * (whole(hard[f"requests.{name}"]) or 0) for name in named))
        for hard in quotas
        if (named := [name for name in worth if f"requests.{name}" in hard])
    ]
    return min(bounds, default=None)


def _running(known: Known, newest: Deployment) -> Allocation:
    """Return what was asked for last: of the cluster, not of what we remember."""
    predictor, given = known.service.spec.predictor, known.granted
    limits, batching = given.resize or newest.limits, given.batching
    batcher, model = predictor.batcher or Batcher(), predictor.model
    stated = 1 if model is None else model.instances
    return Allocation(
        # fewer are raised at once, and nobody is to take that for a decision
        replicas=max(newest.replicas, known.least),
        gpu_share_milli=newest.share_milli or _adopted_share(known.service),
        cpu_milli=limits.cpu_milli or _STATED.cpu_milli,
        memory_bytes=limits.memory_bytes or _STATED.memory_bytes,
        instances_per_replica=batching.instances if batching else stated,
        batch_max=batching.batch_max if batching else batcher.max_batch_size,
        queue_delay_us=(
            batching.queue_delay_us if batching else batcher.max_queue_delay_microseconds
        ),
    )


def _adopted_share(service: Service) -> int:
    """Return the share of a service whose pods are not ours: its spec says one."""
    return service.spec.gpu.max_share_milli or WHOLE_GPU_MILLI


def _counted(known: Known) -> tuple[int, int, int]:
    """Return how many pods answer, do not yet, and have no room."""
    if known.target is not None:
        missing = max(known.target.replicas - known.target.ready, 0)
        return known.target.ready, missing, 0
    serving = known.shift.serving_milli
    alive = [pod for pod in known.pods if not pod.ending]
    ready = sum(pod.ready and pod.share_milli == serving for pod in alive)
    waiting = [pod for pod in alive if not pod.ready]
    return ready, len(waiting), sum(pod.unschedulable for pod in waiting)


def _artefacts(service: Service, maps: Sequence[Files]) -> Artefacts:
    """Return the files a service refers to: those its spec names, else those it is named by."""
    autoscaling = service.spec.autoscaling
    ref = autoscaling.policy_ref
    named = [each for each in maps if each.at.name == autoscaling.profile]
    bundles = [each for each in maps if ref is not None and each.at.name == ref.config_map]
    own = [each for each in maps if each.service == service.name]
    return Artefacts(
        profile=_file(named or own, PROFILE),
        bundle=None if ref is None else _file(bundles, ref.key),
        proof=_file(own, PROOF),
    )


def _file(maps: Sequence[Files], key: str) -> bytes | None:
    return next((each.files[key] for each in maps if key in each.files), None)
