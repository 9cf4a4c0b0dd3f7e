"""One resource as the operator works with it: who it is and what it asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpupilot_operator import naming
from gpupilot_operator.spec import InferenceServiceSpec, parse_spec

SERVICE_LABEL = f"{naming.GROUP}/service"
SHARE_LABEL = f"{naming.GROUP}/share-milli"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """An InferenceService.

    Attributes:
        namespace: Where it is.
        name: Its name, and that of the Service in front of it.
        uid: Tells it from a later one of the same name.
        generation: Counts changes of its spec.
        spec: What it asks.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    spec: InferenceServiceSpec

    @property
    def key(self) -> str:
        """What names it in the whole cluster: ``namespace/name``."""
        return f"{self.namespace}/{self.name}"

    @property
    def has_gateway(self) -> bool:
        """Whether its pods have a gateway of ours."""
        predictor = self.spec.predictor
        return predictor.model is not None and predictor.gateway.enabled

    @property
    def owner(self) -> dict[str, Any]:
        """The reference by which what is made for it goes with it."""
        return {
            "apiVersion": naming.API_VERSION,
            "kind": naming.KIND,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }

    @property
    def labels(self) -> dict[str, str]:
        """Labels of everything made for it, as Kubernetes recommends them."""
        return {
            "app.kubernetes.io/name": "triton",
            "app.kubernetes.io/instance": self.name,
            "app.kubernetes.io/component": "predictor",
            "app.kubernetes.io/part-of": "gpupilot",
            "app.kubernetes.io/managed-by": "gpupilot",
        }

    def selector(self, share_milli: int | None = None) -> dict[str, str]:
        """Return the labels that select its pods: all, or those of one share."""
        every = {SERVICE_LABEL: self.name}
        return every if share_milli is None else {**every, SHARE_LABEL: str(share_milli)}


def parse_service(body: Mapping[str, Any]) -> Service:
    """Return a resource as the API server gives it.

    Raises:
        SpecInvalid: It was stored past the schema; names the field.
    """
    spec = parse_spec(body)
    metadata = body["metadata"]
    return Service(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata["generation"],
        spec=spec,
    )
