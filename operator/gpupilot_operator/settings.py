"""The operator's own settings: the environment, read once at the start and never again."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.prometheus import Access
from gpupilot_operator.pod import Platform

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
PULL_POLICIES = ("Always", "IfNotPresent", "Never")
PROMETHEUS_WITHIN_S = 3.0
"""A Prometheus that is slow holds what runs; it must not hold up the next tick."""
NO_USER = "none"
"""What ``GPUPILOT_POD_USER`` says where the cluster chooses who containers run as."""
_NAME = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a person who installs the operator may choose.

    Attributes:
        prometheus: Where metrics are asked for, and how to be let in.
        metric_names: A table of the user's own metric names; ``None`` takes the embedded one.
        window_s: Window of rates and quantiles.
        tick_s: Time from one decision to the next.
        listen_port: Of the operator's metrics and health pages.
        log_level: One of :data:`LOG_LEVELS`.
        namespaces: Those that are served; empty serves all.
        lease_namespace: Where the Lease of the leader is, and the operator's own pod.
        lease_name: The Lease's name.
        identity: Who this replica is: its pod's name.
        state_dir: Folder of the decision log.
        platform: What the pods of services are like.
    """

    prometheus: Access
    metric_names: Path | None = None
    window_s: int = 15
    tick_s: float = 5.0
    listen_port: int = 8080
    log_level: str = "INFO"
    namespaces: tuple[str, ...] = ()
    lease_namespace: str
    lease_name: str = "gpupilot-operator"
    identity: str
    state_dir: Path = Path("/var/lib/gpupilot")
    platform: Platform = field(default=Platform())


def read(environment: Mapping[str, str]) -> Settings:
    """Return the settings that an environment holds.

    Args:
        environment: Such as ``os.environ``; what is not named in ``docs/operator.md`` is ignored.

    Raises:
        InputInvalid: A variable is missing or wrong; names it and says what to write.
    """
    ask = _Asked(environment)
    return Settings(
        prometheus=_prometheus(ask),
        metric_names=ask("GPUPILOT_METRIC_NAMES", _folder_or_none, "an absolute path", ""),
        window_s=ask("GPUPILOT_WINDOW_SECONDS", _window, "whole seconds from 5 to 300", "15"),
        tick_s=ask("GPUPILOT_TICK_SECONDS", _seconds, "seconds from 1 to 300", "5"),
        listen_port=ask("GPUPILOT_LISTEN_PORT", _port, "a port from 0 to 65535", "8080"),
        log_level=ask("GPUPILOT_LOG_LEVEL", _one_of(LOG_LEVELS), f"one of {LOG_LEVELS}", "INFO"),
        namespaces=ask("GPUPILOT_NAMESPACES", _names, "names of namespaces with commas", ""),
        lease_namespace=ask("POD_NAMESPACE", _name, "the namespace of the operator's pod"),
        lease_name=ask("GPUPILOT_LEASE_NAME", _name, "the name of a Lease", "gpupilot-operator"),
        identity=ask("POD_NAME", _name, "the name of the operator's pod"),
        state_dir=ask("GPUPILOT_STATE_DIR", _folder, "an absolute path", "/var/lib/gpupilot"),
        platform=_platform(ask),
    )


class _Asked:
    """Reads one variable at a time and says its name when it is wrong."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def __call__(
        self, name: str, parse: Callable[[str], Value], allowed: str, default: str | None = None
    ) -> Value:
        text = self._environment.get(name, default)
        if text is None:
            raise InputInvalid(name, text, allowed)
        try:
            return parse(text.strip())
        except ValueError as error:
            raise InputInvalid(name, text, allowed) from error


def _prometheus(ask: _Asked) -> Access:
    def file(name: str) -> Path | None:
        return ask(f"GPUPILOT_PROMETHEUS_{name}", _folder_or_none, "an absolute path", "")

    return Access(
        url=ask("GPUPILOT_PROMETHEUS_URL", _url, "the URL of a Prometheus, http(s)://…"),
        user=ask("GPUPILOT_PROMETHEUS_USER", str, "a name", "") or None,
        password_file=file("PASSWORD_FILE"),
        token_file=file("TOKEN_FILE"),
        ca_file=file("CA_FILE"),
        tenant=ask("GPUPILOT_PROMETHEUS_TENANT", str, "a tenant", "") or None,
        timeout_s=PROMETHEUS_WITHIN_S,
        attempts=1,
    )


def _platform(ask: _Asked) -> Platform:
    stated = Platform()
    return Platform(
        user=ask("GPUPILOT_POD_USER", _user, f"a user id above 0, or {NO_USER}", str(stated.user)),
        storage_image=ask("GPUPILOT_STORAGE_IMAGE", _text, "an image", stated.storage_image),
        pull_policy=ask(
            "GPUPILOT_PULL_POLICY",
            lambda text: _one_of(PULL_POLICIES)(text) if text else None,
            f"one of {PULL_POLICIES}, or empty",
            "",
        ),
    )


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(text)
    return text.rstrip("/")


def _seconds(text: str) -> float:
    return _within(float(text), 1.0, 300.0)


def _window(text: str) -> int:
    return int(_within(int(text), 5, 300))


def _port(text: str) -> int:
    return int(_within(int(text), 0, 65535))


def _user(text: str) -> int | None:
    return None if text == NO_USER else int(_within(int(text), 1, 2**31 - 1))


def _within(value: float, least: float, most: float) -> float:
    if not least <= value <= most:
        raise ValueError(value)
    return value


def _one_of(allowed: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(text)
        return text

    return parse


def _text(text: str) -> str:
    if not text or " " in text:
        raise ValueError(text)
    return text


def _name(text: str) -> str:
    # a pod's name may hold dots; a namespace's may not, and the API server says so
    if not re.fullmatch(rf"{_NAME}(\.{_NAME})*", text):
        raise ValueError(text)
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(sorted({_name(each.strip()) for each in text.split(",")})) if text else ()


def _folder_or_none(text: str) -> Path | None:
    return _folder(text) if text else None


def _folder(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise ValueError(text)
    return path
