"""The product's own images, built from ``deploy/images`` without a registry, once.

An archive is kept in the cache beside the Kubernetes programs, under a name that changes with the
files it is made of.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from gpupilot_agent.stack.tools import Say, alone, cache_root
from gpupilot_envs.atomic import atomic_path
from gpupilot_envs.errors import StackFailed

TRITON = "gpupilot.dev/triton-cpu:1"
GATEWAY = "gpupilot.dev/gateway:1"
BASE = "gpupilot.dev/base:1"
OPERATOR = "gpupilot-operator:0.1.0"
"""As ``deploy/operator`` names it."""
RECIPES = {
    TRITON: "triton-cpu.Dockerfile",
    GATEWAY: "gateway.Dockerfile",
    OPERATOR: "operator.Dockerfile",
    BASE: "base.sh",
}
"""File of ``deploy/images`` that makes each."""
FOLDER = Path(__file__).resolve().parents[2] / "images"
ROOT = FOLDER.parents[1]
SOURCES = ("operator", "agent", "envs", "deploy/images/operator")
"""Folders of the project that the operator's image is made of."""
PROGRAMS = ("buildah", "debootstrap")
CERTIFICATES = "/etc/ssl/certs"
"""The machine's own: behind a proxy with an authority of its own, pip finds nothing without."""


def archive(image: str, say: Say) -> Path:
    """Return the archive of an image, building it if need be.

    Args:
        image: One of :data:`RECIPES`.
        say: Told in one line each what takes time.

    Raises:
        StackFailed: It cannot be built; says what is missing, or what the builder said last.
    """
    folder = cache_root() / "images"
    with alone(folder):
        return _kept(image, folder, say)


def _kept(image: str, folder: Path, say: Say) -> Path:
    target = folder / f"{image.rpartition('/')[2].replace(':', '-')}-{_key(image)}.tar"
    if not target.is_file():
        _require()
        base = None if image == BASE else _kept(BASE, folder, say)
        say(f"building the image {image} (once)")
        with tempfile.TemporaryDirectory(dir=folder) as made, atomic_path(target) as partial:
            builder = _Builder(Path(made))
            builder.make(image, base)
            builder.run("push", "--quiet", image, f"docker-archive:{partial}:{image}")
        _forget_others(target)
    return target


def _forget_others(kept: Path) -> None:
    """Remove the image as earlier recipes made it: it is large, and nobody asks for it again."""
    for earlier in kept.parent.glob(f"{kept.stem.rpartition('-')[0]}-*.tar"):
        if earlier != kept:
            earlier.unlink()


def _key(image: str) -> str:
    """Return what tells one state of the recipes from another; all stand on the base's."""
    files = [FOLDER / RECIPES[name] for name in (image, BASE)]
    if image == OPERATOR:
        files.append(ROOT / "requirements.lock")
        for source in SOURCES:
            files += sorted(p for p in (ROOT / source).rglob("*") if _is_source(p))
    said = b"\0".join(path.read_bytes() for path in files)
    return hashlib.sha256(said).hexdigest()[:12]


def _is_source(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


def _require() -> None:
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        raise StackFailed(
            f"images are built by {' and '.join(PROGRAMS)}: `apt-get install {' '.join(missing)}`"
        )


class _Builder:
    """Buildah with a storage of its own, gone when its folder goes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        storage = folder / "storage.conf"
        # vfs: the only driver that works wherever there is a file system, a container's too
        storage.write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/images"\nrunroot = "{folder}/run"\n',
            encoding="utf-8",
        )
        self._environment: Mapping[str, str] = {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(storage),
            "TMPDIR": str(folder),
            # a virtual machine may not let us make cgroups
            "BUILDAH_ISOLATION": "chroot",
        }

    def make(self, image: str, base: Path | None) -> None:
        """Make an image, from the archive of its base or, without one, the base itself."""
        recipe = FOLDER / RECIPES[image]
        if base is None:
            self._must(("sh", str(recipe), image))
            return
        self.run("pull", "--quiet", f"docker-archive:{base}")
        mounted = f"{CERTIFICATES}:{CERTIFICATES}:ro"
        words = ("--layers=false", "--pull=never", "--build-arg", f"BASE={BASE}", "-v", mounted)
        context = ROOT if image == OPERATOR else FOLDER
        self.run("build", "--quiet", *words, "-f", str(recipe), "-t", image, str(context))

    def run(self, *words: str) -> None:
        """Run one of buildah's commands."""
        self._must(("buildah", *words))

    def _must(self, command: Sequence[str]) -> None:
        done = subprocess.run(
            command,
            env=self._environment,
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            lines = (done.stdout + done.stderr).strip().splitlines()[-15:]
            raise StackFailed(f"`{command[0]} {command[1]}` failed", log="\n".join(lines))
