"""Definitions of other projects' kinds, of which a test needs no more than that they are there."""

from __future__ import annotations

from typing import Any

from gpupilot_operator.kinds import Kind


def definition(kind: Kind) -> dict[str, Any]:
    """Return a CustomResourceDefinition of a kind that takes any fields."""
    version = kind.api_version.rpartition("/")[2]
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {"served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}"},
        "spec": {
            "group": kind.group,
            "scope": "Namespaced",
            "names": {"plural": kind.plural, "kind": kind.kind},
            "versions": [{"name": version, **served}],
        },
    }
