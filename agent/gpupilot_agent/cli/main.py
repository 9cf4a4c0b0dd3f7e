"""The entry point ``gpupilot``: puts the commands together and turns errors into exit codes."""

from __future__ import annotations

import inspect
import os
import signal
import sys
from importlib.metadata import version as installed_version

import typer

from gpupilot_agent.cli import (
    accuracy,
    calibrate,
    campaign,
    card,
    compare,
    demo,
    explain,
    export,
    fidelity,
    gate,
    model,
    record,
    report,
    simulate,
    stack,
    study,
    train,
    tune,
)
from gpupilot_agent.cli.examples import examples, paragraphs
from gpupilot_agent.cli.outcome import ExitCode, misuse, refuse, tell
from gpupilot_envs.errors import GpupilotError

TRACEBACK_VARIABLE = "GPUPILOT_TRACEBACK"

app = typer.Typer(
    name="gpupilot",
    help=(
        "SLO autoscaler for GPU inference: train a policy, compare it with the autoscalers "
        "people use on your own traffic, and see why it decides what it decides."
    ),
    epilog="Start with: gpupilot demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.command("demo", epilog=demo.EXAMPLES)(demo.demo)
app.command("simulate", epilog=simulate.EXAMPLES)(simulate.simulate)
app.command("train", epilog=train.EXAMPLES)(train.train)
app.command("study", epilog=study.EXAMPLES)(study.study)
app.command("tune", epilog=tune.EXAMPLES)(tune.tune)
app.command("compare", epilog=compare.EXAMPLES)(compare.compare)
app.command("gate", epilog=gate.EXAMPLES)(gate.gate)
app.command("report", epilog=report.EXAMPLES)(report.report)
app.command("record", epilog=record.EXAMPLES)(record.record)
app.command("calibrate", epilog=calibrate.EXAMPLES)(calibrate.calibrate)
app.command("fidelity", epilog=fidelity.EXAMPLES)(fidelity.fidelity)
app.command("campaign", epilog=campaign.EXAMPLES)(campaign.campaign)
app.command("card", epilog=card.EXAMPLES)(card.card)
app.command("export", epilog=export.EXAMPLES)(export.export)
app.command("explain", epilog=explain.EXAMPLES)(explain.explain)
app.command("model", epilog=model.EXAMPLES)(model.model)
app.command("accuracy", epilog=accuracy.EXAMPLES)(accuracy.accuracy)
app.add_typer(stack.app, name="stack", epilog=stack.EXAMPLES, help=stack.HELP)


@app.command(epilog=examples("gpupilot version"))
def version() -> None:
    """Print the version."""
    typer.echo(installed_version("gpupilot"))


for command in app.registered_commands:
    command.help = paragraphs(inspect.getdoc(command.callback) or "")


def run() -> None:
    """Run the command line and end the process with an :class:`ExitCode`.

    The only place that catches broadly: a user's mistake is one sentence, and an unexpected
    error is one sentence and, when ``GPUPILOT_TRACEBACK`` is set, its traceback. SIGTERM ends a
    command as Ctrl-C does: what is half-written is removed.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(app(standalone_mode=False))
    except typer.TyperException as error:
        refuse(misuse(error))
    except GpupilotError as error:
        refuse(str(error))
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        if isinstance(error, OSError) and error.filename is not None:
            refuse(f"cannot use {error.filename}: {error.strerror}")
        hint = f"set {TRACEBACK_VARIABLE}=1 to see where"
        tell(f"unexpected {type(error).__name__}: {error} ({hint})")
        sys.exit(ExitCode.UNEXPECTED)
