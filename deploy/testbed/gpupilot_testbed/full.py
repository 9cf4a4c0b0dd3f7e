"""The full cluster: its namespaces, control plane and one real node; and how its traces go."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from gpupilot_agent.stack import processes
from gpupilot_agent.stack.processes import Process
from gpupilot_agent.stack.state import save
from gpupilot_agent.stack.tools import Say
from gpupilot_envs.errors import StackFailed
from gpupilot_testbed import cgroups, control_plane, images, network, node, packages
from gpupilot_testbed.api import STRATEGIC, Api, done
from gpupilot_testbed.control_plane import Endpoints
from gpupilot_testbed.network import Network
from gpupilot_testbed.node import Folders
from gpupilot_testbed.starting import READY_WITHIN_S, Starting, start_control_plane
from gpupilot_testbed.state import KUBECONFIG, ClusterState

TOOLS = ("ip", "nsenter", "unshare", "sysctl", "mount", "umount")
SWEEP_WITHIN_S = 10.0


def require(folder: Path) -> None:
    """Make sure that this machine and user can run a node with its files in a folder.

    Raises:
        StackFailed: Says in one sentence what is missing.
    """
    if os.geteuid() != 0:
        raise StackFailed(
            "a full cluster needs root (namespaces, cgroups, mounts); run it as root or in a "
            "privileged container, or use `make cluster-light`, which needs neither"
        )
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise StackFailed(
            f"a full cluster needs {', '.join(missing)} on PATH; install the packages iproute2, "
            "util-linux and procps, or use `make cluster-light`"
        )
    hidden = [each for each in network.PRIVATE if folder.resolve().is_relative_to(each)]
    if hidden:
        raise StackFailed(f"--folder {folder}: the node cannot see {hidden[0]}; choose another")


def start(folder: Path, found: Path, say: Say) -> ClusterState:
    """Start everything in namespaces of its own.

    Args:
        folder: Where its files lie; a state in it is what :func:`sweep` needs.
        found: Folder of the Kubernetes programs.
        say: Told in one line each what takes time.
    """
    addresses = network.free_network()
    endpoints = Endpoints(
        address=addresses.node,
        api=6443,
        etcd=2379,
        etcd_peer=2380,
        controller_manager=10257,
        scheduler=10259,
        services=addresses.services,
    )
    kept = ClusterState(
        light=False, url=endpoints.url, kubectl=found / "kubectl", slot=addresses.slot
    )
    holder = _namespaces(folder, kept, addresses)
    starting = Starting(
        folder=folder,
        kept=kept,
        first=tuple(network.inside(holder.pid)),
        endpoints=endpoints,
        keys=control_plane.identities(folder / "pki", endpoints, addresses.first_service),
        kubernetes=found,
        say=say,
    )
    runtime = _start_runtime(starting, addresses)
    start_control_plane(starting)
    _start_node(starting, addresses, runtime)
    return kept


def _namespaces(folder: Path, kept: ClusterState, addresses: Network) -> Process:
    holder = processes.start("namespaces", network.holder(), folder / "namespaces.log")
    kept.processes.append(holder)
    save(folder, kept)
    own = Path("/proc/self/ns/net").readlink()
    theirs = Path(f"/proc/{holder.pid}/ns/net")
    processes.wait_until(
        lambda: theirs.readlink() != own, [holder], within_s=10.0, what="the namespaces"
    )
    network.connect(addresses, holder.pid)
    return holder


def _start_runtime(starting: Starting, addresses: Network) -> Process:
    say, folders = starting.say, Folders(root=starting.folder)
    plugins = packages.program("ptp", say).parent
    config = node.containerd_config(folders, plugins, packages.program("runc", say))
    node.write(folders.part("cni"), "testbed.conflist", node.pod_network(folders, addresses))
    path = node.write(starting.folder, "containerd.toml", config)
    program = packages.program("containerd", say)
    process = starting.run("containerd", [str(program), "--config", str(path)])
    busybox = packages.program("busybox", say)
    archive = starting.folder / "busybox.tar"
    images.write_archive(archive, busybox, (node.PAUSE_IMAGE, node.BUSYBOX_IMAGE))
    processes.wait_until(
        folders.socket.exists, [process], within_s=READY_WITHIN_S, what="containerd"
    )
    load_image(starting.folder, archive, say)
    return process


def load_image(folder: Path, archive: Path, say: Say) -> None:
    """Import an image archive (``docker save`` or OCI) into a full cluster's node.

    Raises:
        StackFailed: The runtime does not take it; says why.
    """
    ctr = (packages.program("ctr", say), "--address", Folders(root=folder).socket)
    command = (*ctr, "--namespace", "k8s.io", "images", "import", archive)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StackFailed(f"cannot import {archive}: {done.stderr.strip()}")


def _start_node(starting: Starting, addresses: Network, runtime: Process) -> None:
    folder, keys = starting.folder, starting.keys
    folders = Folders(root=folder)
    cgroups.make(node.cgroup(addresses))
    me = f"system:node:{node.NODE_NAME}"
    server = keys.authority.issue("kubelet-server", me, hosts=(addresses.node, node.NODE_NAME))
    text = node.kubelet_config(folders, addresses, keys.authority.certificate, server)
    config = node.write(folder, "kubelet.yaml", text)
    account = starting.identity("kubelet", me, "system:nodes")
    program = starting.kubernetes / "kubelet"
    command = node.kubelet(program, config, account, folders, addresses.node)
    kubelet = starting.run("kubelet", command)
    proxy = _start_proxy(starting, addresses)
    with Api(folder / KUBECONFIG) as api:
        processes.wait_until(
            lambda: _takes_pods(api),
            [runtime, kubelet, proxy],
            within_s=READY_WITHIN_S,
            what="the node",
        )


def _start_proxy(starting: Starting, addresses: Network) -> Process:
    account = starting.identity("kube-proxy", "system:kube-proxy")
    text = node.proxy_config(addresses, account)
    config = node.write(starting.folder, "kube-proxy.yaml", text)
    nft = packages.program("nft", starting.say)
    libraries = packages.nft_libraries(starting.say)
    environment = {
        **os.environ,
        "PATH": f"{nft.parent}:{os.environ.get('PATH', '')}",
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
    }
    program = starting.kubernetes / "kube-proxy"
    return starting.run("kube-proxy", [str(program), f"--config={config}"], environment)


def _takes_pods(api: Api) -> bool:
    """Say whether the node is ready and pods have the account they are made with."""
    answer = api.ask("GET", f"/api/v1/nodes/{node.NODE_NAME}")
    if answer.refused:
        return False
    conditions = answer.body["status"].get("conditions", [])
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    return ready and not api.ask("GET", account).refused


def offer(api: Api, devices: int, *, resource: str = "nvidia.com/gpu") -> None:
    """Make the node say that it has devices, which then are scheduled, counted and run out.

    Args:
        api: A connection as administrator.
        devices: How many.
        resource: Their name.
    """
    status = {"status": {"capacity": {resource: str(devices)}}}
    done(api.ask("PATCH", f"/api/v1/nodes/{node.NODE_NAME}/status", status, kind=STRATEGIC))


def sweep(folder: Path, addresses: Network) -> None:
    """Remove what a node leaves behind its processes: containers, their shims, cgroups, the link.

    Mounts and rules went with the namespaces.

    Raises:
        StackFailed: A cgroup stays, as a process in it does not end.
    """
    group = node.cgroup(addresses)
    deadline_s = time.monotonic() + SWEEP_WITHIN_S
    while True:
        _kill_shims(folder)
        cgroups.kill(group)
        if cgroups.remove(group):
            break
        if time.monotonic() > deadline_s:
            raise StackFailed(f"processes in the cgroup {group} do not end; state kept in {folder}")
        time.sleep(0.05)
    network.disconnect(addresses)


def _kill_shims(folder: Path) -> None:
    """Kill what still names the runtime's socket: a shim outlives its runtime on purpose."""
    socket = str(Folders(root=folder).socket).encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if b"shim" in words[0] and socket in words:
                os.kill(int(entry.name), signal.SIGKILL)
