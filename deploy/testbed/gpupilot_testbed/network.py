"""A full cluster's own network and mounts: one namespace of each, gone when its holder ends.

A veth pair joins it to the host, so that tests reach pods and services. Its addresses are of
198.18.0.0/15, which is set aside for tests of networks (RFC 2544) and so hides nobody's own. No
default route leads out, and the host forwards nothing.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from gpupilot_envs.errors import StackFailed

SLOTS = 64
"""Full clusters that may run beside each other."""
PRIVATE = ("/run", "/var/lib", "/var/log")
"""Where containerd, the plugins and the kubelet write whatever they are told: their own and empty
in the cluster's mounts, so that nothing stays and nobody else's is touched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The addresses of one cluster.

    Attributes:
        slot: Which one, 0 to :data:`SLOTS` - 1.
    """

    slot: int

    @property
    def host(self) -> str:
        """The host's end of the pair."""
        return f"198.18.{2 * self.slot}.1"

    @property
    def node(self) -> str:
        """The node's end: also the API server's address, as a kubelet refuses loopback."""
        return f"198.18.{2 * self.slot}.2"

    @property
    def pods(self) -> str:
        """The range of pods."""
        return f"198.18.{2 * self.slot + 1}.0/24"

    @property
    def services(self) -> str:
        """The range of ClusterIPs."""
        return f"198.19.{self.slot}.0/24"

    @property
    def first_service(self) -> str:
        """ClusterIP of the API server."""
        return f"198.19.{self.slot}.1"

    @property
    def link(self) -> str:
        """Name of the host's end."""
        return f"gpupilot{self.slot}"


def free_network() -> Network:
    """Return the addresses of a slot no cluster has.

    Raises:
        StackFailed: All are taken.
    """
    taken = {path.name for path in Path("/sys/class/net").iterdir()}
    for slot in range(SLOTS):
        network = Network(slot=slot)
        if network.link not in taken:
            return network
    raise StackFailed(f"{SLOTS} clusters run already; take one down first")


def holder() -> list[str]:
    """Return the command of the process that holds the namespaces open."""
    return ["unshare", "--net", "--mount", "--propagation", "private", "sleep", "infinity"]


def inside(pid: int) -> list[str]:
    """Return the words that run a command in the namespaces of their holder.

    ``ip netns exec`` would mount its own /sys, which hides the cgroups.
    """
    return ["nsenter", f"--target={pid}", "--net", "--mount"]


def connect(network: Network, pid: int) -> None:
    """Join the holder's network to the host's, and give it folders of its own.

    Raises:
        StackFailed: The kernel refuses; says which command.
    """
    within = inside(pid)
    peer = "node0"
    _run("ip", "link", "add", network.link, "type", "veth", "peer", peer, "netns", str(pid))
    _run("ip", "address", "add", f"{network.host}/30", "dev", network.link)
    _run("ip", "link", "set", network.link, "up")
    _run(*within, "ip", "link", "set", "lo", "up")
    _run(*within, "ip", "address", "add", f"{network.node}/30", "dev", peer)
    _run(*within, "ip", "link", "set", peer, "up")
    _run(*within, "sysctl", "--quiet", "--write", "net.ipv4.ip_forward=1")
    for folder in PRIVATE:
        _run(*within, "mount", "-t", "tmpfs", "gpupilot-testbed", folder)
    for range_ in (network.pods, network.services):
        _run("ip", "route", "add", range_, "via", network.node)


def disconnect(network: Network) -> None:
    """Remove the host's end, with its routes, where it is still there."""
    if (Path("/sys/class/net") / network.link).exists():
        _run("ip", "link", "delete", network.link)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StackFailed(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
