"""The Kubernetes programs: from a folder, the official release, or built from the Go module.

All three give the same files; the first that can, does. What was fetched or built is kept in the
cache, so it is paid once for each version.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from gpupilot_agent.mobilenet import download
from gpupilot_agent.stack.tools import Say, alone, cache_root
from gpupilot_envs.errors import StackFailed

VERSION = "1.36.1"
"""Of Kubernetes; the requirement of ``deploy/testbed/kubernetes/go.mod``, held equal by a test."""
ASSETS_VARIABLE = "KUBE_ASSETS"
RELEASES = "https://dl.k8s.io"
MODULE = Path(__file__).resolve().parent.parent / "kubernetes"
CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
NODE = ("kubelet", "kube-proxy")
_VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def kubernetes(names: tuple[str, ...], say: Say, *, releases: str = RELEASES) -> Path:
    """Return the folder that holds the programs, getting those that are missing.

    Args:
        names: Programs that will be run, such as :data:`CONTROL_PLANE`.
        say: Told in one line each what takes time.
        releases: Where the official release is downloaded.

    Raises:
        StackFailed: They cannot be had; says every way that was tried.
    """
    given = os.environ.get(ASSETS_VARIABLE)
    if given:
        return _given(Path(given), names)
    folder = cache_root() / "kubernetes" / f"v{VERSION}"
    if all((folder / name).is_file() for name in names):
        return folder
    with alone(folder):
        for name in names:
            if not (folder / name).is_file():
                _get(name, folder, say, releases)
    return folder


def _given(folder: Path, names: tuple[str, ...]) -> Path:
    missing = [name for name in names if not os.access(folder / name, os.X_OK)]
    if missing:
        raise StackFailed(f"{ASSETS_VARIABLE}={folder} holds no program {', '.join(missing)}")
    return folder


def _get(name: str, folder: Path, say: Say, releases: str) -> None:
    """Bring one program into the folder: whole, executable and of the right version."""
    partial = folder / f"{name}.part"
    url = f"{releases}/v{VERSION}/bin/linux/{machine()}/{name}"
    try:
        known = stated(url)
    except StackFailed as offline:
        go = shutil.which("go")
        if go is None:
            raise StackFailed(
                f"{offline}; without it, install Go 1.26 so that Kubernetes can be built, "
                f"or name a folder with its programs in {ASSETS_VARIABLE}"
            ) from offline
        _build(name, partial, say, go)
    else:
        say(f"downloading {name} {VERSION} (once)")
        download.fetch(url, partial, known)
    partial.chmod(0o755)
    _check(name, partial)
    partial.rename(folder / name)


def machine() -> str:
    """Return what releases call this machine."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def stated(url: str) -> download.Stated:
    """Return the checksum a release states beside a file.

    Raises:
        StackFailed: It cannot be reached; says why.
    """
    try:
        with urllib.request.urlopen(f"{url}.sha256", timeout=download.PATIENCE_S) as answer:
            sha256 = answer.read(200).decode("ascii", "replace").strip()
    except urllib.error.HTTPError as error:
        error.close()
        raise StackFailed(f"cannot download {url}: {error.code} {error.reason}") from error
    except OSError as error:
        raise StackFailed(f"cannot download {url}: {error}") from error
    return download.Stated(sha256=sha256, commit="")


def _build(name: str, partial: Path, say: Say, go: str) -> None:
    """Compile one program; what an interrupted build had compiled is in Go's own cache."""
    say(f"building {name} {VERSION} from the Go module (all take 10 minutes of CPU, once)")
    major, minor, _ = VERSION.split(".")
    stamps = {"gitVersion": f"v{VERSION}", "gitMajor": major, "gitMinor": minor}
    # without them the programs call themselves v0.0.0-master and clients warn of the skew
    flags = " ".join(
        f"-X {package}.{key}={value}"
        for package in _VERSION_PACKAGES
        for key, value in stamps.items()
    )
    build(f"k8s.io/kubernetes/cmd/{name}", partial, module=MODULE, flags=flags, go=go)


def build(package: str, target: Path, *, module: Path, flags: str, go: str) -> None:
    """Compile a Go program.

    Args:
        package: Its path.
        target: The file it becomes.
        module: Folder of the ``go.mod`` that says which version.
        flags: Of the linker.
        go: The Go command.

    Raises:
        StackFailed: It cannot be compiled; with the end of what was said.
    """
    command = (go, "build", "-trimpath", "-ldflags", f"-s -w {flags}", "-o", target, package)
    done = subprocess.run(
        command,
        cwd=module,
        env={**os.environ, "CGO_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()[-15:]
        name = package.rpartition("/")[2]
        raise StackFailed(f"cannot build {name} with {go}", log="\n".join(lines))


def _check(name: str, program: Path) -> None:
    arguments = ("version", "--client") if name == "kubectl" else ("--version",)
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    except OSError as error:
        raise StackFailed(f"{name} does not run on this machine: {error}") from error
    if f"v{VERSION}" not in done.stdout:
        raise StackFailed(f"{name} says {done.stdout.strip()!r}, not v{VERSION}")
