"""Copy a virtual environment and what it needs to run into an empty root: no shell, no packages.

Usage: ``python whole.py VENV ROOT``. Beside the environment: its interpreter's standard library,
every shared library that any of it links, certificates, and a user to run as.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from slim import NEVER_CHECKED, sourceless

UNUSED = (
    *("test", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data", "curses"),
    *("config-*", "distutils", "dist-packages", "site-packages", "__pycache__"),
    # what links a terminal, NIS and Berkeley's database
    *("_curses*.so", "readline*.so", "nis.*.so", "_dbm*.so", "_tkinter*.so"),
)
"""Of the standard library."""
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
USER = "gpupilot:x:65532:65532::/tmp:/nonexistent\n"


def libraries(*folders: Path) -> set[Path]:
    """Return the shared libraries that programs and libraries under some folders link."""
    linked: set[Path] = set()
    for folder in folders:
        for file in folder.rglob("*") if folder.is_dir() else [folder]:
            if file.is_file() and not file.is_symlink() and _is_elf(file):
                said = subprocess.run(["ldd", file], capture_output=True, text=True, check=False)
                linked |= {Path(path) for path in re.findall(r"(/\S+) \(0x", said.stdout)}
    return linked


def _is_elf(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(4) == b"\x7fELF"


def copied(path: Path, root: Path) -> None:
    """Copy a file to its own place under a root, under every name that leads to it."""
    target = root / path.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path.resolve(), target)


def main(environment: Path, root: Path) -> None:
    """Make the root."""
    standard = Path(sysconfig.get_path("stdlib"))
    ignored = shutil.ignore_patterns(*UNUSED)
    shutil.copytree(standard, root / standard.relative_to("/"), ignore=ignored, symlinks=True)
    places = ("-s", str(root), "-p", "/")
    sourceless(root / standard.relative_to("/"), *places)
    kept = root / environment.relative_to("/")
    shutil.copytree(environment, kept, symlinks=True)
    command = (sys.executable, "-m", "compileall", "-q", *NEVER_CHECKED, *places, kept / "lib")
    subprocess.run(command, check=True)
    for name in ("python3", f"python3.{sys.version_info.minor}"):
        (kept / "bin" / name).unlink()
        (kept / "bin" / name).symlink_to("python")
    for library in libraries(kept, root / standard.relative_to("/")):
        if not library.is_relative_to(environment) and not library.is_relative_to(root):
            copied(library, root)
    if CERTIFICATES.exists():
        copied(CERTIFICATES, root)
    (root / "etc" / "passwd").write_text(USER, encoding="ascii")
    for folder, mode in (("tmp", 0o1777), ("var/lib/gpupilot", 0o777)):
        (root / folder).mkdir(parents=True)
        (root / folder).chmod(mode)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
