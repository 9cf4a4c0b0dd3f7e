"""The leader's record as a Lease of the Kubernetes API."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from gpupilot_envs.errors import ClusterUnavailable
from gpupilot_operator import kinds
from gpupilot_operator.elector import Record
from gpupilot_operator.kube import Answer, Connection, Request


class KubeLeases:
    """Reads and writes one Lease."""

    def __init__(self, connection: Connection, namespace: str, name: str) -> None:
        """Keep the record in a Lease.

        Args:
            connection: One that may always write, and whose requests take less than
                ``RENEW_WITHIN_S`` to fail.
            namespace: Where it is.
            name: Its name.
        """
        self._connection = connection
        self._namespace = namespace
        self._name = name

    def read(self) -> Record | None:
        """Return the record, ``None`` where there is none yet.

        Raises:
            ClusterUnavailable: It cannot be read.
        """
        answer = self._sent("get")
        return None if answer.status == HTTPStatus.NOT_FOUND else record(_there(answer))

    def write(self, wanted: Record) -> Record:
        """Write the record over the state it was read as, or make it; return it as it is now.

        Raises:
            ClusterUnavailable: It was changed meanwhile, or cannot be written.
        """
        verb = "create" if wanted.version is None else "update"
        return record(_there(self._sent(verb, lease(wanted, self._namespace, self._name))))

    def _sent(self, verb: str, body: Mapping[str, Any] | None = None) -> Answer:
        return self._connection.send(
            Request(
                verb=verb,
                kind=kinds.LEASE,
                namespace=self._namespace,
                name=None if verb == "create" else self._name,
                body=body,
            )
        )


def record(body: Mapping[str, Any]) -> Record:
    """Return what a Lease says."""
    spec = body.get("spec") or {}
    return Record(
        holder=spec.get("holderIdentity") or "",
        lease_s=float(spec.get("leaseDurationSeconds") or 1),
        acquired=spec.get("acquireTime") or "",
        renewed=spec.get("renewTime") or "",
        transitions=spec.get("leaseTransitions") or 0,
        version=body["metadata"]["resourceVersion"],
    )


def lease(record: Record, namespace: str, name: str) -> dict[str, Any]:
    """Return the Lease that says a record."""
    version = {} if record.version is None else {"resourceVersion": record.version}
    return {
        "apiVersion": kinds.LEASE.api_version,
        "kind": kinds.LEASE.kind,
        "metadata": {"namespace": namespace, "name": name, **version},
        "spec": {
            "holderIdentity": record.holder,
            "leaseDurationSeconds": round(record.lease_s),
            "acquireTime": record.acquired or None,
            "renewTime": record.renewed or None,
            "leaseTransitions": record.transitions,
        },
    }


def clock() -> float:
    """Return seconds that pass also while the machine sleeps, which ``monotonic`` leaves out."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def written() -> str:
    """Return the time of day as a Lease holds it (``metav1.MicroTime``)."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _there(answer: Answer) -> Mapping[str, Any]:
    if answer.refused:
        raise ClusterUnavailable(f"the Lease of the leader: {answer.wrong}")
    body: Mapping[str, Any] = answer.body
    return body
