"""The control plane on its way up: each program when what it needs is ready."""

from __future__ import annotations

import http.client
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpupilot_agent.stack import processes
from gpupilot_agent.stack.state import save
from gpupilot_agent.stack.tools import Say
from gpupilot_testbed import audit, control_plane, kubeconfig, packages
from gpupilot_testbed.control_plane import Endpoints, Identities
from gpupilot_testbed.state import KUBECONFIG, ClusterState

READY_WITHIN_S = 120.0
"""Time for one program to be ready; a starved machine takes 20 times the usual 3 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Starting:
    """A cluster on its way up.

    Attributes:
        folder: Where its files lie.
        kept: What is known of it; saved after each process.
        first: Words before every command, which take it into the cluster's namespaces.
        endpoints: Where the control plane listens.
        keys: Its certificates.
        kubernetes: Folder of the Kubernetes programs.
        say: Told in one line each what takes time.
        audited: Whether the API server writes down who asked what.
        mortal: Whether a node that says nothing is given up within seconds.
    """

    folder: Path
    kept: ClusterState
    first: tuple[str, ...]
    endpoints: Endpoints
    keys: Identities
    kubernetes: Path
    say: Say
    audited: bool = False
    mortal: bool = False

    def run(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> processes.Process:
        """Start a program of the cluster and remember it."""
        log = self.folder / f"{name}.log"
        process = processes.start(name, [*self.first, *command], log, environment)
        self.kept.processes.append(process)
        save(self.folder, self.kept)
        return process

    def identity(self, name: str, user: str, *groups: str) -> Path:
        """Return a kubeconfig of somebody new."""
        pair = self.keys.authority.issue(name, user, groups=groups)
        path = self.folder / "pki" / f"{name}.kubeconfig"
        return kubeconfig.write(path, self.kept.url, self.keys.authority.certificate, pair)


def start_control_plane(starting: Starting) -> None:
    """Start etcd, the API server and the controllers, each when what it needs is ready."""
    endpoints, keys, found = starting.endpoints, starting.keys, starting.kubernetes
    admin = starting.identity("admin", "testbed-admin", "system:masters")
    admin.replace(starting.folder / KUBECONFIG)
    _start_etcd(starting)
    recorded = audit.flags(starting.folder) if starting.audited else ()
    program = found / "kube-apiserver"
    command = control_plane.api_server(
        program,
        endpoints,
        keys,
        light=starting.kept.light,
        mortal=starting.mortal,
        audit=recorded,
    )
    process = starting.run("kube-apiserver", command)
    authority = keys.authority.certificate
    processes.wait_until(
        lambda: answers(endpoints.address, endpoints.api, "/readyz", authority),
        [process],
        within_s=READY_WITHIN_S,
        what="the API server",
    )
    # only now: the controller manager ends when its roles are not there yet
    _start_controllers(starting)


def _start_etcd(starting: Starting) -> None:
    program = packages.program("etcd", starting.say)
    asked = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    may_lose = "unsafe-no-fsync" in asked.stdout + asked.stderr
    data = starting.folder / "etcd"
    starting.run("etcd", control_plane.etcd(program, data, starting.endpoints, may_lose=may_lose))


def _start_controllers(starting: Starting) -> None:
    endpoints, found = starting.endpoints, starting.kubernetes
    manager = starting.identity("controller-manager", "system:kube-controller-manager")
    program = found / "kube-controller-manager"
    command = control_plane.controller_manager(
        program,
        endpoints,
        starting.keys,
        manager,
        light=starting.kept.light,
        mortal=starting.mortal,
    )
    starting.run("kube-controller-manager", command)
    scheduler = starting.identity("scheduler", "system:kube-scheduler")
    command = control_plane.scheduler(found / "kube-scheduler", endpoints, scheduler)
    starting.run("kube-scheduler", command)


def answers(address: str, port: int, path: str, authority: Path | None) -> bool:
    """Say whether a page answers 200 over TLS.

    Args:
        address: Of the server.
        port: Of the server.
        path: The page.
        authority: Who must have signed the server's certificate; ``None`` takes any.
    """
    context = ssl.create_default_context(cafile=authority)
    if authority is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    asked = http.client.HTTPSConnection(address, port, timeout=5.0, context=context)
    try:
        asked.request("GET", path)
        return asked.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        asked.close()
