"""Configuration of the node: containerd, the kubelet, kube-proxy and the pods' network.

Every setting that is not a default has its reason beside it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gpupilot_envs.atomic import write_text
from gpupilot_testbed.certificates import Pair
from gpupilot_testbed.network import Network

NODE_NAME = "testbed"
PAUSE_IMAGE = "gpupilot.dev/pause:1"
BUSYBOX_IMAGE = "gpupilot.dev/busybox:1"
KUBELET_PORT = 10250


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Where the node keeps what it writes, all in the cluster's folder.

    Attributes:
        root: The cluster's folder.
    """

    root: Path

    @property
    def socket(self) -> Path:
        """The runtime's socket."""
        return self.root / "containerd.sock"

    def part(self, name: str) -> Path:
        """Return a folder of one part, made if need be."""
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def containerd_config(folders: Folders, plugins: Path, runc: Path) -> str:
    """Return containerd's configuration (TOML).

    Args:
        folders: Where it keeps what it writes.
        plugins: Folder of the CNI plugins.
        runc: The program that makes containers.
    """
    return f"""\
version = 2
root = "{folders.part("containerd")}"
state = "{folders.part("run")}"
[grpc]
address = "{folders.socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "{folders.part("opt")}"
[plugins."io.containerd.grpc.v1.cri"]
# bound to the image store: no registry could bring it back
sandbox_image = "{PAUSE_IMAGE}"
# a root without CAP_SYS_RESOURCE may not lower it, and then no sandbox starts
restrict_oom_score_adj = true
stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{folders.part("cni")}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false
"""


def pod_network(folders: Folders, network: Network) -> str:
    """Return the CNI configuration: each pod on a link of its own, everything routed.

    A bridge would carry a pod's answer past the node's connection tracking, which then cannot
    turn a service's address back; links need neither ``br_netfilter`` nor masquerading.
    """
    ipam = {
        "type": "host-local",
        "dataDir": str(folders.part("addresses")),
        "ranges": [[{"subnet": network.pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    plugin = {"type": "ptp", "ipMasq": False, "ipam": ipam}
    return json.dumps({"cniVersion": "0.4.0", "name": "testbed", "plugins": [plugin]}, indent=2)


def kubelet_config(folders: Folders, network: Network, authority: Path, server: Pair) -> str:
    """Return the kubelet's configuration.

    Args:
        folders: Where it keeps what it writes.
        network: The node's addresses.
        authority: Whose clients it believes.
        server: Its serving certificate.
    """
    document: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.node,
        "port": KUBELET_PORT,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(server.certificate),
        "tlsPrivateKeyFile": str(server.key),
        "containerRuntimeEndpoint": f"unix://{folders.socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup(network),
        # version 1 is refused by default since 1.35
        "failCgroupV1": False,
        "failSwapOn": False,
        # pods use addresses; the host's resolver would be of no use to them
        "resolvConf": "",
        "makeIPTablesUtilChains": False,
        # no registry could bring back an image that a full disk made it delete
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%"},
        "podLogsDir": str(folders.part("pod-logs")),
        "volumePluginDir": str(folders.part("volume-plugins")),
        "healthzPort": 0,
        "nodeStatusUpdateFrequency": "2s",
        "logging": {"verbosity": 1},
    }
    return yaml.safe_dump(document, sort_keys=False)


def proxy_config(network: Network, kubeconfig: Path) -> str:
    """Return kube-proxy's configuration."""
    document: dict[str, Any] = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "mode": "nftables",
        "clusterCIDR": network.pods,
        "hostnameOverride": NODE_NAME,
        "bindAddress": network.node,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        # the host's limits are not ours to write
        "conntrack": {"maxPerCore": 0, "min": 0},
    }
    return yaml.safe_dump(document, sort_keys=False)


def kubelet(
    program: Path, config: Path, kubeconfig: Path, folders: Folders, node: str
) -> list[str]:
    """Return the kubelet's command; ``node`` is the node's address."""
    return [
        str(program),
        f"--config={config}",
        f"--kubeconfig={kubeconfig}",
        f"--root-dir={folders.part('kubelet')}",
        f"--cert-dir={folders.part('kubelet-certificates')}",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={node}",
    ]


def cgroup(network: Network) -> str:
    """Return the cgroup all pods of a cluster are under, so that its end finds every one."""
    return f"/gpupilot-testbed-{network.slot}"


def write(folder: Path, name: str, text: str) -> Path:
    """Write one configuration file and return it."""
    write_text(folder / name, text)
    return folder / name
