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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpupilot_agent.stack.tools import Say, alone, cache_root
from gpupilot_envs.atomic import atomic_path
from gpupilot_envs.errors import StackFailed

TRITON = "gpupilot.dev/triton-cpu:1"
GATEWAY = "gpupilot.dev/gateway:1"
STORAGE = "kserve/storage-initializer:v0.20.0"
"""As the operator names what copies models."""
BASE = "gpupilot.dev/base:1"
LIBRARIES = "gpupilot.dev/operator-libraries:1"
OPERATOR = "gpupilot-operator:0.1.0"
"""As ``deploy/operator`` names it."""
LOAD_LIBRARIES = "gpupilot.dev/load-libraries:1"
LOAD = "gpupilot-load:0.1.0"
"""As the Jobs of ``loadtests`` name it."""
FOLDER = Path(__file__).resolve().parents[2] / "images"
ROOT = FOLDER.parents[1]
PROGRAMS = ("buildah", "debootstrap")
CERTIFICATES = "/etc/ssl/certs"
"""The machine's own: behind a proxy with an authority of its own, pip finds nothing without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How an image is made.

    Attributes:
        file: Of ``deploy/images``.
        base: The image it stands on, ``None`` where it stands on nothing.
        named: The argument by which the file takes the base's name.
        stage: Of the file, where it is not the last.
        made_of: What else it is made of: files and folders of the project.
    """

    file: str
    base: str | None = BASE
    named: str = "BASE"
    stage: str | None = None
    made_of: tuple[str, ...] = ()


_OPERATOR = "operator.Dockerfile"
_LOAD = "load.Dockerfile"
RECIPES = {
    BASE: Recipe(file="base.sh", base=None),
    TRITON: Recipe(file="triton-cpu.Dockerfile"),
    GATEWAY: Recipe(file="gateway.Dockerfile"),
    STORAGE: Recipe(file="storage.Dockerfile"),
    LIBRARIES: Recipe(
        file=_OPERATOR,
        stage="libraries",
        made_of=(
            *("pyproject.toml", "requirements.lock"),
            *("deploy/images/operator/needs.py", "deploy/images/operator/slim.py"),
        ),
    ),
    OPERATOR: Recipe(
        file=_OPERATOR,
        base=LIBRARIES,
        named="LIBRARIES",
        made_of=("operator", "agent", "envs", "deploy/images/operator"),
    ),
    LOAD_LIBRARIES: Recipe(
        file=_LOAD,
        stage="libraries",
        made_of=("pyproject.toml", "requirements.lock", "deploy/images/operator/needs.py"),
    ),
    LOAD: Recipe(
        file=_LOAD,
        base=LOAD_LIBRARIES,
        named="LIBRARIES",
        made_of=("operator", "agent", "envs", "loadtests", "examples"),
    ),
}


def archive(image: str, say: Say) -> Path:
    """Return the archive of an image, building it if need be.

    Args:
        image: One of :data:`RECIPES`.
        say: Told in one line each what takes time.

    Raises:
        StackFailed: It cannot be built; says what is missing, or what the builder said last.
    """
    folder = cache_root() / "images"
    made = _place(image, folder)
    if made.is_file():
        # without waiting for another one that is being built
        return made
    with alone(folder):
        return _kept(image, folder, say)


def _place(image: str, folder: Path) -> Path:
    return folder / f"{image.rpartition('/')[2].replace(':', '-')}-{_key(image)}.tar"


def _kept(image: str, folder: Path, say: Say) -> Path:
    target = _place(image, folder)
    if not target.is_file():
        _require()
        below = RECIPES[image].base
        base = None if below is None else _kept(below, folder, say)
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
    """Return what tells one state of the recipes from another, those below it counted in."""
    said = b"\0".join(_inputs(image))
    return hashlib.sha256(said).hexdigest()[:12]


def _inputs(image: str) -> Iterator[bytes]:
    """Yield the contents of every file that an image is made of, and where a source stands."""
    recipe = RECIPES[image]
    yield (FOLDER / recipe.file).read_bytes()
    if recipe.base is not None:
        yield from _inputs(recipe.base)
    for name in recipe.made_of:
        path = ROOT / name
        for file in sorted(filter(_is_source, path.rglob("*"))) if path.is_dir() else [path]:
            yield str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes()


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
        recipe = RECIPES[image]
        if base is None:
            self._must(("sh", str(FOLDER / recipe.file), image))
            return
        self.run("pull", "--quiet", f"docker-archive:{base}")
        mounted = f"{CERTIFICATES}:{CERTIFICATES}:ro"
        named = ("--build-arg", f"{recipe.named}={recipe.base}", "-v", mounted)
        stage = () if recipe.stage is None else ("--target", recipe.stage)
        words = ("--layers=false", "--pull=never", *named, *stage)
        context = ROOT if recipe.made_of else FOLDER
        file = str(FOLDER / recipe.file)
        self.run("build", "--quiet", *words, "-f", file, "-t", image, str(context))

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
