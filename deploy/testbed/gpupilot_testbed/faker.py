"""``python -m gpupilot_testbed.faker``: the kubelet's part for nodes that are not there.

Says that nodes are alive, that pods placed on them run (after the start time their annotation
asks for), follows changed limits, and lets go of pods that are told to end. A pod that is asked to
load a model does so.
"""

from __future__ import annotations

import heapq
import http.client
import json
import threading
import time
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Annotated, Any

import typer

from gpupilot_testbed import fake_pods, fake_triton
from gpupilot_testbed.api import MERGE, STRATEGIC, Answer, Api, done

HEARTBEAT_S = 4.0
WATCH_S = 30
"""A watch ends before the connection's patience does."""
RETRY_S = 0.5
AWAY = (OSError, http.client.HTTPException)
"""What a restart of the API server looks like from here."""
BUSY = frozenset({429, 500, 502, 503, 504})
"""Refusals by a server that cannot answer now."""
NODES = "/api/v1/nodes"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
PODS = "/api/v1/pods"


def node_names(count: int, first: int = 0) -> list[str]:
    """Return the names of fake nodes."""
    return [f"fake-{index}" for index in range(first, first + count)]


class Kubelets:
    """Every fake node's kubelet in one: reads changes of pods, writes what would come of them."""

    def __init__(self, api: Api, names: Collection[str], address: str) -> None:
        """Begin with nothing known.

        Args:
            api: Of the cluster.
            names: The nodes whose kubelets these are.
            address: Of every pod, as with pods in the network of one node.
        """
        self._api = api
        self._names = frozenset(names)
        self._address = address
        self._due: list[tuple[float, int, dict[str, Any]]] = []
        self._count = 0
        self._waiting: set[str] = set()

    def see(self, pod: dict[str, Any], *, now_s: float) -> None:
        """Take in one pod as it is now, and plan what is to be said of it and when."""
        if pod["spec"].get("nodeName") not in self._names:
            return
        uid = pod["metadata"]["uid"]
        ending = fake_pods.is_ending(pod)
        if not ending and (fake_pods.is_up_to_date(pod) or uid in self._waiting):
            return
        begun = pod.get("status", {}).get("phase") == "Running"
        after_s = 0.0 if ending or begun else fake_pods.start_seconds(pod)
        self._waiting.add(uid)
        self._count += 1  # two pods due at once are not comparable
        heapq.heappush(self._due, (now_s + after_s, self._count, pod))

    def act(self, *, now_s: float) -> float | None:
        """Say what is due; return when the next is, ``None`` where nothing is planned."""
        while self._due and self._due[0][0] <= now_s:
            _, _, pod = self._due[0]
            self._say(pod)  # before it is forgotten: the API server may be away
            heapq.heappop(self._due)
            self._waiting.discard(pod["metadata"]["uid"])
        return self._due[0][0] if self._due else None

    def _say(self, pod: dict[str, Any]) -> None:
        """Write one pod's status, or let go of it; a pod that has gone meanwhile is no error."""
        where = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
        if fake_pods.is_ending(pod):
            options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
            heard(self._api.ask("DELETE", where, options))
            return
        said = {"status": fake_pods.running(pod, address=self._address, now=datetime.now(UTC))}
        heard(self._api.ask("PATCH", f"{where}/status", said, kind=STRATEGIC))


def heard(answer: Answer) -> Answer:
    """Return an answer that the API server has thought about, be it a refusal.

    Raises:
        ConnectionError: It cannot think yet: one that just started fills its caches first.
    """
    if answer.status in BUSY:
        raise ConnectionError(answer.message)
    return answer


def changes(api: Api) -> Iterator[dict[str, Any]]:
    """Yield every pod as it is, then as it changes, for ever; begins anew where a watch ends."""
    while True:
        listed = done(heard(api.ask("GET", PODS)))
        yield from listed["items"]
        version = listed["metadata"]["resourceVersion"]
        watch = f"{PODS}?watch=1&timeoutSeconds={WATCH_S}&resourceVersion={version}"
        for line in api.stream(watch):
            change = json.loads(line)
            if change.get("type", "ERROR") == "ERROR":
                break  # the version is too old, or the watch was refused: list again
            if change["type"] != "DELETED":
                yield change["object"]


def register(api: Api, names: list[str], *, gpus: int) -> None:
    """Make the nodes known, or offer other GPUs on those that are."""
    for name in names:
        node = fake_pods.fake_node(name, gpus=gpus)
        if api.ask("POST", NODES, node).refused:
            done(api.ask("PATCH", f"{NODES}/{name}/status", node, kind=MERGE))


def heartbeat(api: Api, names: list[str]) -> None:
    """Renew every node's lease, making those that are not there."""
    for name in names:
        lease = fake_pods.fake_lease(name, now=datetime.now(UTC))
        if api.ask("PATCH", f"{LEASES}/{name}", lease, kind=MERGE).refused:
            api.ask("POST", LEASES, lease)


def run(kubeconfig: Path, names: list[str], *, gpus: int) -> None:
    """Play the kubelets of nodes until ended."""
    seen = SimpleQueue[dict[str, Any]]()
    with Api(kubeconfig) as api, Api(kubeconfig) as watching, fake_triton.served() as address:
        register(api, names, gpus=gpus)
        heartbeat(api, names)
        threading.Thread(target=_follow, args=(watching, seen), daemon=True).start()
        _work(Kubelets(api, names, address), seen, api, names)


def _follow(watching: Api, seen: SimpleQueue[dict[str, Any]]) -> None:
    while True:
        try:
            for pod in changes(watching):
                seen.put(pod)
        except AWAY:
            watching.close()
            time.sleep(RETRY_S)


def _work(
    kubelets: Kubelets, seen: SimpleQueue[dict[str, Any]], api: Api, names: list[str]
) -> None:
    renewed_s = time.monotonic()
    while True:
        now_s = time.monotonic()
        try:
            due_s = kubelets.act(now_s=now_s)
            if now_s - renewed_s >= HEARTBEAT_S:
                heartbeat(api, names)
                renewed_s = now_s
        except AWAY:
            api.close()
            due_s = now_s + RETRY_S
        next_s = min(due_s or now_s + HEARTBEAT_S, now_s + HEARTBEAT_S)
        try:
            kubelets.see(seen.get(timeout=max(next_s - now_s, 0.0)), now_s=time.monotonic())
        except Empty:
            continue


def main(
    kubeconfig: Annotated[Path, typer.Option(help="Of a light cluster's administrator.")],
    nodes: Annotated[int, typer.Option(min=1, max=1000, help="Fake nodes.")] = 1,
    first: Annotated[int, typer.Option(min=0, help="Number of the first of them.")] = 0,
    gpus: Annotated[int, typer.Option(min=0, max=64, help="GPUs of each.")] = 8,
) -> None:
    """Play the kubelets of fake nodes until ended."""
    run(kubeconfig, node_names(nodes, first), gpus=gpus)


if __name__ == "__main__":
    typer.run(main)
