"""``gpupilot fidelity``: holds the event-level simulator against recorded runs of a real server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpupilot_agent.cli import options, show
from gpupilot_agent.cli.checks import unused
from gpupilot_agent.cli.examples import examples
from gpupilot_agent.cli.outcome import ExitCode, tell
from gpupilot_agent.cli.progress import spinner
from gpupilot_envs.errors import InputInvalid

if TYPE_CHECKING:
    from gpupilot_envs.fidelity.comparison import RunFidelity
    from gpupilot_envs.runs import RunCard

EXAMPLES = examples(
    "gpupilot fidelity",
    "gpupilot fidelity recordings/cpu --profile my.yaml --out results/fidelity",
    "gpupilot fidelity recordings/cpu/fid-060 --profile my.yaml --json",
)


def fidelity(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folders of recorded runs, or folders of such; default: the shipped ones.",
            metavar="RUN...",
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            help="What calibration made of other runs; default: the shipped one of the flavour.",
            metavar="FILE|NAME",
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, max=100, help="Simulations, whose mean is the prediction.")
    ] = 8,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the table, the picture and the JSON.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Predict recorded runs from the times their requests were sent, and compare.

    Judged are runs made for it (purpose: fidelity), never those that calibrated the profile. Exit
    code 3 when a number misses its limit.
    """
    from gpupilot_agent.report import fidelity as report

    if out is not None:
        unused(out)
    judged = _judged(sources)
    names = {f"{card.flavour}/{card.name}": profile or _shipped(card) for _, card in judged}
    with spinner("replaying the runs"):
        found = [
            _compared(folder, card, names[f"{card.flavour}/{card.name}"], seeds)
            for folder, card in judged
        ]
    if out is not None:
        report.write(out, found, names)
    if as_json:
        show.as_json(report.document(found, names))
    else:
        for run in found:
            show.table(report.heading(run), report.COLUMNS, report.rows(run))
        show.line(report.verdict(found))
    if not all(run.passed for run in found):
        raise typer.Exit(ExitCode.ANSWER_IS_NO)


def _judged(sources: Sequence[Path] | None) -> list[tuple[Path, RunCard]]:
    """Return the runs to judge; the others are left out, and that is said.

    Raises:
        InputInvalid: There is none.
    """
    from gpupilot_envs.runs import find_runs, read_run, shipped

    folders = find_runs(sources) if sources else shipped()
    cards = [(folder, read_run(folder)) for folder in folders]
    kept = [(f, card) for f, card in cards if card.purpose == "fidelity" and card.loop == "open"]
    if not kept:
        said = ", ".join(map(str, sources or ())) or "the shipped recordings"
        raise InputInvalid("RUN", said, "folders of open-loop runs with purpose: fidelity")
    if len(kept) < len(cards):
        tell(f"{len(cards) - len(kept)} runs are not for judging (other purpose, or closed loop)")
    return kept


def _shipped(card: RunCard) -> str:
    """Return the shipped profile that was calibrated on the flavour's other runs."""
    from gpupilot_envs.fidelity.comparison import CALIBRATED

    return CALIBRATED[card.flavour]


def _compared(folder: Path, card: RunCard, profile: str, seeds: int) -> RunFidelity:
    from gpupilot_envs.embedded import find_profile
    from gpupilot_envs.fidelity.comparison import compare
    from gpupilot_envs.runs import RECORDING, requests_of
    from gpupilot_envs.workload.recording import read_recording

    path = folder / RECORDING
    batches = read_recording(path).batch_times if path.exists() else {}
    executions = sum(count for count, _ in batches.values())
    served = sum(size * count for size, (count, _) in batches.items())
    return compare(
        find_profile(profile),
        card,
        requests_of(folder, card),
        batch_mean=served / executions if executions else None,
        seeds=seeds,
    )
