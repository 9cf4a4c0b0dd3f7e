"""Helm, which renders the chart: the one on ``PATH``, else the official release, else built."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

from gpupilot_agent.mobilenet import download
from gpupilot_agent.stack.tools import Say, alone, cache_root
from gpupilot_envs.errors import StackFailed
from gpupilot_testbed import programs

VERSION = "4.3.1"
"""Of Helm; the requirement of ``deploy/testbed/helm/go.mod``, held equal by a test."""
RELEASES = "https://get.helm.sh"
MODULE = Path(__file__).resolve().parent.parent / "helm"
PACKAGE = "helm.sh/helm/v4/cmd/helm"


def helm(say: Say, *, releases: str = RELEASES) -> Path:
    """Return the program, got once into the cache.

    Args:
        say: Told in one line what takes time.
        releases: Where the official release is downloaded.

    Raises:
        StackFailed: It cannot be had; says every way that was tried.
    """
    present = shutil.which("helm")
    if present is not None:
        return Path(present)
    folder = cache_root() / "helm" / f"v{VERSION}"
    with alone(folder):
        if not (folder / "helm").is_file():
            _get(folder, say, releases)
    return folder / "helm"


def _get(folder: Path, say: Say, releases: str) -> None:
    url = f"{releases}/helm-v{VERSION}-linux-{programs.machine()}.tar.gz"
    try:
        stated = programs.stated(url)
    except StackFailed as offline:
        _build(folder, say, offline)
    else:
        say(f"downloading Helm {VERSION} (once)")
        archive = folder / "helm.tar.gz"
        download.fetch(url, archive, stated)
        _unpack(archive, folder)


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as packed:
        member = packed.extractfile(f"linux-{programs.machine()}/helm")
        assert member is not None
        partial = folder / "helm.part"
        partial.write_bytes(member.read())
    partial.chmod(0o755)
    partial.rename(folder / "helm")
    archive.unlink()


def _build(folder: Path, say: Say, offline: StackFailed) -> None:
    go = shutil.which("go")
    if go is None:
        raise StackFailed(f"{offline}; without it, install Helm, or Go so that it can be built")
    say(f"building Helm {VERSION} from its Go module (some minutes of CPU, once)")
    partial = folder / "helm.part"
    programs.build(PACKAGE, partial, module=MODULE, flags="", go=go)
    partial.rename(folder / "helm")
