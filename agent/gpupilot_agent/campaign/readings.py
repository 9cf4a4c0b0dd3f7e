"""The recording of a run: what Prometheus held of the time that counts, read afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from gpupilot_agent.campaign.declaration import Run
from gpupilot_agent.live_recorder import LiveRecorder, RecordingPlan
from gpupilot_agent.stack.state import StackState
from gpupilot_agent.triton.repository import MODEL
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.live import LiveSignals
from gpupilot_envs.metric_names import metric_names
from gpupilot_envs.metric_queries import Scope, column_queries
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.prometheus import Access, Prometheus
from gpupilot_envs.workload.recording import read_recording, write_recording

EVERY_S = 5
"""Seconds of a row."""

STARTS = "gpupilot-stack"
"""Source of the cold starts: from the start of a server's process until its model was ready."""


def write_readings(
    run: Run,
    started: StackState,
    path: Path,
    *,
    begins_s: float,
    batches: Mapping[int, tuple[int, float]],
) -> None:
    """Read the signals as ``gpupilot record`` does, and add what the stack knows beside them.

    Args:
        run: As declared.
        started: The stack that still runs.
        path: The file to write.
        begins_s: Unix time from which requests counted.
        batches: Executions and their seconds by batch size since then.

    Raises:
        MetricsUnavailable: Prometheus does not answer.
        OutputRefused: The file cannot be written.
    """
    names, target_s = metric_names(None), run.target_ms / 1000.0
    plan = RecordingPlan(
        service=MODEL,
        out=path,
        every_s=EVERY_S,
        # the first row's whole window counts
        since_s=begins_s + EVERY_S - 1.0,
        follow=False,
        delay_s=0.0,
        flush_s=1.0,
        running=_running(run.service(), run.replicas),
        target_s=target_s,
        queries=column_queries(names, Scope(services=(MODEL,), window_s=EVERY_S)),
    )
    live = LiveSignals(Prometheus(Access(url=started.prometheus_url)), names, lambda _: target_s)
    LiveRecorder(live, plan, now_s=lambda: begins_s + run.duration_s).run()
    read = read_recording(path)
    starts = (*started.cold_starts_s.values(), *(None for _ in read.readings))
    details = dict(read.details) | {"cold_start_s": starts[: len(read.readings)]}
    sources = dict(read.sources) | {"cold_start_s": STARTS}
    write_recording(path, replace(read, details=details, sources=sources, batch_times=batches))


def _running(service: ServiceProfile, replicas: int) -> Allocation:
    batching = service.batching
    return Allocation(
        replicas=replicas,
        instances_per_replica=service.instances_per_replica,
        batch_max=batching.max_batch if batching.enabled else 1,
        queue_delay_us=round(1000.0 * batching.queue_delay_ms) if batching.enabled else 0,
    )
