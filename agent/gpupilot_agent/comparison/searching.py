"""Tuned settings for a comparison that brings none: a small search on generated traffic."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gpupilot_agent.baselines.registry import TUNED
from gpupilot_agent.comparison.config import CompareConfig
from gpupilot_agent.comparison.contenders import families_to_tune
from gpupilot_agent.comparison.field import mean_replicas
from gpupilot_agent.comparison.scene import Scene
from gpupilot_agent.comparison.tasks import Progress
from gpupilot_agent.tuned import read_tuned
from gpupilot_envs.workload.splits import demo_traffic

FOLDER = "tuned"
TRIALS = 16
TRACE_S = 1800.0
TRAFFIC_SEED = 1


def without_search(config: CompareConfig) -> CompareConfig:
    """Return the part of a comparison that needs no search: all of it where settings are given."""
    if config.tuned is not None or not families_to_tune(config.policies):
        return config
    ready = tuple(name for name in config.policies if not name.endswith(TUNED))
    return replace(config, policies=ready or ("static",))


def searched(
    config: CompareConfig, out: Path, *, jobs: int | None, on_progress: Progress
) -> CompareConfig:
    """Return the comparison with settings searched on generated traffic, in ``out/tuned``.

    The traffic is that of :func:`demo_traffic` under a seed of its own, scaled to the mean
    demand of the comparison: no trace of the comparison is seen.
    """
    # tuning is built on this package
    from gpupilot_agent.tuning import TuneConfig, tune

    search = TuneConfig(
        scene=_scene(config),
        traces=demo_traffic(TRAFFIC_SEED, duration_s=TRACE_S, per_family=(2, 1, 1)).train,
        policies=families_to_tune(config.policies),
        trials=TRIALS,
        seeds=1,
        levels=config.all_levels,
        bundle=config.bundles[0] if config.bundles else None,
    )
    folder = out / FOLDER
    if not (folder / "tuned.json").exists():
        tune(search, folder, jobs=jobs, on_progress=on_progress)
    return replace(config, tuned=read_tuned(folder))


def _scene(config: CompareConfig) -> Scene:
    pieces = {trace.name: config.scene.pieces(trace) for trace in config.traces}
    return replace(
        config.scene,
        scale_to_replicas=mean_replicas(config, pieces),
        hours=None,
        warm_up_s=min(config.scene.warm_up_s, TRACE_S / 12.0),
    )
