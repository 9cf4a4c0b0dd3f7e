"""The half of ``gpupilot record`` that reads a real service from Prometheus."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gpupilot_agent.cli import show
from gpupilot_agent.cli.checks import positive, within
from gpupilot_agent.cli.outcome import tell
from gpupilot_envs.errors import InputInvalid, OutputRefused

if TYPE_CHECKING:
    from gpupilot_agent.live_recorder import LiveRecorder, Progress
    from gpupilot_envs.allocation import Allocation
    from gpupilot_envs.metric_names import MetricNames
    from gpupilot_envs.prometheus import Access
    from gpupilot_envs.triton_server import BatchWatch

FLUSH_S = 5.0
DELAY_S = 3.0
EVERY_MAX_S = 3600
DEFAULT_SINCE = "1h"
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveOptions:
    """What the command line says about a real service; ``None`` where it says nothing."""

    access: Access
    service: str
    out: Path
    every_s: float
    target_ms: float
    since: str | None
    follow: bool
    namespace: str | None
    names_file: Path | None
    triton: Sequence[str]
    replicas: int | None
    instances: int | None
    batch_max: int | None
    queue_delay_ms: float | None


def record_live(options: LiveOptions) -> None:
    """Record until the present, or until told to stop, and say what came of it.

    Raises:
        GpupilotError: An option, the service or the file is wrong, or Prometheus does not answer.
    """
    recorder = _recorder(options)
    try:
        recorder.run()
    finally:
        if recorder.progress.rows:
            _say(options, recorder.progress)
    if not recorder.progress.rows and recorder.progress.resumed:
        show.line(f"{file_of(options.out)}: nothing more yet")
    elif not recorder.progress.rows:
        raise InputInvalid(
            "--since", options.since or DEFAULT_SINCE, "a time in which the service had series"
        )


def seconds(text: str) -> float:
    """Return a length of time such as ``90s``, ``15m``, ``6h``, ``7d`` in seconds.

    Raises:
        InputInvalid: It is none.
    """
    matched = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    if matched is None or float(matched[1]) == 0.0:
        raise InputInvalid("--since", text, "a length of time such as 90s, 15m, 6h or 7d")
    return float(matched[1]) * _UNITS_S[matched[2]]


def file_of(out: Path) -> Path:
    """Return the recording's file: ``out`` itself, or ``recording.parquet`` in that folder."""
    return out if out.suffix == ".parquet" else out / "recording.parquet"


def _recorder(options: LiveOptions) -> LiveRecorder:
    from gpupilot_agent.live_recorder import LiveRecorder, RecordingPlan
    from gpupilot_envs.live import LiveSignals
    from gpupilot_envs.metric_names import metric_names
    from gpupilot_envs.prometheus import Prometheus

    positive(target_ms=options.target_ms)
    within(1, EVERY_MAX_S, every=options.every_s)
    if options.every_s != int(options.every_s):
        raise InputInvalid("--every", options.every_s, "whole seconds with --prometheus")
    out = file_of(options.out)
    if out.is_dir():
        raise OutputRefused(f"cannot write {out}: it is a folder")
    names = metric_names(options.names_file)
    target_s = options.target_ms / 1000.0
    watch, running = _servers(options)
    plan = RecordingPlan(
        service=options.service,
        out=out,
        every_s=int(options.every_s),
        since_s=_begin(options),
        follow=options.follow,
        delay_s=DELAY_S,
        flush_s=FLUSH_S,
        running=running,
        target_s=target_s,
        queries=_queries(names, options),
    )
    live = LiveSignals(
        Prometheus(options.access), names, lambda _: target_s, namespace=options.namespace
    )
    return LiveRecorder(live, plan, watch=watch, tell=tell)


def _queries(names: MetricNames, options: LiveOptions) -> dict[str, str]:
    from gpupilot_envs.metric_queries import Scope, column_queries

    scope = Scope(
        services=(options.service,), window_s=int(options.every_s), namespace=options.namespace
    )
    return column_queries(names, scope)


def _begin(options: LiveOptions) -> float | None:
    if options.since is None and options.follow:
        return None
    return time.time() - seconds(options.since or DEFAULT_SINCE)


def _servers(options: LiveOptions) -> tuple[BatchWatch | None, Allocation]:
    """Return what counts executions, and what the service runs with as far as is known."""
    from gpupilot_envs.allocation import Allocation
    from gpupilot_envs.triton_server import BatchWatch, RunningModel, running_model

    found = RunningModel(batch_max=8, queue_delay_us=0, instances=1)
    watch = None
    if options.triton:
        found = running_model(options.triton[0], options.service)
        past = not options.follow and not file_of(options.out).exists()
        watch = BatchWatch(options.triton, options.service, since_loaded=past)
    delay_ms = options.queue_delay_ms
    asked = (options.replicas, options.instances, options.batch_max, delay_ms)
    if not options.triton and all(value is None for value in asked):
        tell(
            "the batcher's settings are not in Prometheus: taking batches of up to 8, no delay, "
            "one instance; say --triton URL or --batch-max, --queue-delay-ms, --instances"
        )
    allocation = Allocation(
        replicas=options.replicas or max(len(options.triton), 1),
        instances_per_replica=options.instances or found.instances,
        batch_max=options.batch_max or found.batch_max,
        queue_delay_us=found.queue_delay_us if delay_ms is None else round(1000.0 * delay_ms),
    )
    return watch, allocation


def _say(options: LiveOptions, progress: Progress) -> None:
    source = ", ".join(sorted(progress.sources)) or "nowhere: no source answered"
    show.line(
        f"{file_of(options.out)}: {progress.rows} rows more, {progress.answered} of them with "
        f"data; latency from {source}"
    )
    if progress.lacks_target:
        bounds = ", ".join(f"{1000 * bound:g}" for bound in progress.bounds_s)
        tell(
            f"no attainment: the gateway has no bucket that ends at {options.target_ms:g} ms "
            f"(its bounds: {bounds} ms)"
        )
    if progress.answered and not progress.sources:
        tell(
            "no request rate: no gateway of the table and no Triton summary has series of "
            f"{options.service} over {options.every_s:g} s; are scrapes further apart than that?"
        )
