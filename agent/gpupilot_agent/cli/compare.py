"""``gpupilot compare``: every policy on the same traffic, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpupilot_agent.cli import options, show
from gpupilot_agent.cli.examples import examples
from gpupilot_agent.cli.progress import counter, spinner
from gpupilot_agent.cli.scenes import bundles_of, names_of, scene_of, traces_of
from gpupilot_agent.cli.scores import print_rows, print_scores

EXAMPLES = examples(
    "gpupilot compare --traces day.parquet --policies static,hpa,keda,kpa,queueing \\\n"
    "  --scale-to-replicas 5 --out results/first",
    "gpupilot compare --profile my.yaml --traces traces/test \\\n"
    "  --policies hpa,hpa-tuned,queueing-tuned,ppo,oracle \\\n"
    "  --tuned results/tuned --bundle bundles/mine --seeds 10 --jobs 8 --out results/full",
)
DEFAULT_POLICIES = "static,static-peak,hpa,hpa-rate,keda,kpa,queueing,predictive,generalist,oracle"


def compare(
    traces: options.Traces,
    out: options.Out,
    more: options.MoreTraces = None,
    profile: options.Profile = options.DEFAULT_PROFILE,
    policies: Annotated[
        str, typer.Option(help="Names separated by commas; a wrong one lists them all.")
    ] = DEFAULT_POLICIES,
    tuned: Annotated[
        Path | None,
        typer.Option(
            help="What `gpupilot tune` wrote, for names that end in -tuned; "
            "without it a small search on generated traffic comes first."
        ),
    ] = None,
    bundle: Annotated[
        list[Path] | None,
        typer.Option(
            help="What `gpupilot train` wrote, for ppo, instead of the shipped policy; several, or "
            "a folder of them, are trainings of one policy from different seeds.",
            metavar="PATH…",
        ),
    ] = None,
    target_ms: options.TargetMs = 60.0,
    attainment: options.AttainmentPercent = 99.0,
    scale_to_replicas: options.ScaleToReplicas = None,
    cv: options.Cv = 1.0,
    hours: options.Hours = 4.0,
    actuators: options.Actuators = "",
    seeds: options.Seeds = 10,
    jobs: options.Jobs = 1,
    report: Annotated[bool, typer.Option(help="Write report.html and pictures too.")] = True,
    as_json: options.AsJson = False,
) -> None:
    """Compare policies in the event-level simulator and report who wins where, and how surely.

    Interrupted, the same command goes on where it stopped. A folder with a finished comparison is
    never written into again.
    """
    from gpupilot_agent.baselines.registry import TUNED
    from gpupilot_agent.comparison.config import CompareConfig
    from gpupilot_agent.comparison.contenders import LEARNED
    from gpupilot_agent.comparison.running import compare as run
    from gpupilot_agent.generalist import NAME as GENERALIST
    from gpupilot_agent.results import read_summary
    from gpupilot_agent.tuned import read_tuned

    scene = scene_of(
        profile,
        target_ms=target_ms,
        attainment=attainment,
        scale_to_replicas=scale_to_replicas,
        cv=cv,
        hours=options.hours_of(hours),
        actuators=actuators,
    )
    names = names_of(policies)
    if not bundle and any(name.removesuffix(TUNED) == LEARNED for name in names):
        bundle = [Path(GENERALIST)]
    config = CompareConfig(
        scene=scene,
        traces=traces_of([*traces, *(more or [])]),
        policies=names,
        seeds=seeds,
        tuned=None if tuned is None else read_tuned(tuned),
        bundles=bundles_of(bundle or []),
    )
    with counter("comparing") as told:
        summary = read_summary(run(config, out, jobs=jobs, on_progress=told))
    if report:
        _report(out)
    if as_json:
        show.as_json(summary.model_dump(mode="json"))
        return
    print_scores(summary)
    print_rows(summary)
    show.line(f"{out / ('report.html' if report else 'summary.json')}")


def _report(out: Path) -> None:
    from gpupilot_agent.report import write_report

    with spinner("drawing the report"):
        write_report(out)
