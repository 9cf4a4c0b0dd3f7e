"""Command lines of etcd and the control plane; every flag that is not a default has its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpupilot_testbed.certificates import Authority, Pair, service_account_key

LOOPBACK = "127.0.0.1"
API_SERVICE = "kubernetes.default.svc"
NO_ENDPOINTS = ("endpoints", "endpointslice", "endpointslice-mirroring")
SILENT_S = 20
"""A mortal node that has said nothing for so long is unreachable: several of its heartbeats."""
EVICTED_S = 1
"""After so long on an unreachable node, pods are made anew elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Where the control plane listens.

    Attributes:
        address: Of the API server: loopback, or the node's own address.
        api: Its port.
        etcd: Port for clients, on loopback.
        etcd_peer: Port for peers, on loopback.
        controller_manager: Port of its health page, on loopback.
        scheduler: Port of its health page, on loopback.
        services: Range of ClusterIPs; the first is the API server's.
    """

    address: str
    api: int
    etcd: int
    etcd_peer: int
    controller_manager: int
    scheduler: int
    services: str

    @property
    def url(self) -> str:
        """The API server."""
        return f"https://{self.address}:{self.api}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identities:
    """Keys and certificates of a cluster.

    Attributes:
        authority: Signs servers and clients.
        front_authority: Signs the API server towards extension API servers.
        server: Of the API server.
        kubelet_client: The API server towards kubelets.
        front: The API server towards extension API servers.
        service_accounts: Signs service account tokens.
    """

    authority: Authority
    front_authority: Authority
    server: Pair
    kubelet_client: Pair
    front: Pair
    service_accounts: Path


def identities(folder: Path, endpoints: Endpoints, service_address: str) -> Identities:
    """Make the keys and certificates of a new cluster in a folder."""
    authority = Authority(folder, "ca")
    front_authority = Authority(folder, "front-ca")
    names = ("localhost", "kubernetes", "kubernetes.default", API_SERVICE)
    hosts = (LOOPBACK, endpoints.address, service_address, *names)
    masters = ("system:masters",)
    return Identities(
        authority=authority,
        front_authority=front_authority,
        server=authority.issue("apiserver", "kube-apiserver", hosts=hosts),
        kubelet_client=authority.issue("kubelet-client", "kube-apiserver", groups=masters),
        front=front_authority.issue("front", "front-proxy"),
        service_accounts=service_account_key(folder),
    )


def etcd(program: Path, data: Path, endpoints: Endpoints, *, may_lose: bool) -> list[str]:
    """Return the command of etcd.

    Args:
        program: Its file.
        data: Folder of its data.
        endpoints: Where it listens.
        may_lose: Do not wait for the disk, where this etcd (3.5 and later) can be told so.
    """
    client = f"http://{LOOPBACK}:{endpoints.etcd}"
    peer = f"http://{LOOPBACK}:{endpoints.etcd_peer}"
    command = [
        str(program),
        f"--data-dir={data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
    ]
    return [*command, "--unsafe-no-fsync"] if may_lose else command


def api_server(
    program: Path,
    endpoints: Endpoints,
    keys: Identities,
    *,
    light: bool,
    mortal: bool,
    audit: Sequence[str] = (),
) -> list[str]:
    """Return the command of the API server."""
    return [
        str(program),
        f"--etcd-servers=http://{LOOPBACK}:{endpoints.etcd}",
        f"--bind-address={endpoints.address}",
        f"--secure-port={endpoints.api}",
        f"--advertise-address={endpoints.address}",
        # an Endpoints object may not hold a loopback address, and no pod asks a light cluster
        f"--endpoint-reconciler-type={'none' if light else 'lease'}",
        f"--service-cluster-ip-range={endpoints.services}",
        f"--client-ca-file={keys.authority.certificate}",
        f"--tls-cert-file={keys.server.certificate}",
        f"--tls-private-key-file={keys.server.key}",
        f"--kubelet-client-certificate={keys.kubelet_client.certificate}",
        f"--kubelet-client-key={keys.kubelet_client.key}",
        # nobody resolves a node's name here
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-certificate-authority={keys.authority.certificate}",
        f"--service-account-issuer=https://{API_SERVICE}",
        f"--service-account-key-file={keys.service_accounts}",
        f"--service-account-signing-key-file={keys.service_accounts}",
        "--authorization-mode=Node,RBAC",
        # the second is on in OpenShift: who names a blocking owner must be allowed to
        "--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement",
        *audit,
        *(_evicting() if mortal else ()),
        *_aggregation(keys),
        "--allow-privileged=true",
        "--profiling=false",
    ]


def controller_manager(
    program: Path,
    endpoints: Endpoints,
    keys: Identities,
    kubeconfig: Path,
    *,
    light: bool,
    mortal: bool,
) -> list[str]:
    """Return the command of the controller manager; ``mortal``: silent nodes are given up soon."""
    off = NO_ENDPOINTS if light else ()
    return [
        str(program),
        f"--kubeconfig={kubeconfig}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={endpoints.controller_manager}",
        *_own_certificate(kubeconfig),
        f"--root-ca-file={keys.authority.certificate}",
        f"--service-account-private-key-file={keys.service_accounts}",
        "--leader-elect=false",
        # its own role holds little: each controller acts under an account with a role of its own
        "--use-service-account-credentials=true",
        # the default limits delay the first service account by four seconds
        "--kube-api-qps=1000",
        "--kube-api-burst=2000",
        # an HPA beside us decides at the pace of a test
        "--horizontal-pod-autoscaler-sync-period=2s",
        "--horizontal-pod-autoscaler-downscale-stabilization=5s",
        # no Endpoints may hold a loopback address, and nobody asks a light cluster for them
        "--controllers=" + ",".join(["*", *(f"-{name}-controller" for name in off)]),
        *([f"--node-monitor-grace-period={SILENT_S}s"] if mortal else ()),
        "--profiling=false",
    ]


def scheduler(program: Path, endpoints: Endpoints, kubeconfig: Path) -> list[str]:
    """Return the command of the scheduler."""
    return [
        str(program),
        f"--kubeconfig={kubeconfig}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={endpoints.scheduler}",
        *_own_certificate(kubeconfig),
        "--leader-elect=false",
        "--kube-api-qps=1000",
        "--kube-api-burst=2000",
        "--profiling=false",
    ]


def _evicting() -> list[str]:
    """Give pods this much patience with their node, unless they ask for other."""
    return [
        f"--default-{state}-toleration-seconds={EVICTED_S}"
        for state in ("not-ready", "unreachable")
    ]


def _aggregation(keys: Identities) -> list[str]:
    """Let extension API servers (metrics) be reached at their addresses, without kube-proxy."""
    return [
        f"--requestheader-client-ca-file={keys.front_authority.certificate}",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={keys.front.certificate}",
        f"--proxy-client-key-file={keys.front.key}",
        "--enable-aggregator-routing=true",
    ]


def _own_certificate(kubeconfig: Path) -> list[str]:
    """Keep the self-signed certificate of a health page out of /var/run."""
    return [f"--cert-dir={kubeconfig.parent}", f"--authentication-kubeconfig={kubeconfig}"]
