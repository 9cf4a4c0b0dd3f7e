"""The unit of work of a sweep: one setting of a policy on one trace under one seed."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gpupilot_agent.comparison.building import build, proven
from gpupilot_agent.comparison.contenders import Contender
from gpupilot_agent.comparison.fingerprint import fingerprint
from gpupilot_agent.comparison.scene import Scene, play, total
from gpupilot_agent.comparison.traffic import Piece
from gpupilot_agent.evaluation import recovery_s
from gpupilot_agent.rollout import TIMELINE_COLUMNS, Decision, Run
from gpupilot_agent.tracking import digest
from gpupilot_envs.atomic import write_bytes, write_text
from gpupilot_envs.reasons import Reason
from gpupilot_envs.serving.ledger import Ledger

VERSION = 2
"""Counted up whenever a task would give other numbers for the same description."""

Progress = Callable[[int, int, str], None]
"""Told how many units are done, how many there are, and what was finished last."""

JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Everything that determines one result, and nothing else.

    Attributes:
        scene: Service and surroundings.
        contender: Who decides, with which setting.
        pieces: The stretches of one trace that are replayed.
        seed: Of arrivals and world.
        keep_timeline: Whether the result carries the time series.
    """

    scene: Scene
    contender: Contender
    pieces: tuple[Piece, ...]
    seed: int
    keep_timeline: bool = True

    @property
    def trace(self) -> str:
        """Name of the trace."""
        return self.pieces[0].origin

    @property
    def key(self) -> str:
        """Hash of what determines the result; names do not enter."""
        described = {
            "version": VERSION,
            "code": fingerprint(__name__),
            "scene": self.scene.identity(),
            "policy": self.contender.identity(),
            "trace": self.pieces[0].origin_sha256,
            "windows": [piece.window() for piece in self.pieces],
            "seed": self.seed,
            "timeline": self.keep_timeline,
        }
        return digest(described)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What one scored window measured; see :class:`Score`."""

    requests: int
    in_time: int
    gpu_hours: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What one task measured; ``None`` where it cannot be known.

    Attributes:
        scored_s: Seconds scored.
        requests: Requests that arrived.
        in_time: Requests answered correctly within the target.
        gpu_hours: GPU shares held.
        energy_kwh: Energy drawn.
        co2_g: Emissions.
        latency_p50_ms: Median latency of answered requests.
        latency_p95_ms: 95th percentile.
        latency_p99_ms: 99th percentile.
        replica_changes: Changes of the replica count.
        pod_restarts: Containers restarted.
        recovery_s: Mean time back to target after the rate stepped up.
        decisions: Decisions taken.
        held: Decisions the guardrail changed, by reason.
        overridden: Decisions the guardrail changed.
        unfamiliar: Decisions on what the policy was not trained on.
        geared: Whether it moved anything but the replicas.
        windows: Requests, requests in time and GPU-hours window by window.
        duals: Of the oracle: what it proves, window by window, see :mod:`gpupilot_agent.perfect`.
    """

    scored_s: float
    requests: int
    in_time: int
    gpu_hours: float
    energy_kwh: float
    co2_g: float | None
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    latency_p99_ms: float | None
    replica_changes: int
    pod_restarts: int
    recovery_s: float | None
    decisions: int
    held: dict[str, int]
    overridden: int
    unfamiliar: int
    geared: bool
    windows: tuple[Window, ...]
    duals: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A score and, where the task keeps it, its time series as a Parquet file in memory."""

    score: Score
    timeline: bytes | None


def execute(task: Task) -> Outcome:
    """Run a task; depends on nothing but the task, so that any machine may do it."""
    runs = [_played(task, piece) for piece in task.pieces]
    return Outcome(
        score=_scored(task, runs), timeline=_timeline(task, runs) if task.keep_timeline else None
    )


def in_memory(
    tasks: Sequence[Task], *, jobs: int | None, on_progress: Progress
) -> dict[str, Score]:
    """Run every task and return all scores by key; nothing is written or resumed."""
    unique = {task.key: task for task in tasks}
    found: dict[str, Score] = {}
    for key, outcome in _parallel(unique, jobs):
        found[key] = outcome.score
        on_progress(len(found), len(unique), unique[key].contender.name)
    return found


def sweep(
    tasks: Sequence[Task], folder: Path, *, jobs: int | None, on_progress: Progress
) -> dict[str, Score]:
    """Run every task that ``folder`` does not hold yet and return all scores by key.

    Work goes through joblib: with ``jobs`` unset, whatever ``joblib.parallel_config`` chose
    (loky, Ray, Dask). Results come back to this process, which alone writes: one whole file per
    finished task.

    Raises:
        OutputRefused: A result cannot be written.
    """
    unique = {task.key: task for task in tasks}
    pending = {key: task for key, task in unique.items() if not _file(folder, key).exists()}
    done = len(unique) - len(pending)
    on_progress(done, len(unique), "resumed" if done else "started")
    for key, outcome in _parallel(pending, jobs):
        _store(folder, key, outcome)
        done += 1
        on_progress(done, len(unique), f"{unique[key].contender.name} on {unique[key].trace}")
    return {key: _load(folder, key) for key in unique}


def timeline_file(folder: Path, key: str) -> Path:
    """Return where the time series of a task lies."""
    return folder / f"{key}.parquet"


def _parallel(pending: dict[str, Task], jobs: int | None) -> Iterator[tuple[str, Outcome]]:
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
    yield from parallel(joblib.delayed(_keyed)(key, task) for key, task in pending.items())


def _keyed(key: str, task: Task) -> tuple[str, Outcome]:
    return key, execute(task)


def _played(task: Task, piece: Piece) -> Run:
    policy = build(task.contender, task.scene, piece, task.pieces, task.seed)
    return play(task.scene, piece, policy, task.seed, asked=task.contender.asked)


def _scored(task: Task, runs: list[Run]) -> Score:
    ledger = total([run.scored for run in runs])
    return Score(
        scored_s=sum(run.scored_s for run in runs),
        requests=int(ledger.requests),
        in_time=sum(_window(run.scored).in_time for run in runs),
        gpu_hours=ledger.gpu_seconds / 3600.0,
        energy_kwh=ledger.energy_j / JOULES_PER_KWH,
        co2_g=ledger.co2_g if np.isfinite(ledger.co2_g) else None,
        latency_p50_ms=_quantile_ms(ledger, 0.50),
        latency_p95_ms=_quantile_ms(ledger, 0.95),
        latency_p99_ms=_quantile_ms(ledger, 0.99),
        replica_changes=int(ledger.replica_changes),
        pod_restarts=int(ledger.pod_restarts),
        recovery_s=_recovery(task, runs),
        decisions=sum(len(run.decisions) for run in runs),
        held=_held(runs),
        overridden=sum(decision.held for run in runs for decision in run.decisions),
        unfamiliar=sum(
            Reason.OUT_OF_DISTRIBUTION in decision.reasons
            for run in runs
            for decision in run.decisions
        ),
        geared=any(_geared(task.scene, decision) for run in runs for decision in run.decisions),
        windows=tuple(
            window
            for run, piece in _with_pieces(task, runs)
            for window in _windows(task, run, piece)
        ),
        duals=_duals(task) if task.contender.proves else (),
    )


def _geared(scene: Scene, decision: Decision) -> bool:
    asked_for = scene.allocation
    return replace(decision.granted, replicas=asked_for.replicas) != asked_for


def _windows(task: Task, run: Run, piece: Piece) -> list[Window]:
    """Return the windows of one stretch: itself, or blocks of equal length."""
    block_s = task.scene.block_s
    if block_s is None:
        return [_window(run.scored)]
    rows = _after_warm_up(run, piece)
    blocks = max(1, math.floor(piece.scored_s / block_s + 0.5))
    into_s = rows["t_s"] - piece.warm_up_s - 0.5 * rows["interval_s"]
    block = np.minimum((into_s / piece.scored_s * blocks).astype(np.int64), blocks - 1)
    requests, late, gpu_s = (
        np.bincount(block, weights=rows[name], minlength=blocks)
        for name in ("requests", "late", "gpu_seconds")
    )
    return [
        Window(
            requests=int(requests[at]),
            in_time=int(max(requests[at] - late[at], 0.0)),
            gpu_hours=float(gpu_s[at]) / 3600.0,
        )
        for at in range(blocks)
    ]


def _duals(task: Task) -> tuple[tuple[float, ...], ...]:
    return tuple(proven(task.scene, piece, task.seed) for piece in task.pieces)


def _window(ledger: Ledger) -> Window:
    requests = int(ledger.requests)
    return Window(
        requests=requests,
        in_time=min(int(ledger.in_time), requests),
        gpu_hours=ledger.gpu_seconds / 3600.0,
    )


def _quantile_ms(ledger: Ledger, q: float) -> float | None:
    seconds = ledger.latency_quantile_s(q)
    return None if seconds is None else seconds * 1000.0


def _recovery(task: Task, runs: list[Run]) -> float | None:
    """Return the mean over pieces that hold a step."""
    target = task.scene.targets.attainment_ratio
    found = [recovery_s(_after_warm_up(run, p), target) for run, p in _with_pieces(task, runs)]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known else None


def _with_pieces(task: Task, runs: list[Run]) -> list[tuple[Run, Piece]]:
    return list(zip(runs, task.pieces, strict=True))


def _after_warm_up(run: Run, piece: Piece) -> dict[str, NDArray[np.float64]]:
    scored = run.timeline["t_s"] > piece.warm_up_s
    return {name: column[scored] for name, column in run.timeline.items()}


def _held(runs: list[Run]) -> dict[str, int]:
    counts = Counter(
        str(reason)
        for run in runs
        for decision in run.decisions
        if decision.held
        for reason in decision.reasons
    )
    return dict(sorted(counts.items()))


def _timeline(task: Task, runs: list[Run]) -> bytes:
    """Return the rows of all pieces on the trace's own clock, scored or not, as Parquet."""
    tables = []
    for run, piece in _with_pieces(task, runs):
        rows = {name: run.timeline[name] for name in TIMELINE_COLUMNS}
        columns: dict[str, Any] = {
            "trace": pa.array([task.trace] * len(rows["t_s"])).dictionary_encode(),
            "seed": np.full(len(rows["t_s"]), task.seed, dtype=np.int32),
            "scored": rows["t_s"] > piece.warm_up_s,
            **{name: column.astype(np.float32) for name, column in rows.items()},
        }
        columns["t_s"] = rows["t_s"] + (piece.start_s - piece.warm_up_s)
        tables.append(pa.table(columns))
    sink = io.BytesIO()
    pq.write_table(pa.concat_tables(tables), sink, compression="zstd")
    return sink.getvalue()


def _file(folder: Path, key: str) -> Path:
    return folder / f"{key}.json"


def _store(folder: Path, key: str, outcome: Outcome) -> None:
    """Write the time series first: the score's file is what says that a task is finished."""
    if outcome.timeline is not None:
        write_bytes(timeline_file(folder, key), outcome.timeline)
    write_text(_file(folder, key), json.dumps(asdict(outcome.score)))


def _load(folder: Path, key: str) -> Score:
    document = json.loads(_file(folder, key).read_text(encoding="utf-8"))
    windows = tuple(Window(**window) for window in document.pop("windows"))
    duals = tuple(tuple(values) for values in document.pop("duals"))
    return Score(**document, windows=windows, duals=duals)
