"""Where the Kubernetes programs come from: a folder, a download that is checked, or Go."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gpupilot_envs.errors import StackFailed
from gpupilot_testbed import charts, programs
from gpupilot_testbed.programs import VERSION, kubernetes

NAME = "kube-scheduler"
GOOD = f"#!/bin/sh\necho Kubernetes v{VERSION}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Releases:
    """A server of releases on loopback, and what it was asked for."""

    url: str
    folder: Path
    asked: list[str] = field(default_factory=list)

    def offer(self, text: str, *, sha256: str | None = None) -> None:
        (self.folder / NAME).write_text(text, encoding="ascii")
        stated = sha256 or hashlib.sha256(text.encode("ascii")).hexdigest()
        (self.folder / f"{NAME}.sha256").write_text(stated, encoding="ascii")


@pytest.fixture
def releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Releases]:
    monkeypatch.setenv("GPUPILOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBE_ASSETS", raising=False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    folder = tmp_path / "site" / f"v{VERSION}" / "bin" / "linux" / "amd64"
    folder.mkdir(parents=True)
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            asked.append(self.path.rpartition("/")[2])

    handler = partial(Handler, directory=str(tmp_path / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        yield Releases(url=url, folder=folder, asked=asked)
        server.shutdown()
        thread.join()


def test_a_release_is_downloaded_once_checked_and_kept(releases: Releases) -> None:
    releases.offer(GOOD)
    said: list[str] = []
    folder = kubernetes((NAME,), said.append, releases=releases.url)
    assert kubernetes((NAME,), said.append, releases=releases.url) == folder
    assert (folder / NAME).stat().st_mode & 0o111
    assert releases.asked == [f"{NAME}.sha256", NAME]
    assert said == [f"downloading {NAME} {VERSION} (once)"]


def test_a_damaged_download_is_not_kept(releases: Releases, tmp_path: Path) -> None:
    releases.offer(GOOD, sha256="0" * 64)
    with pytest.raises(StackFailed, match="arrived damaged"):
        kubernetes((NAME,), lambda _: None, releases=releases.url)
    assert [path.name for path in tmp_path.rglob(f"{NAME}*") if "cache" in path.parts] == []


def test_another_version_is_not_kept(releases: Releases) -> None:
    releases.offer("#!/bin/sh\necho Kubernetes v1.0.0\n")
    with pytest.raises(StackFailed, match=r"says 'Kubernetes v1\.0\.0', not v"):
        kubernetes((NAME,), lambda _: None, releases=releases.url)


def test_without_network_and_go_every_way_out_is_said(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(StackFailed, match=r"cannot download .*install Go 1\.26.*KUBE_ASSETS"):
        kubernetes((NAME,), lambda _: None, releases=releases.url)


def test_without_network_it_is_built_and_go_s_words_are_shown(
    releases: Releases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "bin" / "go"
    go.parent.mkdir()
    go.write_text('#!/bin/sh\necho "$@" > "$GO_SAID"; echo no such module >&2; exit 1\n')
    go.chmod(0o755)
    monkeypatch.setenv("PATH", str(go.parent), prepend=":")
    monkeypatch.setenv("GO_SAID", str(tmp_path / "said"))
    with pytest.raises(StackFailed, match=f"cannot build {NAME}") as failed:
        kubernetes((NAME,), lambda _: None, releases=releases.url)
    assert failed.value.log == "no such module"
    words = (tmp_path / "said").read_text(encoding="utf-8")
    assert f"k8s.io/component-base/version.gitVersion=v{VERSION}" in words
    assert words.strip().endswith(f"k8s.io/kubernetes/cmd/{NAME}")


def test_a_folder_of_one_s_own_goes_first(
    releases: Releases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / NAME
    program.write_text(GOOD, encoding="ascii")
    monkeypatch.setenv("KUBE_ASSETS", str(tmp_path))
    with pytest.raises(StackFailed, match=f"holds no program {NAME}"):
        kubernetes((NAME,), lambda _: None, releases=releases.url)
    program.chmod(0o755)
    assert kubernetes((NAME,), lambda _: None, releases=releases.url) == tmp_path
    assert releases.asked == []


def test_the_module_asks_for_the_same_version() -> None:
    text = (programs.MODULE / "go.mod").read_text(encoding="utf-8")
    assert re.findall(r"^\tk8s\.io/kubernetes v(\S+)", text, flags=re.MULTILINE) == [VERSION]
    staged = set(re.findall(r"k8s\.io/\S+ => k8s\.io/\S+ v(\S+)", text))
    assert staged == {VERSION.replace("1.", "0.", 1)}
    tools = set(re.findall(r"^\tk8s\.io/kubernetes/cmd/(\S+)$", text, flags=re.MULTILINE))
    assert tools == set(programs.CONTROL_PLANE + programs.NODE)


def test_helm_is_downloaded_once_and_taken_from_its_archive(
    releases: Releases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    name, text = f"helm-v{charts.VERSION}-linux-amd64.tar.gz", b"#!/bin/sh\n"
    with tarfile.open(tmp_path / "site" / name, "w:gz") as archive:
        entry = tarfile.TarInfo("linux-amd64/helm")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    checksum = hashlib.sha256((tmp_path / "site" / name).read_bytes()).hexdigest()
    (tmp_path / "site" / f"{name}.sha256").write_text(checksum, encoding="ascii")
    said: list[str] = []
    program = charts.helm(said.append, releases=releases.url)
    assert charts.helm(said.append, releases=releases.url) == program
    assert (program.read_bytes(), program.stat().st_mode & 0o111) == (text, 0o111)
    assert releases.asked == [f"{name}.sha256", name]
    assert said == [f"downloading Helm {charts.VERSION} (once)"]


def test_helm_s_module_asks_for_the_same_version() -> None:
    text = (charts.MODULE / "go.mod").read_text(encoding="utf-8")
    assert re.findall(r"helm\.sh/helm/v4 v(\S+)", text) == [charts.VERSION]
