"""The kinds of objects the operator reads and writes, each with where the API server has it."""

from __future__ import annotations

from dataclasses import dataclass

from gpupilot_operator import naming
from gpupilot_operator.service import SERVICE_LABEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of namespaced object.

    Attributes:
        api_version: As manifests name it: ``apps/v1``.
        kind: As manifests name it: ``Deployment``.
        plural: As addresses and roles name it: ``deployments``.
        selector: Which objects of it concern us; empty where all do.
    """

    api_version: str
    kind: str
    plural: str
    selector: str = ""

    @property
    def group(self) -> str:
        """The API group, empty for the core."""
        group, _, version = self.api_version.rpartition("/")
        return group if version else ""

    def path(self, namespace: str | None, name: str | None = None, sub: str | None = None) -> str:
        """Return the address of a list, of an object, or of a part of one.

        Args:
            namespace: Where; ``None`` is everywhere.
            name: Of the object; ``None`` is the list.
            sub: A subresource such as ``scale``.
        """
        root = "/apis" if self.group else "/api"
        where = "" if namespace is None else f"/namespaces/{namespace}"
        last = "".join(f"/{each}" for each in (name, sub) if each is not None)
        return f"{root}/{self.api_version}{where}/{self.plural}{last}"


INFERENCE_SERVICE = Kind(api_version=naming.API_VERSION, kind=naming.KIND, plural=naming.PLURAL)
DEPLOYMENT = Kind(api_version="apps/v1", kind="Deployment", plural="deployments")
"""All of them: those that are adopted carry no label of ours."""
POD = Kind(api_version="v1", kind="Pod", plural="pods", selector=SERVICE_LABEL)
AUTOSCALER = Kind(
    api_version="autoscaling/v2",
    kind="HorizontalPodAutoscaler",
    plural="horizontalpodautoscalers",
)
"""All of them: one that scales the same Deployment carries no label of ours."""
CONFIG_MAP = Kind(api_version="v1", kind="ConfigMap", plural="configmaps", selector=SERVICE_LABEL)
QUOTA = Kind(api_version="v1", kind="ResourceQuota", plural="resourcequotas")
"""All of them: they bound what the services of a namespace may hold together."""
SERVICE = Kind(api_version="v1", kind="Service", plural="services", selector=SERVICE_LABEL)
BUDGET = Kind(
    api_version="policy/v1",
    kind="PodDisruptionBudget",
    plural="poddisruptionbudgets",
    selector=SERVICE_LABEL,
)
MONITOR = Kind(
    api_version="monitoring.coreos.com/v1",
    kind="ServiceMonitor",
    plural="servicemonitors",
    selector=SERVICE_LABEL,
)
LEASE = Kind(api_version="coordination.k8s.io/v1", kind="Lease", plural="leases")
EVENT = Kind(api_version="events.k8s.io/v1", kind="Event", plural="events")

ALWAYS = (INFERENCE_SERVICE, DEPLOYMENT, POD, AUTOSCALER, CONFIG_MAP, QUOTA, SERVICE, BUDGET)
"""What the store is fed with on every cluster."""
WITH_MONITORS = (*ALWAYS, MONITOR)
"""What it is fed with where the Prometheus operator's types are: nothing else can be watched."""
BY_KIND = {each.kind: each for each in WITH_MONITORS}
