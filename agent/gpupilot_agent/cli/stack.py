"""``gpupilot stack``: a real Triton, gateway and Prometheus, one command up and one down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from gpupilot_agent.cli import options, show
from gpupilot_agent.cli.checks import positive, within
from gpupilot_agent.cli.examples import examples
from gpupilot_agent.cli.outcome import ExitCode, tell
from gpupilot_envs.errors import InputInvalid, StackFailed

if TYPE_CHECKING:
    from gpupilot_agent.stack.state import StackState
    from gpupilot_envs.profile import ServiceProfile

EXAMPLES = examples(
    "gpupilot stack up",
    "gpupilot stack up --flavour cpu --replicas 2 --balancing round_robin",
    "gpupilot stack up --profile my.yaml --target-ms 40 --instances 2",
    "gpupilot stack scale 3",
    "gpupilot stack status --json",
    "gpupilot stack env",
    "gpupilot stack down",
)

HELP = "Run a real Triton, gateway and Prometheus on this machine."

app = typer.Typer(no_args_is_help=True)

Folder = Annotated[
    Path | None,
    typer.Option(help="State, logs and Prometheus' data while it is up.", metavar="FOLDER"),
]


class Flavour(StrEnum):
    """What answers the requests."""

    CPU = "cpu"
    GPU = "gpu"
    EMULATED = "emulated"


class Balancing(StrEnum):
    """How the gateway spreads requests over replicas."""

    RANDOM = "random"
    ROUND_ROBIN = "round_robin"
    LEAST_LOADED = "least_loaded"


@app.command()
def up(
    flavour: Annotated[
        Flavour,
        typer.Option(
            help="cpu: the model on this CPU; gpu: on the GPU, from --image; "
            "emulated: the profile's time, asleep."
        ),
    ] = Flavour.EMULATED,
    profile: options.Profile = options.DEFAULT_PROFILE,
    model: Annotated[
        Path | None,
        typer.Option(help="ONNX file of the cpu and gpu flavours; default: made if need be."),
    ] = None,
    image: Annotated[
        str, typer.Option(help="Triton's container image, pulled already, of the gpu flavour.")
    ] = "",
    replicas: Annotated[int, typer.Option(min=1, max=16, help="Triton servers.")] = 1,
    instances: Annotated[
        int | None, typer.Option(min=1, max=16, help="Instances each; default: the profile's.")
    ] = None,
    batching: Annotated[
        bool | None, typer.Option(help="Dynamic batching; default: the profile's.")
    ] = None,
    max_batch: Annotated[
        int | None, typer.Option(min=1, max=128, help="Largest batch; default: the profile's.")
    ] = None,
    queue_delay_ms: Annotated[
        float | None, typer.Option(min=0, help="How long a batch waits; default: the profile's.")
    ] = None,
    balancing: Annotated[
        Balancing, typer.Option(help="How requests are spread over replicas.")
    ] = Balancing.RANDOM,
    target_ms: options.TargetMs = 60.0,
    scrape: Annotated[float, typer.Option(help="Seconds between two scrapes.")] = 1.0,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of the gateway; 0: 8000, or a free one.")
    ] = 0,
    prometheus_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of Prometheus; 0: 9090, or a free one.")
    ] = 0,
    seed: options.Seed = 0,
    realtime: Annotated[
        bool, typer.Option(help="Run Triton and the gateway before all else; needs root.")
    ] = False,
    folder: Folder = None,
    as_json: options.AsJson = False,
) -> None:
    """Start the stack; return when a request would be answered."""
    from gpupilot_agent.stack import lifecycle
    from gpupilot_agent.stack.plan import StackPlan
    from gpupilot_agent.stack.state import default_folder
    from gpupilot_envs.embedded import find_profile

    positive(target_ms=target_ms)
    within(0.2, 60.0, scrape=scrape)
    service = find_profile(profile)
    onnx = None if flavour is Flavour.EMULATED else _onnx(model)
    changes = {"enabled": batching, "max_batch": max_batch, "queue_delay_ms": queue_delay_ms}
    plan = StackPlan(
        flavour=flavour.value,
        folder=folder or default_folder(),
        profile=_changed(service, changes, instances),
        model=onnx,
        image=image,
        replicas=replicas,
        balancing=balancing.value,
        target_ms=target_ms,
        scrape_s=scrape,
        seed=seed,
        realtime=realtime,
        gateway_port=port,
        prometheus_port=prometheus_port,
    )
    started = _shown(lambda: lifecycle.up(plan, say=tell))
    if as_json:
        show.as_json(started.model_dump(mode="json"))
        return
    show.line(f"requests    {started.gateway_url}  (KServe v2, HTTP and gRPC)")
    show.line(f"prometheus  {started.prometheus_url}")
    for name, url in started.replica_urls().items():
        show.line(f"{name:<11} {url}")
    show.line(f"state       {plan.folder}")


@app.command()
def status(folder: Folder = None, as_json: options.AsJson = False) -> None:
    """Tell how each part is; exit code 3 unless all is ready."""
    from gpupilot_agent.stack import lifecycle, state

    where = folder or state.default_folder()
    parts = lifecycle.status(where)
    started = state.load(where)
    if as_json:
        said = None if started is None else started.model_dump(mode="json")
        show.as_json({"parts": parts, "stack": said})
    elif parts is None or started is None:
        show.line(f"no stack in {where}")
    else:
        title = f"{started.flavour}: {started.gateway_url}, Prometheus {started.prometheus_url}"
        show.table(title, ("part", "is"), list(parts.items()))
    if parts is None or set(parts.values()) != {"ready"}:
        raise typer.Exit(ExitCode.ANSWER_IS_NO)


@app.command()
def env(folder: Folder = None) -> None:
    """Print where it listens as shell variables: eval "$(gpupilot stack env)"."""
    from gpupilot_agent.stack import state

    where = folder or state.default_folder()
    started = state.load(where)
    if started is None:
        raise StackFailed(f"no stack in {where}; start one with `gpupilot stack up`")
    urls = {"GATEWAY": started.gateway_url, "PROMETHEUS": started.prometheus_url}
    urls["GRPC"] = f"grpc://{urlsplit(started.gateway_url).netloc}"
    for name, url in started.replica_urls().items():
        urls[name.replace("-", "_").upper()] = url
    for name, url in urls.items():
        show.line(f"export STACK_{name}={url}")


@app.command()
def scale(
    replicas: Annotated[int, typer.Argument(min=1, max=16, help="Triton servers.")],
    folder: Folder = None,
) -> None:
    """Start or stop model servers of a running stack; requests go on meanwhile."""
    from gpupilot_agent.stack import lifecycle, state

    where = folder or state.default_folder()
    before = state.load(where)
    started = _shown(lambda: lifecycle.scale(where, replicas, say=tell))
    new = [name for name in started.replicas if before and name not in before.replicas]
    starts = ", ".join(f"{name} in {started.cold_starts_s[name]:.2f} s" for name in new)
    show.line(f"{len(started.replicas)} model servers" + (f"; ready: {starts}" if new else ""))


@app.command()
def down(folder: Folder = None) -> None:
    """Stop the stack and remove all it left; harmless where there is none."""
    from gpupilot_agent.stack import lifecycle, state

    where = folder or state.default_folder()
    there_was = lifecycle.down(where)
    show.line(f"{where}: stopped and removed" if there_was else f"no stack in {where}")


def _onnx(model: Path | None) -> Path:
    """Return the ONNX file to serve: the one given, the public one if it is here, a seeded one."""
    from gpupilot_agent.mobilenet.weights import ensure, public_file
    from gpupilot_agent.stack.tools import model_store

    if model is not None:
        if not model.is_file():
            raise InputInvalid("--model", str(model), "an ONNX file")
        return model
    found = public_file(model_store())
    if found is not None:
        return found
    tell("serving seeded weights; `gpupilot model` downloads the public ones")
    return ensure("seeded", model_store())[0]


def _shown(start: Callable[[], StackState]) -> StackState:
    """Print the log of what failed, line by line, before the sentence about it."""
    try:
        return start()
    except StackFailed as error:
        for line in error.log.splitlines():
            tell(line)
        raise


def _changed(
    service: ServiceProfile, batching: Mapping[str, object], instances: int | None
) -> ServiceProfile:
    """Return the profile with what the command line says otherwise, checked as a file would be."""
    from gpupilot_envs.profile import parse_profile

    document = service.model_dump(mode="json")
    document["batching"] |= {name: value for name, value in batching.items() if value is not None}
    if instances is not None:
        document["instances_per_replica"] = instances
    return parse_profile(document, origin="--profile with the options given")
