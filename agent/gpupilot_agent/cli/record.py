"""``gpupilot record``: a service's readings, and decisions, as files to calibrate and explain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpupilot_agent.cli import options, show
from gpupilot_agent.cli.checks import plausible, positive, unused, within
from gpupilot_agent.cli.examples import examples
from gpupilot_agent.cli.progress import meter
from gpupilot_agent.cli.record_live import LiveOptions, record_live
from gpupilot_agent.cli.scenes import bundle_of, scene_of
from gpupilot_envs.errors import InputInvalid

EXAMPLES = examples(
    "gpupilot record --prometheus http://127.0.0.1:9090 --service mobilenetv4 \\\n"
    "  --since 7d --out records/shop.parquet",
    "gpupilot record --prometheus https://mimir.example/prometheus --tenant team-a \\\n"
    "  --token-file token --service shop --follow --out records/shop.parquet",
    "gpupilot record --trace day.parquet --policy queueing --out records/shop",
    "gpupilot record --trace day.parquet --replicas 4 --out records/fixed",
    "gpupilot record --profile my.yaml --trace day.csv --policy ppo \\\n"
    "  --bundle bundles/mine --out records/learned",
)

REAL = "A real service, from Prometheus"
SIMULATED = "A simulated service"


def record(
    out: options.Out,
    prometheus: Annotated[
        str | None,
        typer.Option(help="Its URL.", metavar="URL", rich_help_panel=REAL),
    ] = None,
    service: Annotated[
        str | None,
        typer.Option(help="Name of the service in its series.", rich_help_panel=REAL),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="How far back to begin: 90s, 15m, 6h, 7d; 1h unless --follow.",
            rich_help_panel=REAL,
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until Ctrl-C.", rich_help_panel=REAL)
    ] = False,
    triton: Annotated[
        list[str] | None,
        typer.Option(
            help="HTTP address of a replica, again for each: batcher settings and batch times.",
            metavar="URL",
            rich_help_panel=REAL,
        ),
    ] = None,
    instances: Annotated[
        int | None, typer.Option(min=1, help="Model instances per pod.", rich_help_panel=REAL)
    ] = None,
    batch_max: Annotated[
        int | None, typer.Option(min=1, help="Largest batch.", rich_help_panel=REAL)
    ] = None,
    queue_delay_ms: Annotated[
        float | None, typer.Option(min=0, help="Longest queue delay.", rich_help_panel=REAL)
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(help="Kubernetes namespace.", rich_help_panel=REAL)
    ] = None,
    metric_names: Annotated[
        Path | None,
        typer.Option(help="Names of series that are not the usual ones.", rich_help_panel=REAL),
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="Basic authentication.", rich_help_panel=REAL)
    ] = None,
    password_file: Annotated[
        Path | None, typer.Option(help="File with its password.", rich_help_panel=REAL)
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with a bearer token.", rich_help_panel=REAL)
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(help="Certificate authority to trust.", rich_help_panel=REAL)
    ] = None,
    cert_file: Annotated[
        Path | None, typer.Option(help="Client certificate.", rich_help_panel=REAL)
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="Key of the certificate.", rich_help_panel=REAL)
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(help="Tenant of a Mimir or Cortex.", rich_help_panel=REAL)
    ] = None,
    timeout_s: Annotated[
        float, typer.Option(help="Longest wait for an answer.", rich_help_panel=REAL)
    ] = 30.0,
    trace: Annotated[
        Path | None,
        typer.Option(
            help="Traffic: a rate trace with columns t_s, rps.", rich_help_panel=SIMULATED
        ),
    ] = None,
    profile: options.Profile = options.DEFAULT_PROFILE,
    policy: Annotated[
        str,
        typer.Option(
            help="Who decides: a baseline's name, generalist, or ppo.",
            rich_help_panel=SIMULATED,
        ),
    ] = "static",
    bundle: Annotated[
        Path | None,
        typer.Option(help="The trained policy, where --policy is ppo.", rich_help_panel=SIMULATED),
    ] = None,
    replicas: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Simulated: a fixed number instead of a policy. Real: where nothing else says.",
        ),
    ] = None,
    scale_to_replicas: options.ScaleToReplicas = None,
    cv: options.Cv = 1.0,
    every: Annotated[float, typer.Option(help="Seconds between two rows, and their window.")] = 15,
    target_ms: options.TargetMs = 60.0,
    attainment: options.AttainmentPercent = 99.0,
    actuators: options.Actuators = "",
    seed: options.Seed = 0,
) -> None:
    """Record a real service from Prometheus, or a simulated one and every decision.

    With --prometheus: one file, whole at any time; run again, it goes on after its last row. With
    --trace: a folder with recording.parquet for `gpupilot calibrate`, decisions.parquet for
    `gpupilot explain`, and beside it, of a learned policy, policy.npz, from the event-level
    simulator.
    """
    if (prometheus is None) == (trace is None):
        said = "neither" if trace is None else "both"
        raise InputInvalid("--prometheus, --trace", said, "exactly one of them")
    if prometheus is not None:
        from gpupilot_envs.prometheus import Access

        if service is None:
            raise InputInvalid("--service", "nothing", "the service's name, with --prometheus")
        positive(timeout_s=timeout_s)
        record_live(
            LiveOptions(
                access=Access(
                    url=prometheus,
                    user=user,
                    password_file=password_file,
                    token_file=token_file,
                    ca_file=ca_file,
                    cert_file=cert_file,
                    key_file=key_file,
                    tenant=tenant,
                    timeout_s=timeout_s,
                ),
                service=service,
                out=out,
                every_s=every,
                target_ms=target_ms,
                since=since,
                follow=follow,
                namespace=namespace,
                names_file=metric_names,
                triton=tuple(triton or ()),
                replicas=replicas,
                instances=instances,
                batch_max=batch_max,
                queue_delay_ms=queue_delay_ms,
            )
        )
        return
    if trace is not None:
        _simulated(
            out,
            trace,
            profile=profile,
            policy=policy,
            bundle=bundle,
            replicas=replicas,
            scale_to_replicas=scale_to_replicas,
            cv=cv,
            every=every,
            target_ms=target_ms,
            attainment=attainment,
            actuators=actuators,
            seed=seed,
        )


def _simulated(
    out: Path,
    trace: Path,
    *,
    profile: str,
    policy: str,
    bundle: Path | None,
    replicas: int | None,
    scale_to_replicas: float | None,
    cv: float,
    every: float,
    target_ms: float,
    attainment: float,
    actuators: str,
    seed: int,
) -> None:
    """Let a policy drive the event-level simulator and write what it left behind."""
    from gpupilot_agent import recorder
    from gpupilot_agent.bundle import save
    from gpupilot_agent.decision_log import write_decisions
    from gpupilot_agent.explanation.account import DECISIONS, POLICY, RECORDING
    from gpupilot_agent.generalist import NAME as GENERALIST
    from gpupilot_envs.atomic import atomic_folder
    from gpupilot_envs.workload.recording import read_traffic, write_recording

    positive(every=every)
    unused(out)
    scene = scene_of(
        profile,
        target_ms=target_ms,
        attainment=attainment,
        scale_to_replicas=scale_to_replicas,
        cv=cv,
        hours=None,
        warm_up_s=0.0,
        actuators=actuators,
    )
    traffic = plausible(trace, read_traffic(trace))
    within(1.0, traffic.duration_s, every=every)
    weights = bundle_of(Path(GENERALIST) if policy == GENERALIST else bundle)
    with meter(f"recording {scene.profile.name}", traffic.duration_s) as told:
        recording, log = recorder.record(
            scene,
            traffic,
            policy if replicas is None else "static",
            seed=seed,
            every_s=every,
            replicas=replicas,
            bundle=weights,
            on_progress=told,
        )
    with atomic_folder(out) as folder:
        write_recording(folder / RECORDING, recording)
        write_decisions(folder / DECISIONS, log)
        if log.bundle_sha256 is not None and weights is not None:
            save(weights, folder / POLICY)
    show.line(f"{out}: {len(recording.readings)} readings, {len(log.entries)} decisions")
