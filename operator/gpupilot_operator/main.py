"""The process: what Kopf is told to watch, when it begins and when it ends; nothing else."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import kopf

from gpupilot_envs.errors import GpupilotError
from gpupilot_operator import kinds, logs, naming, settings
from gpupilot_operator.kinds import Kind
from gpupilot_operator.pages import pages, served
from gpupilot_operator.running import Running

WATCH_S = 600
"""How long one watch lasts; the next goes on where it ended."""
NOT_INSTALLED = (
    f"{naming.CRD_NAME} is not defined here, or not for this account to list: "
    "kubectl apply -f deploy/crds, and the roles of deploy/operator"
)
_log = logging.getLogger(__name__)


def operator(running: Running, configured: settings.Settings) -> kopf.OperatorRegistry:
    """Return what Kopf is to call.

    Args:
        running: The operator's parts.
        configured: What its environment says.
    """
    registry = kopf.OperatorRegistry()

    @kopf.on.startup(registry=registry)
    def begin(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.posting.enabled = False
        settings.scanning.disabled = not configured.namespaces
        settings.watching.server_timeout = WATCH_S
        for kind in kinds.WATCHED:
            if kind.selector:
                settings.watching.label_selectors[kind.group, kind.plural] = kind.selector
        settings.networking.request_timeout = 60.0
        settings.networking.connect_timeout = 10.0
        running.start()

    @kopf.on.login(registry=registry)
    def log_in(**given: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_via_client(**given)

    @kopf.on.cleanup(registry=registry)
    def end(**_: Any) -> None:
        running.stop()

    for kind in kinds.WATCHED:
        _follow(registry, running, kind)
    return registry


def _follow(registry: kopf.OperatorRegistry, running: Running, kind: Kind) -> None:
    """Have the events of a kind told to the store."""
    version = kind.api_version.rpartition("/")[2]

    @kopf.on.event(kind.group, version, kind.plural, registry=registry, id=kind.plural)
    async def told(event: kopf.RawEvent, **_: Any) -> None:
        running.see(kind, event["type"], event["object"])


def guarded(do: Callable[[], None]) -> Callable[[], None]:
    """Return a beat of a loop that, whatever fails in it, leaves the loop to go on.

    What was foreseen is an answer or a typed error; what was not must not end the loop for every
    other service. The health page says when a loop no longer gets through.
    """

    def beat() -> None:
        try:
            do()
        except GpupilotError as error:
            _log.warning("%s", error)
        except Exception:  # noqa: BLE001 - see above
            _log.exception("a beat failed in a way that was not foreseen")

    return beat


def run() -> None:
    """Run until told to end (SIGTERM, SIGINT)."""
    try:
        configured = settings.read(os.environ)
        logs.set_up(configured.log_level)
        running = Running(configured, guarded)
    except GpupilotError as error:
        sys.exit(f"gpupilot: {error}")
    if not running.is_installed():
        # nothing would tell of resources of a kind that comes later: begin again then
        sys.exit(f"gpupilot: {NOT_INSTALLED}")
    answers = pages(running.exporter.registry, running.health)
    with served(answers, configured.listen_port):
        kopf.run(
            registry=operator(running, configured),
            standalone=True,
            clusterwide=not configured.namespaces,
            namespaces=configured.namespaces,
        )


if __name__ == "__main__":
    run()
