"""Brings a cluster up, tells how it is, and takes it down without a trace."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from gpupilot_agent.stack import processes
from gpupilot_agent.stack.plan import free_ports
from gpupilot_agent.stack.tools import Say
from gpupilot_envs.errors import StackFailed
from gpupilot_testbed import control_plane, full, programs, state
from gpupilot_testbed.api import Api
from gpupilot_testbed.control_plane import LOOPBACK, Endpoints
from gpupilot_testbed.network import Network
from gpupilot_testbed.starting import READY_WITHIN_S, Starting, start_control_plane
from gpupilot_testbed.state import KUBECONFIG, ClusterState

LIGHT_SERVICES = ("198.19.0.0/20", "198.19.0.1")
"""ClusterIPs of a cluster whose services nobody reaches, and the first of them."""


def up_light(
    folder: Path,
    *,
    say: Say,
    nodes: int = 1,
    gpus: int = 8,
    audited: bool = False,
    mortal: bool = False,
) -> ClusterState:
    """Start etcd and the control plane on loopback, with fake nodes; return once those are ready.

    Args:
        folder: Where its files lie while it is up.
        say: Told in one line each what takes time.
        nodes: Fake nodes.
        gpus: GPUs of each.
        audited: Whether the API server writes down who asked what (:mod:`audit`).
        mortal: Whether each node is a process of its own (``kubelet-0`` and so on), and is given
            up within seconds when that is gone.

    Raises:
        StackFailed: It cannot be started; nothing is left running. Says why, with the log.
    """
    fresh(folder)
    api, client, peer, manager, scheduler = free_ports(5)
    endpoints = Endpoints(
        address=LOOPBACK,
        api=api,
        etcd=client,
        etcd_peer=peer,
        controller_manager=manager,
        scheduler=scheduler,
        services=LIGHT_SERVICES[0],
    )
    found = programs.kubernetes(programs.CONTROL_PLANE, say)
    kept = ClusterState(light=True, url=endpoints.url, kubectl=found / "kubectl")
    folder.mkdir(parents=True, exist_ok=True)
    starting = Starting(
        folder=folder,
        kept=kept,
        first=(),
        endpoints=endpoints,
        keys=control_plane.identities(folder / "pki", endpoints, LIGHT_SERVICES[1]),
        kubernetes=found,
        say=say,
        audited=audited,
        mortal=mortal,
    )
    try:
        start_control_plane(starting)
        _start_kubelets(starting, nodes, gpus)
    except BaseException:
        down(folder)
        raise
    return kept


def _start_kubelets(starting: Starting, nodes: int, gpus: int) -> None:
    kubeconfig = starting.folder / KUBECONFIG
    every = (sys.executable, "-m", "gpupilot_testbed.faker", f"--kubeconfig={kubeconfig}")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    own = 1 if starting.mortal else nodes
    started = [
        starting.run(
            f"kubelet-{first}",
            [*every, f"--first={first}", f"--nodes={own}", f"--gpus={gpus}"],
            environment,
        )
        for first in range(0, nodes, own)
    ]
    with Api(kubeconfig) as api:
        processes.wait_until(
            lambda: len(api.get("/api/v1/nodes")["items"]) == nodes,
            started,
            within_s=READY_WITHIN_S,
            what="the fake nodes",
        )


def fresh(folder: Path) -> None:
    """Make sure that a folder holds no running cluster; what an ended one left is removed.

    Raises:
        StackFailed: One runs there.
    """
    earlier = state.load(folder)
    if earlier is not None and earlier.is_alive():
        raise StackFailed(f"a cluster runs already in {folder}; take it down first")
    if earlier is not None:
        down(folder)


def up(folder: Path, *, say: Say) -> ClusterState:
    """Start a cluster with a real node; return once it takes pods. Needs root.

    Raises:
        StackFailed: It cannot be started; nothing is left running. Says why, with the log.
    """
    full.require(folder)
    fresh(folder)
    found = programs.kubernetes(programs.CONTROL_PLANE + programs.NODE, say)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return full.start(folder, found, say)
    except BaseException:
        down(folder)
        raise


def down(folder: Path) -> bool:
    """Stop everything and remove the folder.

    Returns:
        Whether there was a cluster.

    Raises:
        StackFailed: A process could not be ended.
    """
    kept = state.load(folder)
    if kept is None:
        return False
    # nothing in it is worth an orderly end, and the API server takes long over its own
    processes.stop(kept.processes, within_s=1.0)
    processes.stop(kept.processes)
    if not kept.light:
        full.sweep(folder, Network(slot=kept.slot))
    left = [process.name for process in kept.processes if process.is_alive()]
    if left:
        raise StackFailed(f"could not end {', '.join(left)}; state kept in {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    return True
