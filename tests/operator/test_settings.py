"""The environment, read once: defaults, and one sentence for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpupilot_envs.errors import InputInvalid
from gpupilot_operator.settings import read

LEAST = {
    "GPUPILOT_PROMETHEUS_URL": "http://prometheus.monitoring:9090/",
    "POD_NAME": "gpupilot-operator-6d5f8-x2x7q",
    "POD_NAMESPACE": "gpupilot-system",
}


def test_three_variables_are_enough() -> None:
    settings = read({**LEAST, "PATH": "/bin"})
    assert settings.prometheus.url == "http://prometheus.monitoring:9090"
    assert (settings.tick_s, settings.listen_port, settings.namespaces) == (5.0, 8080, ())
    assert (settings.lease_namespace, settings.lease_name) == (
        "gpupilot-system",
        "gpupilot-operator",
    )
    assert settings.platform.user == 1000


def test_everything_can_be_said(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret", encoding="utf-8")
    said = {
        "GPUPILOT_TICK_SECONDS": "5",
        "GPUPILOT_WINDOW_SECONDS": "30",
        "GPUPILOT_METRIC_NAMES": "/etc/names.yaml",
        "GPUPILOT_PROMETHEUS_TOKEN_FILE": str(token),
        "GPUPILOT_PROMETHEUS_CA_FILE": str(token),
        "GPUPILOT_PROMETHEUS_TENANT": "team-a",
        "GPUPILOT_LISTEN_PORT": "0",
        "GPUPILOT_LOG_LEVEL": "DEBUG",
        "GPUPILOT_NAMESPACES": "prod, staging,prod",
        "GPUPILOT_LEASE_NAME": "second",
        "GPUPILOT_STATE_DIR": "/data",
        "GPUPILOT_POD_USER": "none",
        "GPUPILOT_STORAGE_IMAGE": "mirror/storage:1",
        "GPUPILOT_PULL_POLICY": "Never",
    }
    settings = read(LEAST | said)
    assert settings.namespaces == ("prod", "staging")
    assert settings.state_dir == Path("/data")
    assert (settings.tick_s, settings.listen_port, settings.log_level) == (5.0, 0, "DEBUG")
    assert (settings.window_s, settings.metric_names) == (30, Path("/etc/names.yaml"))
    prometheus = settings.prometheus
    assert (prometheus.token_file, prometheus.tenant) == (token, "team-a")
    assert (prometheus.user, prometheus.ca_file) == (None, token)
    assert settings.lease_name == "second"
    platform = settings.platform
    assert (platform.user, platform.storage_image) == (None, "mirror/storage:1")
    assert platform.pull_policy == "Never"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("GPUPILOT_PROMETHEUS_URL", "prometheus:9090"),
        ("GPUPILOT_PROMETHEUS_URL", "http://"),
        ("GPUPILOT_TICK_SECONDS", "0"),
        ("GPUPILOT_TICK_SECONDS", "soon"),
        ("GPUPILOT_TICK_SECONDS", "nan"),
        ("GPUPILOT_WINDOW_SECONDS", "1.5"),
        ("GPUPILOT_METRIC_NAMES", "names.yaml"),
        ("GPUPILOT_PROMETHEUS_TOKEN_FILE", "token"),
        ("GPUPILOT_LISTEN_PORT", "65536"),
        ("GPUPILOT_LOG_LEVEL", "LOUD"),
        ("GPUPILOT_NAMESPACES", "prod,,staging"),
        ("GPUPILOT_NAMESPACES", "Prod"),
        ("GPUPILOT_STATE_DIR", "data"),
        ("GPUPILOT_POD_USER", "0"),
        ("GPUPILOT_POD_USER", "root"),
        ("GPUPILOT_PULL_POLICY", "Sometimes"),
        ("GPUPILOT_STORAGE_IMAGE", ""),
        ("POD_NAME", ""),
    ],
)
def test_nonsense_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(InputInvalid, match=f"^{name}: "):
        read({**LEAST, name: text})


@pytest.mark.parametrize("name", LEAST)
def test_what_has_no_default_must_be_said(name: str) -> None:
    with pytest.raises(InputInvalid, match=f"^{name}: None is not allowed; expected the"):
        read({key: text for key, text in LEAST.items() if key != name})
