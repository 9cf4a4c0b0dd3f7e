"""Programs a cluster needs beside Kubernetes: from ``PATH``, else Debian's packages, unpacked."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from gpupilot_agent.stack import debian
from gpupilot_agent.stack.tools import Say, alone, cache_folder
from gpupilot_envs.errors import StackFailed

NFT_LIBRARIES = ("libnftables1", "libnftnl11", "libmnl0", "libjansson4", "libxtables12")
"""What ``nft`` links beside the C library, libedit and libgmp, which every Debian has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """Where a program is found.

    Attributes:
        name: Debian's package.
        folder: The package's folder of programs, relative to its root.
    """

    name: str
    folder: str


PACKAGES = {
    "etcd": Package(name="etcd-server", folder="usr/bin"),
    "containerd": Package(name="containerd", folder="usr/bin"),
    "ctr": Package(name="containerd", folder="usr/bin"),
    "runc": Package(name="runc", folder="usr/sbin"),
    "ptp": Package(name="containernetworking-plugins", folder="usr/lib/cni"),
    "busybox": Package(name="busybox-static", folder="bin"),
    "nft": Package(name="nftables", folder="usr/sbin"),
}


def program(name: str, say: Say) -> Path:
    """Return a program of :data:`PACKAGES`, unpacking its package if it is not on ``PATH``.

    Raises:
        StackFailed: Neither is to be had; names the package.
    """
    present = shutil.which(name)
    if present is not None:
        return Path(present)
    package = PACKAGES[name]
    return _unpacked(package.name, say) / package.folder / name


def nft_libraries(say: Say) -> tuple[Path, ...]:
    """Return the library folders an unpacked ``nft`` needs; none where it is installed."""
    if shutil.which("nft") is not None:
        return ()
    roots = [_unpacked(name, say) for name in NFT_LIBRARIES]
    return tuple(folder for root in roots for folder in (root / "usr" / "lib").glob("*-linux-gnu"))


def _unpacked(name: str, say: Say) -> Path:
    if not debian.is_debian():
        raise StackFailed(f"no program of the package {name} on PATH; install it and try again")
    cache = cache_folder()
    with alone(cache):
        if not (cache / f"deb-{name}").is_dir():
            say(f"unpacking Debian's {name} package (once)")
        return debian.unpack(name, cache)
