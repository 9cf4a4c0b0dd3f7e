"""``gpupilot report``: the page of a comparison or of a training, drawn again from its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpupilot_agent.cli import options, show
from gpupilot_agent.cli.examples import examples
from gpupilot_agent.cli.progress import spinner
from gpupilot_agent.cli.scores import print_scores

EXAMPLES = examples(
    "gpupilot report results/full",
    "gpupilot report results/full --json",
    "gpupilot report results/full --compact comparison.html",
    "gpupilot report bundles/five",
)


def report(
    run: Annotated[
        Path,
        typer.Argument(
            help="A folder that `gpupilot compare` or `gpupilot train` wrote.", metavar="RUN"
        ),
    ],
    compact: Annotated[
        Path | None,
        typer.Option(
            help="Write a comparison's page here instead, without pictures of single traces.",
            metavar="FILE",
        ),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Write report.html and pictures from a comparison's numbers, and print its table.

    Of a training: write learning.html, with its curves and what the policy does.
    """
    from gpupilot_agent.report import write_compact, write_report
    from gpupilot_agent.report.learning_reading import is_training
    from gpupilot_agent.results import read_summary

    if is_training(run):
        _learning(run, as_json=as_json)
        return
    summary = read_summary(run / "summary.json")
    with spinner("drawing the report"):
        if compact is None:
            written = write_report(run)
        else:
            written = compact
            write_compact(run, written)
    if as_json:
        show.as_json(summary.model_dump(mode="json"))
        return
    print_scores(summary)
    show.line(str(written))


def _learning(run: Path, *, as_json: bool) -> None:
    from dataclasses import asdict

    from gpupilot_agent.report.learning import write_learning_report
    from gpupilot_agent.report.learning_reading import read_learning

    with spinner("drawing the report"):
        written = write_learning_report(run)
    if as_json:
        learning = read_learning(run)
        savings = {str(trained.seed): trained.saving for trained in learning.seeds}
        show.as_json({"report": str(written), "saving": asdict(learning.saving), "seeds": savings})
        return
    show.line(str(written))
