"""``gpupilot study``: a search for the settings of PPO, kept in a database."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpupilot_agent.cli import options, show
from gpupilot_agent.cli.checks import no_file
from gpupilot_agent.cli.examples import examples
from gpupilot_agent.cli.progress import meter
from gpupilot_agent.cli.train import configured, saved

if TYPE_CHECKING:
    from gpupilot_agent.study import Found

EXAMPLES = examples(
    "gpupilot study --trials 40 --frames 2000000 --jobs 2 --out studies/first",
    "gpupilot study --trials 80 --storage sqlite:///studies.db --name nightly --out studies/night",
)


def study(
    out: options.Out,
    trials: Annotated[
        int,
        typer.Option(min=1, help="Trials in the end, those of earlier runs included."),
    ],
    storage: Annotated[
        str | None,
        typer.Option(
            help="Database that keeps the trials; a SQLite file in the folder if not given.",
            metavar="URL",
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the study in its database.")] = "gpupilot",
    config: Annotated[
        Path | None,
        typer.Option(help="Configuration whose settings are searched.", metavar="FILE"),
    ] = None,
    profile: options.Profiles = None,
    traces: options.TrainingTraces = None,
    more: options.MoreTraces = None,
    frames: options.Frames = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of everything random.", show_default="0")
    ] = None,
    jobs: options.Jobs = 1,
    as_json: options.AsJson = False,
) -> None:
    """Search for good settings of PPO: train with many, end the bad early, write the best.

    Written to the folder: best.yaml for `gpupilot train --config`, study.db, and a training per
    trial. The same command goes on where it stopped; more --trials go on from there.
    """
    from gpupilot_agent.study import StudyConfig
    from gpupilot_agent.study import study as run
    from gpupilot_envs.errors import InputInvalid

    no_file(out)
    if not name.strip():
        raise InputInvalid("--name", name, "a name")
    base = configured(
        out,
        config,
        profiles=tuple(profile) if profile else None,
        traces=[*(traces or []), *(more or [])],
        frames=frames,
        seed=seed,
    )
    asked = StudyConfig(base=base, trials=trials, storage=storage, name=name)
    with meter("study", float(trials)) as told:
        found = run(
            asked, jobs=jobs, on_trial=lambda f: told(float(f.complete + f.pruned), remark(f))
        )
    if as_json:
        show.as_json({**asdict(found), "best": None if found.best is None else str(found.best)})
        return
    rows = [(setting, f"{value:.4g}") for setting, value in found.settings.items()]
    title = f"best of {found.complete} trials ({found.pruned} more ended early): "
    show.table(f"{title}{saved(found.saving)}", ("setting", "value"), rows)
    show.line(str(found.best))


def remark(found: Found) -> str:
    """Return what to say beside the bar."""
    done = f"{found.complete} trained, {found.pruned} ended early, {found.running} running"
    return done if found.saving is None else f"{done}, best saves {saved(found.saving)}"
