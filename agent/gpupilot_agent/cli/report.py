"""``gpupilot report``: the page and pictures of a comparison, drawn again from its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpupilot_agent.cli import options, show
from gpupilot_agent.cli.examples import examples
from gpupilot_agent.cli.progress import spinner
from gpupilot_agent.cli.scores import print_scores

EXAMPLES = examples("gpupilot report results/full", "gpupilot report results/full --json")


def report(
    run: Annotated[
        Path, typer.Argument(help="A folder that `gpupilot compare` wrote.", metavar="RUN")
    ],
    as_json: options.AsJson = False,
) -> None:
    """Write report.html and pictures from a comparison's numbers, and print its table."""
    from gpupilot_agent.report import write_report
    from gpupilot_agent.results import read_summary

    summary = read_summary(run / "summary.json")
    with spinner("drawing the report"):
        written = write_report(run)
    if as_json:
        show.as_json(summary.model_dump(mode="json"))
        return
    print_scores(summary)
    show.line(str(written))
