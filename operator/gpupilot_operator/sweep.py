"""Fills the store from lists: at the start, and for what no watch told.

A watch that breaks and begins anew never says what went meanwhile; a list does.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from gpupilot_operator import kinds
from gpupilot_operator.kinds import Kind
from gpupilot_operator.kube import Connection, Request
from gpupilot_operator.store import Store
from gpupilot_operator.views import name_of


def sweep(connection: Connection, store: Store, namespaces: Sequence[str]) -> bool:
    """Bring the store to what the API server lists.

    Args:
        connection: To the API server.
        store: What is brought up to date.
        namespaces: Those that are served; empty serves all.

    Returns:
        Whether there are ServiceMonitors: the Prometheus operator's types.

    Raises:
        ClusterUnavailable: A kind cannot be listed.
    """
    has_monitors = is_served(connection, kinds.MONITOR, namespaces)
    for kind in kinds.WITH_MONITORS if has_monitors else kinds.ALWAYS:
        _sweep(connection, store, kind, namespaces)
    return has_monitors


def _sweep(connection: Connection, store: Store, kind: Kind, namespaces: Sequence[str]) -> None:
    there, versions = set(), []
    for namespace in namespaces or (None,):
        for page, version in connection.pages(kind, namespace):
            versions.append(version)
            for body in page:
                store.see(kind, None, body)
                there.add(name_of(body))
    store.keep(kind, there, min(versions))


def is_served(connection: Connection, kind: Kind, namespaces: Sequence[str]) -> bool:
    """Say whether the API server knows a kind, and lets us see it; one that is away, may."""
    where = namespaces[0] if namespaces else None
    request = Request(verb="list", kind=kind, namespace=where, query={"limit": "1"})
    unknown = (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN)
    return connection.send(request).status not in unknown
