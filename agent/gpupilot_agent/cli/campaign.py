"""``gpupilot campaign``: recordings of the real serving stack, made as declared."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpupilot_agent.cli import options, show
from gpupilot_agent.cli.examples import examples
from gpupilot_agent.cli.outcome import ExitCode, tell
from gpupilot_envs.errors import InputInvalid

if TYPE_CHECKING:
    from gpupilot_agent.campaign.declaration import Run

EXAMPLES = examples(
    "gpupilot campaign --out recordings",
    "gpupilot campaign --flavour emulated --only fid-060 --only fid-095 --out recordings",
    "gpupilot campaign my-runs.yaml --out recordings",
    "gpupilot campaign --list",
)


def campaign(
    runs: Annotated[
        Path | None,
        typer.Argument(help="Declared runs, YAML; default: those behind the shipped recordings."),
    ] = None,
    out: options.Out = Path("recordings"),
    flavour: Annotated[
        str | None, typer.Option(help="Only runs of this flavour: emulated or cpu.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Only the run of this name, again for each.")
    ] = None,
    listed: Annotated[
        bool, typer.Option("--list", help="Show the runs and how long they take, make none.")
    ] = False,
    model: Annotated[
        Path | None, typer.Option(help="ONNX file of the cpu flavour; default: seeded weights.")
    ] = None,
    loadtests: Annotated[
        Path | None, typer.Option(help="Folder of our Locust users; default: the repository's.")
    ] = None,
) -> None:
    """Record declared runs of the real stack: Triton, gateway, Prometheus, Locust.

    Each run gets a folder OUT/FLAVOUR/NAME with run.yaml, requests.parquet and recording.parquet,
    when it is whole. Started again, it makes what is missing. Servers and load run before all
    other work of the machine where that is permitted. Exit code 3 when a run was not kept.
    """
    from gpupilot_agent.campaign.declaration import SHIPPED, read_campaign

    declared = read_campaign(runs or SHIPPED).runs
    chosen = _chosen(declared, flavour, only)
    if listed:
        _show(chosen)
        return
    failed = _made(chosen, out, model, loadtests)
    if failed:
        raise typer.Exit(ExitCode.ANSWER_IS_NO)


def _chosen(runs: tuple[Run, ...], flavour: str | None, only: list[str] | None) -> tuple[Run, ...]:
    flavours = sorted({run.flavour for run in runs})
    if flavour is not None and flavour not in flavours:
        raise InputInvalid("--flavour", flavour, " or ".join(flavours))
    kept = tuple(run for run in runs if flavour in (None, run.flavour))
    for name in only or ():
        if name not in {run.name for run in kept}:
            raise InputInvalid("--only", name, f"one of {', '.join(run.name for run in kept)}")
    return tuple(run for run in kept if not only or run.name in only)


def _made(
    runs: tuple[Run, ...], out: Path, model: Path | None, loadtests: Path | None
) -> dict[str, str]:
    from gpupilot_agent.campaign.conduct import Workshop, conduct
    from gpupilot_agent.campaign.generator import before_others, load_scripts

    if model is not None and not model.is_file():
        raise InputInvalid("--model", str(model), "an ONNX file")
    scripts, realtime = load_scripts(loadtests), before_others()
    if not realtime:
        tell("without real-time priority (root): other work of this machine will show")
    onnx = model or _seeded(runs)
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    return conduct(runs, Workshop(out=out, scripts=scripts, onnx=onnx, realtime=realtime, say=tell))


def _seeded(runs: tuple[Run, ...]) -> Path | None:
    """Return the seeded network, made where a run needs it: the same everywhere."""
    if all(run.flavour != "cpu" for run in runs):
        return None
    from gpupilot_agent.mobilenet.weights import ensure
    from gpupilot_agent.stack.tools import model_store

    return ensure("seeded", model_store())[0]


def _show(runs: tuple[Run, ...]) -> None:
    rows = [
        (
            f"{run.flavour}/{run.name}",
            run.purpose,
            f"{run.load:g}" if run.load is not None else f"{run.users} users",
            f"{run.replicas} x {run.service().instances_per_replica}",
            "on" if run.service().batching.enabled else "off",
            f"{run.duration_s / 60:.1f} min",
        )
        for run in runs
    ]
    hours = sum(run.warm_up_s + run.duration_s + 30.0 for run in runs) / 3600.0
    columns = ("run", "purpose", "load", "replicas x instances", "batching", "counted")
    show.table(f"{len(runs)} runs, {hours:.1f} hours", columns, rows)
