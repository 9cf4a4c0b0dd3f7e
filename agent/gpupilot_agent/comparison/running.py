"""The comparison itself: every policy on every trace under every seed, then one summary."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from gpupilot_agent import tracking
from gpupilot_agent.comparison.config import CompareConfig
from gpupilot_agent.comparison.contenders import Contender
from gpupilot_agent.comparison.field import Field, Place
from gpupilot_agent.comparison.rows import family_score, family_scores, impossible, perfect, rows
from gpupilot_agent.comparison.searching import searched, without_search
from gpupilot_agent.comparison.summary import (
    at_attainment,
    frontiers,
    paired,
    paired_by_trace,
    policy_scores,
    trace_scores,
)
from gpupilot_agent.comparison.table import Results
from gpupilot_agent.comparison.tasks import Progress, Task, sweep, timeline_file
from gpupilot_agent.evaluation import CONFIDENCE, RESAMPLES
from gpupilot_agent.results import Summary, Training, write_summary
from gpupilot_envs.atomic import atomic_path, write_text

SUMMARY = "summary.json"
CONFIG = "config.yaml"
SERIES = "series"
TASKS = "tasks"


def compare(
    config: CompareConfig,
    out: Path,
    *,
    jobs: int | None = 1,
    on_progress: Progress = lambda done, total, note: None,  # noqa: ARG005
) -> Path:
    """Run a comparison into the folder ``out`` and return the path of its ``summary.json``.

    An interrupted run goes on where it stopped when it is started again with the same
    configuration; the numbers are the same as of one that was never interrupted. Where policies
    are to run tuned and no tuned settings are given, they are searched first, on generated
    traffic (:mod:`.searching`).

    Args:
        config: What to compare.
        out: Folder of the result; see ``docs/results.md``.
        jobs: Processes; ``None`` leaves it to ``joblib.parallel_config``.
        on_progress: Told after each finished unit of work.

    Raises:
        InputInvalid: A policy cannot be built or a trace cannot be replayed.
        OutputRefused: ``out`` holds something else or cannot be written.
    """
    known = without_search(config)
    Field.of(known)
    with tracking.claimed(out, kind="comparison", identity=config.identity(), result=SUMMARY):
        if known is not config:
            config = searched(config, out, jobs=jobs, on_progress=on_progress)
        field = Field.of(config)
        described = describe(config, field)
        write_text(out / CONFIG, yaml.safe_dump(described, sort_keys=False))
        tasks = field.tasks()
        by_key = sweep(list(tasks.values()), out / TASKS, jobs=jobs, on_progress=on_progress)
        scores = {place: by_key[task.key] for place, task in tasks.items()}
        _write_series(out, tasks, field.mains(scores))
        write_summary(out / SUMMARY, _summary(config, described, field.results(scores)))
    return out / SUMMARY


def describe(config: CompareConfig, field: Field) -> dict[str, Any]:
    """Return the resolved configuration as ``config.yaml`` and ``summary.json`` show it."""
    carried = config.scene.capacity()
    scene = config.scene.identity()
    return {
        "profile": scene.pop("profile"),
        "targets": scene.pop("targets"),
        "capacity": {"slo_rps": carried.slo_rps, "saturation_rps": carried.saturation_rps},
        "policies": {
            contender.name: {"family": contender.family, "role": contender.role}
            for contender in field.contenders
        },
        "settings": {
            f"{contender.name}: {contender.setting}": dict(contender.params)
            for contender in field.contenders
        },
        "traces": {
            trace.name: {
                "family": trace.family,
                "mean_rps": field.pieces[trace.name][0].trace.mean_rps,
                "windows": [piece.window() for piece in field.pieces[trace.name]],
            }
            for trace in config.traces
        },
        "seeds": list(range(config.seeds)),
        "levels": list(config.all_levels),
        "intervals": {"confidence": CONFIDENCE, "resamples": RESAMPLES},
        **scene,
    }


def _summary(config: CompareConfig, described: dict[str, Any], results: Results) -> Summary:
    read = {name: results.frontier(name) for name in results.mains}
    costs = at_attainment(read, config.all_levels)
    identity = config.identity()
    return Summary(
        policies=policy_scores(results),
        traces=trace_scores(results),
        at_attainment={
            level: {name: cost.mean for name, cost in row.items()} for level, row in costs.items()
        },
        at_attainment_ci95={
            level: {name: cost.ci95 or (None, None) for name, cost in row.items()}
            for level, row in costs.items()
        },
        paired=paired(results, read, config.all_levels),
        paired_by_trace=paired_by_trace(results),
        frontiers=frontiers(results),
        families=family_scores(results, config.all_levels),
        trainings=_trainings(config, results),
        rows=rows(results, config.all_levels),
        perfect=perfect(results, config.all_levels),
        impossible=impossible(results),
        config=described,
        environment=tracking.environment(),
        hashes={
            "profile": tracking.digest(identity["scene"]["profile"]),
            "traces": identity["traces"],
            "tuned": identity["tuned"],
            "bundles": identity["bundles"],
            "config": tracking.digest(identity),
            "tuned_on": {} if config.tuned is None else dict(config.tuned.hashes.get("traces", {})),
            "trained_on": {
                name: sha256
                for bundle in config.bundles
                for name, sha256 in bundle.trace_hashes.items()
            },
        },
    )


def _trainings(config: CompareConfig, results: Results) -> tuple[Training, ...]:
    """Return the row of every training of every learned policy."""
    found = []
    for name, main in results.mains.items():
        if main.role != "learned":
            continue
        for bundle, alone in zip(config.bundles, results.by_training(name), strict=True):
            score = family_score(alone, name, config.all_levels)
            trained = {"policy": name, "bundle": bundle.sha256, "seeds": dict(bundle.seeds)}
            found.append(Training.model_validate({**score.model_dump(), **trained}))
    return tuple(found)


def _write_series(out: Path, tasks: Mapping[Place, Task], mains: Mapping[Place, Contender]) -> None:
    """Write one time series per policy: all traces and seeds of the runs in the tables."""
    files: dict[str, list[Path]] = {}
    for (title, trace, seed), pick in sorted(mains.items(), key=lambda item: item[0][1:]):
        key = tasks[pick, trace, seed].key
        files.setdefault(title.name, []).append(timeline_file(out / TASKS, key))
    for name, parts in files.items():
        table = pa.concat_tables([pq.read_table(part) for part in parts]).unify_dictionaries()
        with atomic_path(out / SERIES / f"{name}.parquet") as partial:
            pq.write_table(table, partial, compression="zstd")
