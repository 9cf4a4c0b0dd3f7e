"""``gpupilot demo``: the main job once through, in minutes, on embedded defaults."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gpupilot_agent.cli import options, show
from gpupilot_agent.cli.checks import no_file, positive
from gpupilot_agent.cli.examples import examples
from gpupilot_agent.cli.progress import meter
from gpupilot_agent.cli.scores import print_scores

EXAMPLES = examples(
    "gpupilot demo",
    "gpupilot demo --traffic generated --seed 7 --train-seconds 300 --seeds 3",
    "gpupilot demo --recordings records/monday/recording.parquet \\\n"
    "  --recordings records/tuesday/recording.parquet --profile my.yaml",
    "gpupilot demo --profile my.yaml --target-ms 80 --json",
)


class Traffic(StrEnum):
    """Where the traffic of the demo comes from."""

    RECORDED = "recorded"
    GENERATED = "generated"


def demo(
    out: Annotated[
        Path, typer.Option(help="Folder in which the run gets its own folder.", metavar="PATH")
    ] = Path("results"),
    traffic: Annotated[
        Traffic, typer.Option(help="Recorded from a real server, or generated.")
    ] = Traffic.RECORDED,
    recordings: Annotated[
        list[Path] | None,
        typer.Option(
            help="Recordings of a service of yours; may be given again.",
            metavar="FILE",
            show_default="those of the package",
        ),
    ] = None,
    profile: options.Profile = options.DEFAULT_PROFILE,
    target_ms: options.TargetMs = 60.0,
    train_seconds: Annotated[float, typer.Option(help="Seconds of training.")] = 75.0,
    trials: Annotated[int, typer.Option(min=1, help="Settings tried per tuned baseline.")] = 10,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Repetitions of each test trace.",
            show_default="3 on recorded traffic, 1 on generated",
        ),
    ] = None,
    seed: options.Seed = 0,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes that work at once; default: all cores.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Tune the baselines, train a policy, compare it and the shipped one with all, and report.

    No file is needed: recordings of a real server ship with the package. The earlier part of each
    is learned and tuned on, the last part compared on. An interrupted demo goes on where it
    stopped.
    """
    from gpupilot_agent.demo import DemoConfig
    from gpupilot_agent.demo import demo as run

    positive(target_ms=target_ms, train_seconds=train_seconds)
    no_file(out)
    config = DemoConfig(
        results=out,
        traffic=traffic.value,
        recordings=tuple(recordings or ()),
        profile=profile,
        target_ms=target_ms,
        train_s=train_seconds,
        trials=trials,
        seeds=seeds,
        seed=seed,
    )
    result = run(config, stage, jobs=jobs or os.cpu_count() or 1)
    if as_json:
        written = {"report": str(result.report), "learning_report": str(result.learning)}
        show.as_json({**written, **result.summary.model_dump(mode="json")})
        return
    print_scores(result.summary)
    show.line(f"rates: {result.traffic}; the response is simulated, request by request")
    show.line(f"report: {result.report}")
    show.line(f"what the training learned: {result.learning}")


@contextmanager
def stage(name: str) -> Iterator[Callable[[float, str], None]]:
    """Show one stage as a bar of its own."""
    with meter(name, 1.0) as told:
        yield told
        told(1.0)
