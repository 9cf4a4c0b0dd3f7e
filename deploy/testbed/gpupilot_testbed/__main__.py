"""``python -m gpupilot_testbed``: a cluster up, down, and how it is."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from gpupilot_agent.cli.outcome import refuse, tell
from gpupilot_envs.errors import StackFailed
from gpupilot_testbed import lifecycle, programs, state
from gpupilot_testbed.operating import operated
from gpupilot_testbed.serving import provide
from gpupilot_testbed.state import KUBECONFIG

app = typer.Typer(
    name="gpupilot_testbed",
    help="A Kubernetes cluster of plain processes on this machine, for development and tests.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Folder = Annotated[
    Path | None, typer.Option(help="State, logs and data while it is up.", metavar="FOLDER")
]


@app.command()
def up(
    light: Annotated[
        bool, typer.Option(help="Without kubelet: fake nodes, on loopback, no root needed.")
    ] = False,
    nodes: Annotated[int, typer.Option(min=1, max=1000, help="Fake nodes, with --light.")] = 1,
    gpus: Annotated[int, typer.Option(min=0, max=64, help="GPUs of each fake node.")] = 8,
    serving: Annotated[
        bool, typer.Option(help="With our images and models: deploy/samples/emulated-gpu.yaml.")
    ] = False,
    folder: Folder = None,
) -> None:
    """Start a cluster; return when its node is ready."""
    if serving and light:
        raise StackFailed("--serving needs real pods: leave out --light")
    where = folder or state.default_folder()
    if light:
        lifecycle.up_light(where, say=tell, nodes=nodes, gpus=gpus)
    else:
        lifecycle.up(where, say=tell)
    if serving:
        provide(where, tell)
    typer.echo(f"export KUBECONFIG={where / KUBECONFIG}")


@app.command()
def down(folder: Folder = None) -> None:
    """Stop the cluster and remove all it left; harmless where there is none."""
    where = folder or state.default_folder()
    there_was = lifecycle.down(where)
    typer.echo(f"{where}: stopped and removed" if there_was else f"no cluster in {where}")


@app.command()
def operate(folder: Folder = None) -> None:
    """Run a Prometheus and the operator on a cluster that is up, until it or they are ended."""
    where = folder or state.default_folder()
    kept = state.load(where)
    if kept is None or kept.light:
        raise StackFailed(f"no full cluster runs in {where}: start one with --serving")
    for each in (signal.SIGINT, signal.SIGTERM):
        # what runs in the background of a shell does not hear Ctrl-C, and is ended by `kill`
        signal.signal(each, signal.default_int_handler)
    with (
        suppress(KeyboardInterrupt),
        operated(where / KUBECONFIG, where / "operated", tell) as (operator, prometheus),
    ):
        typer.echo(f"operator   {operator.url}/metrics, log {operator.process.log}")
        typer.echo(f"prometheus {prometheus}")
        typer.echo("where it never ran, its first decision takes a minute or two: it is compiled")
        while operator.process.is_alive():
            time.sleep(1.0)
            if state.load(where) is None:
                return
        raise StackFailed("the operator ended", log=operator.process.tail())


@app.command("programs")
def get_programs() -> None:
    """Download or build the Kubernetes programs now; say where they are."""
    typer.echo(programs.kubernetes(programs.CONTROL_PLANE + programs.NODE, tell))


def run() -> None:
    """Run the command line; what cannot be done is one sentence and exit code 2."""
    try:
        app()
    except StackFailed as error:
        for line in error.log.splitlines():
            tell(line)
        refuse(str(error))


if __name__ == "__main__":
    run()
