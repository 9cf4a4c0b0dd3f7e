"""The process: what Kopf is told to watch, when it begins and when it ends; nothing else.

Kopf ends when a watch of it fails for good: an error within the stream that is no expiry, or a
request refused again and again. The rest of the operator needs no watch to go on, so they begin
anew in the same process, and nothing is forgotten.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterable
from typing import Any, cast

import kopf

from gpupilot_envs.errors import ClusterUnavailable, GpupilotError
from gpupilot_operator import heap, logs, naming, settings
from gpupilot_operator.kinds import Kind
from gpupilot_operator.pages import pages, served
from gpupilot_operator.running import Running
from gpupilot_operator.watching import Watching

WATCH_S = 600
"""How long one watch lasts; the next goes on where it ended."""
BACKOFFS_S = (1, 2, 4, 8)
"""Between the tries of a request that a watch begins with; then all of them begin anew."""
CHUNK = 100
"""Objects that are listed at a time, so that not all of them are in memory."""
IDLE_S = 0.1
"""How long an object that was told stays in memory, should more be told of it."""
LOOK_S = 1.0
"""How often it is looked whether there is a reason to begin anew."""
CANCEL_S = 1.0
"""How long a task has to end."""
Task = asyncio.Task[Any]
NOT_INSTALLED = (
    f"{naming.CRD_NAME} is not defined here, or not for this account to list: "
    "kubectl apply -f deploy/crds, and the roles of deploy/operator"
)
_log = logging.getLogger(__name__)


async def follow(running: Running, configured: settings.Settings) -> None:
    """Watch until told to end (SIGTERM, SIGINT); watches that fail begin anew after a while.

    Args:
        running: The operator's parts.
        configured: What its environment says.
    """
    ended, watching = asyncio.Event(), Watching(running.health)
    _end_on_signals(ended)
    while not ended.is_set():
        watching.begins()
        try:
            await _watch(running, configured, watching, ended)
        except Exception as error:  # noqa: BLE001 - Kopf ends with whatever ended a watch
            _log.warning("watches ended and begin anew: %s", error)
            running.missed()
            await _until(ended, watching.failed())


async def _watch(
    running: Running, configured: settings.Settings, watching: Watching, ended: asyncio.Event
) -> None:
    """Watch until told to end, or until other kinds are there to be watched."""
    if not await asyncio.to_thread(running.look_around):
        raise ClusterUnavailable(NOT_INSTALLED)
    kinds, stop = running.watched(), asyncio.Event()
    over = asyncio.create_task(_over(lambda: running.watched() != kinds, watching, ended, stop))
    others = asyncio.all_tasks()
    try:
        tasks = await kopf.spawn_tasks(
            registry=_registry(running, kinds),
            settings=_settings(kinds),
            standalone=True,
            # else Kopf asks for the user's name, and OpenShift's users have none
            identity=cast("Any", configured.identity),
            clusterwide=not configured.namespaces,
            namespaces=configured.namespaces,
            stop_flag=stop,
        )
        # in the place of Kopf's own, which know of no next time
        _end_on_signals(ended)
        await _run(tasks, others)
    finally:
        over.cancel()


async def _run(tasks: Collection[Task], others: Collection[Task]) -> None:
    """Run Kopf's tasks to their end, raising what ended them.

    Kopf cancels each once, and waits without end for one of which the cancellation was lost: those
    are cancelled again.
    """
    run = asyncio.create_task(kopf.run_tasks(tasks, ignored=others))
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    ours, left = {run, *tasks, *others}, asyncio.all_tasks()
    while not (await asyncio.wait({run}, timeout=CANCEL_S))[0]:
        left |= asyncio.all_tasks()
        for each in left - ours:
            each.cancel()
    # what they failed with was said by Kopf
    await asyncio.gather(*(left - ours), return_exceptions=True)
    await run


def _end_on_signals(ended: asyncio.Event) -> None:
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, ended.set)


async def _over(
    changed: Callable[[], bool], watching: Watching, ended: asyncio.Event, stop: asyncio.Event
) -> None:
    """Stop the watches when told to end, or when they are to be others."""
    while not changed() and not ended.is_set():
        watching.lasts()
        await _until(ended, LOOK_S)
    stop.set()


async def _until(ended: asyncio.Event, most_s: float) -> None:
    """Wait for some seconds, or until told to end."""
    try:
        await asyncio.wait_for(ended.wait(), most_s)
    except TimeoutError:
        return


def _settings(kinds: Iterable[Kind]) -> kopf.OperatorSettings:
    """Return what Kopf does beside watching: nothing."""
    made = kopf.OperatorSettings()
    made.posting.enabled = False
    made.queueing.idle_timeout = IDLE_S
    # namespaces are named, never guessed, and need not be listed: no right to do so is asked for
    made.scanning.disabled = True
    made.watching.server_timeout = WATCH_S
    made.watching.chunk_size = CHUNK
    for kind in kinds:
        if kind.selector:
            made.watching.label_selectors[kind.group, kind.plural] = kind.selector
    made.networking.request_timeout = 60.0
    made.networking.connect_timeout = 10.0
    made.networking.error_backoffs = BACKOFFS_S
    # else it kills the process some minutes after its own end
    made.process.ultimate_exiting_timeout = None
    return made


def _registry(running: Running, kinds: Iterable[Kind]) -> kopf.OperatorRegistry:
    """Return what Kopf is to call."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def log_in(**given: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_via_client(**given)

    for kind in kinds:
        _told(registry, running, kind)
    return registry


def _told(registry: kopf.OperatorRegistry, running: Running, kind: Kind) -> None:
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
    heap.settle()
    try:
        configured = settings.read(os.environ)
        logs.set_up(configured.log_level)
        running = Running(configured, guarded)
    except GpupilotError as error:
        sys.exit(f"gpupilot: {error}")
    if not running.look_around():
        # nothing would tell of resources of a kind that comes later: begin again then
        sys.exit(f"gpupilot: {NOT_INSTALLED}")
    answers = pages(running.exporter.registry, running.health)
    with served(answers, configured.listen_port):
        running.start()
        try:
            asyncio.run(follow(running, configured))
        finally:
            running.stop()


if __name__ == "__main__":
    run()
