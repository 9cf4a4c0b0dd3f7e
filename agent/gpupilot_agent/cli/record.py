"""``gpupilot record``: readings and decisions as files to calibrate and explain from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpupilot_agent.cli import options, show
from gpupilot_agent.cli.checks import plausible, positive, unused, within
from gpupilot_agent.cli.examples import examples
from gpupilot_agent.cli.progress import meter
from gpupilot_agent.cli.scenes import bundle_of, scene_of

EXAMPLES = examples(
    "gpupilot record --trace day.parquet --policy queueing --out records/shop",
    "gpupilot record --trace day.parquet --replicas 4 --out records/fixed",
    "gpupilot record --profile my.yaml --trace day.csv --policy ppo \\\n"
    "  --bundle bundles/mine --out records/learned",
)


def record(
    trace: Annotated[Path, typer.Option(help="Traffic: a rate trace with columns t_s, rps.")],
    out: options.Out,
    profile: options.Profile = options.DEFAULT_PROFILE,
    policy: Annotated[
        str, typer.Option(help="Who decides: a baseline's name, generalist, or ppo.")
    ] = "static",
    bundle: Annotated[
        Path | None, typer.Option(help="The trained policy, where --policy is ppo.")
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(min=1, help="Record a fixed number of replicas instead.")
    ] = None,
    scale_to_replicas: options.ScaleToReplicas = None,
    cv: options.Cv = 1.0,
    every: Annotated[float, typer.Option(help="Seconds between two rows, and their window.")] = 15,
    target_ms: options.TargetMs = 60.0,
    attainment: options.AttainmentPercent = 99.0,
    actuators: options.Actuators = "",
    seed: options.Seed = 0,
) -> None:
    """Record a simulated service: its readings and every decision.

    The service runs in the event-level simulator; reading a live Prometheus comes with the
    serving stack and will write the same files. Written to the folder: recording.parquet for
    `gpupilot calibrate`, decisions.parquet for `gpupilot explain`, and beside it, of a learned
    policy, policy.npz.
    """
    from gpupilot_agent import recorder
    from gpupilot_agent.bundle import save
    from gpupilot_agent.decision_log import write_decisions
    from gpupilot_agent.explanation.account import DECISIONS, POLICY, RECORDING
    from gpupilot_agent.generalist import NAME as GENERALIST
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
    write_recording(out / RECORDING, recording)
    write_decisions(out / DECISIONS, log)
    if log.bundle_sha256 is not None and weights is not None:
        save(weights, out / POLICY)
    show.line(f"{out}: {len(recording.readings)} readings, {len(log.entries)} decisions")
