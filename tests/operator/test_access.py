"""Who we are to the API server is read anew when it is refused: not too often, and never worse."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gpupilot_envs.errors import ClusterUnavailable
from gpupilot_operator.kube_access import AGAIN_S, Access


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the kubeconfig is that the environment names."""
    path = tmp_path / "kubeconfig"
    monkeypatch.setenv("KUBECONFIG", str(path))
    return path


def write(path: Path, user: dict[str, str]) -> None:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "a", "user": user}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "current-context": "a",
    }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")


def token(access: Access) -> str:
    return str(access.client.configuration.get_api_key_with_prefix("BearerToken"))


def test_a_token_that_was_replaced_in_the_file_is_read_once(kubeconfig: Path) -> None:
    write(kubeconfig, {"token": "old"})
    access = Access(Clock())
    refused = access.client
    write(kubeconfig, {"token": "new"})
    assert access.renewed(refused)
    known = access.client
    assert token(access) == "Bearer new"
    # another thread was refused with the same one
    assert access.renewed(refused)
    assert access.client is known


def test_a_file_that_the_kubeconfig_names_is_read_too(kubeconfig: Path, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old", encoding="utf-8")
    write(kubeconfig, {"tokenFile": str(file)})
    access = Access(Clock())
    file.write_text("new", encoding="utf-8")
    assert access.renewed(access.client)
    assert token(access) == "Bearer new"


def test_who_is_refused_for_good_reads_now_and_then(kubeconfig: Path) -> None:
    write(kubeconfig, {"token": "wrong"})
    clock = Clock()
    access = Access(clock)
    assert access.renewed(access.client)
    clock.now_s += AGAIN_S / 2.0
    assert not access.renewed(access.client)
    clock.now_s += AGAIN_S / 2.0
    assert access.renewed(access.client)


@pytest.mark.parametrize("text", ["{not: [yaml", "", "just words"])
def test_a_file_that_is_being_written_leaves_who_we_were(kubeconfig: Path, text: str) -> None:
    write(kubeconfig, {"token": "old"})
    access = Access(Clock())
    before = access.client
    kubeconfig.write_text(text, encoding="utf-8")
    assert not access.renewed(before)
    assert access.client is before


@pytest.mark.usefixtures("kubeconfig")
def test_no_kubeconfig_at_all_is_said() -> None:
    with pytest.raises(ClusterUnavailable, match="no API server: "):
        Access()
