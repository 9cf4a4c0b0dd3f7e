"""Programs from Debian's archive without installing them: downloaded, unpacked into a folder.

``apt install prometheus`` would start a service on every interface; unpacking starts nothing and
needs no root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from gpupilot_envs.errors import StackFailed


def is_debian() -> bool:
    """Say whether packages of Debian or Ubuntu can be had here."""
    return shutil.which("apt-get") is not None and shutil.which("dpkg-deb") is not None


def unpack(package: str, cache: Path) -> Path:
    """Return the folder that holds the files of a package, unpacked once.

    Raises:
        StackFailed: The package cannot be downloaded; says what to do instead.
    """
    target = cache / f"deb-{package}"
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as made:
        folder = Path(made)
        archive = _download(package, folder)
        root = folder / "root"
        subprocess.run(["dpkg-deb", "-x", archive, root], check=True, capture_output=True)
        root.rename(target)
    return target


def _download(package: str, folder: Path) -> Path:
    """Fetch the archive, with fresh package lists where they are stale and we may renew them."""
    said = _called(["apt-get", "download", package], folder)
    if not list(folder.glob("*.deb")) and os.geteuid() == 0:
        said = _called(["apt-get", "update"], folder) + _called(
            ["apt-get", "download", package], folder
        )
    for archive in folder.glob("*.deb"):
        return archive
    last = said.strip().splitlines()[-1:] or ["apt-get said nothing"]
    raise StackFailed(
        f"cannot download the Debian package {package} ({last[0]}); "
        f"run `apt-get update` as root while online, or install {package} and try again"
    )


def _called(command: list[str], folder: Path) -> str:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done.stderr
