"""``gpupilot tune``: the same search for every policy, on training traffic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpupilot_agent.cli import options, show
from gpupilot_agent.cli.examples import examples
from gpupilot_agent.cli.progress import counter
from gpupilot_agent.cli.scenes import bundle_of, names_of, scene_of, traces_of

if TYPE_CHECKING:
    from gpupilot_agent.tuned import Search, Tuned

EXAMPLES = examples(
    "gpupilot tune --traces traces/train --policies hpa,keda,queueing \\\n"
    "  --scale-to-replicas 5 --out results/tuned",
    "gpupilot tune --profile my.yaml --traces traces/train --policies queueing,ppo \\\n"
    "  --bundle bundles/mine --trials 64 --jobs 8 --out results/tuned --json",
)
DEFAULT_POLICIES = "static,hpa,hpa-rate,keda,kpa,queueing,predictive"


def tune(
    traces: options.Traces,
    out: options.Out,
    more: options.MoreTraces = None,
    profile: options.Profile = options.DEFAULT_PROFILE,
    policies: Annotated[
        str, typer.Option(help="Names separated by commas, without -tuned.")
    ] = DEFAULT_POLICIES,
    bundle: Annotated[
        Path | None, typer.Option(help="What `gpupilot train` wrote, for ppo.")
    ] = None,
    trials: Annotated[
        int, typer.Option(min=1, help="Settings tried per policy: the budget, equal for all.")
    ] = 32,
    target_ms: options.TargetMs = 60.0,
    attainment: options.AttainmentPercent = 99.0,
    scale_to_replicas: options.ScaleToReplicas = None,
    cv: options.Cv = 1.0,
    hours: options.Hours = 4.0,
    seeds: options.Seeds = 2,
    seed: options.Seed = 0,
    jobs: options.Jobs = 1,
    as_json: options.AsJson = False,
) -> None:
    """Search every policy's settings with the same budget and print what was found.

    Written to the folder: tuned.json with every trial and the frontier of each policy. Compare on
    other traffic than was tuned on. Interrupted, the same command goes on where it stopped.
    """
    from gpupilot_agent.tuned import read_tuned
    from gpupilot_agent.tuning import TuneConfig
    from gpupilot_agent.tuning import tune as run

    scene = scene_of(
        profile,
        target_ms=target_ms,
        attainment=attainment,
        scale_to_replicas=scale_to_replicas,
        cv=cv,
        hours=options.hours_of(hours),
    )
    config = TuneConfig(
        scene=scene,
        traces=traces_of([*traces, *(more or [])]),
        policies=names_of(policies),
        trials=trials,
        seeds=seeds,
        seed=seed,
        bundle=bundle_of(bundle),
    )
    with counter("tuning") as told:
        tuned = read_tuned(run(config, out, jobs=jobs, on_progress=told))
    if as_json:
        show.as_json(tuned.model_dump(mode="json"))
        return
    print_grid(tuned, attainment / 100.0)
    show.line(str(out / "tuned.json"))


def print_grid(tuned: Tuned, level: float) -> None:
    """Print, per policy, the settings no other beats, and which one was chosen."""
    columns = ("policy", "setting", "in time %", "GPU-hours", "chosen")
    rows = [
        row for name, search in tuned.policies.items() for row in _rows(name, search, f"{level:g}")
    ]
    show.table(f"frontier of each policy; chosen for {100 * level:g} %", columns, rows)


def _rows(name: str, search: Search, level: str) -> list[tuple[str, ...]]:
    chosen = search.chosen[level]
    shown = dict.fromkeys([*search.frontier, chosen.trial])
    mark = "chosen" if chosen.meets else "closest; none meets it"
    return [
        (
            name,
            ", ".join(f"{key}={value:.4g}" for key, value in search.trials[index].params.items()),
            f"{100 * search.trials[index].attainment_ratio:.2f}",
            f"{search.trials[index].gpu_hours:.3g}",
            mark if index == chosen.trial else "",
        )
        for index in shown
    ]
