"""``gpupilot gate``: may this policy act on this service? Promote or hold, and why."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpupilot_agent.cli import options, show
from gpupilot_agent.cli.checks import percent, positive, unused, within
from gpupilot_agent.cli.examples import examples
from gpupilot_agent.cli.outcome import ExitCode
from gpupilot_agent.cli.progress import counter
from gpupilot_agent.cli.scenes import bundles_of, names_of, trusted

if TYPE_CHECKING:
    from gpupilot_agent.proof import Proof
    from gpupilot_agent.results import Metric

EXAMPLES = examples(
    "gpupilot gate --policy bundles/mine --service-recordings records/shop/recording.parquet \\\n"
    "  --target-ms 60 --attainment 99 --out proof/shop",
    "gpupilot gate --policy policy.npz --service-recordings monday.parquet tuesday.parquet \\\n"
    "  --baselines hpa,keda,queueing --profile models/shop/profile.yaml --jobs 2 --out proof/week",
)
COLUMNS = (
    "",
    "in time %",
    "GPU-h",
    "cost of the policy at equal attainment",
    "as they ran",
)


def gate(
    service_recordings: Annotated[
        list[Path],
        typer.Option(help="Recordings of the service, oldest or newest first.", metavar="PATH…"),
    ],
    out: options.Out,
    more: Annotated[
        list[Path] | None,
        typer.Argument(help="More recordings, as a shell's * gives them.", metavar="PATH"),
    ] = None,
    policy: Annotated[
        Path,
        typer.Option(
            help="The bundle, or the folder a training left; `generalist` is the shipped one."
        ),
    ] = Path("generalist"),
    baselines: Annotated[
        str, typer.Option(help="What the policy must beat, tuned; names separated by commas.")
    ] = "hpa,keda,queueing",
    profile: Annotated[
        str | None,
        typer.Option(
            help="What the service costs to run; without it, calibrated from the recordings.",
            metavar="FILE|NAME",
        ),
    ] = None,
    target_ms: options.TargetMs = 60.0,
    attainment: options.AttainmentPercent = 99.0,
    margin: Annotated[
        float,
        typer.Option(
            help="Percent by which the interval of the cost may end above zero: 0 asks for "
            "cheaper, more for not worse by more than that."
        ),
    ] = 0.0,
    trials: Annotated[int, typer.Option(min=1, help="Settings tried per baseline.")] = 16,
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions of the later part.")] = 2,
    block_minutes: Annotated[
        float, typer.Option(help="Length of the stretches that the intervals resample.")
    ] = 30.0,
    fit_price: Annotated[
        bool,
        typer.Option(
            "--fit-price",
            help="Set the policy's price of a late request on the earlier part first, as baselines "
            "are tuned; writes the policy that is judged.",
        ),
    ] = False,
    bundle_digest: options.BundleDigest = None,
    bundle_key: options.BundleKey = None,
    jobs: options.Jobs = 1,
    as_json: options.AsJson = False,
) -> None:
    """Replay the service's own recorded traffic, and promote the policy or hold it.

    Baselines are tuned on an earlier part of the recordings and compared on the later part.
    Arrivals are recorded; the response to another number of replicas is simulated. Exit code 0:
    promote, 3: hold, 2: the input cannot be used. Writes proof.json and proof.html.
    """
    from gpupilot_agent.bundle import save
    from gpupilot_agent.gate import GateConfig, Ground, priced
    from gpupilot_agent.gate import gate as judge
    from gpupilot_agent.proof import write_proof
    from gpupilot_agent.report.proof_page import write_proof_page
    from gpupilot_envs.embedded import find_profile
    from gpupilot_envs.errors import InputInvalid
    from gpupilot_envs.limits import Targets
    from gpupilot_envs.workload.recording import read_recording

    positive(target_ms=target_ms, block_minutes=block_minutes)
    percent(attainment=attainment)
    within(-50.0, 50.0, margin=margin)
    unused(out)
    config = GateConfig(
        targets=Targets(latency_s=target_ms / 1000.0, attainment_ratio=attainment / 100.0),
        baselines=names_of(baselines),
        margin=margin / 100.0,
        trials=trials,
        seeds=seeds,
        block_s=60.0 * block_minutes,
    )
    bundle, *others = bundles_of([policy])
    if others:
        raise InputInvalid("--policy", str(policy), "one bundle, not a folder of several")
    if bundle_digest is not None or bundle_key is not None:
        bundle = trusted(policy, digest=bundle_digest, key=bundle_key)
    recordings = [read_recording(path) for path in [*service_recordings, *(more or [])]]
    known = None if profile is None else find_profile(profile)
    ground = Ground.of(recordings, config, now=datetime.now(UTC), profile=known)
    if fit_price:
        with counter("setting the price") as told:
            bundle = priced(bundle, ground, jobs=jobs, on_progress=told)
    with counter("judging") as told:
        proof = judge(bundle, ground, jobs=jobs, on_progress=told)
    write_proof(out / "proof.json", proof)
    write_proof_page(out / "proof.html", proof)
    if fit_price:
        save(bundle, out / "policy.npz")
    if as_json:
        show.as_json(proof.model_dump(mode="json"))
    else:
        print_proof(proof)
        show.line(f"{out / 'proof.html'}")
        if fit_price:
            show.line(f"{out / 'policy.npz'}: the policy that was judged")
    if not proof.promotes:
        raise typer.Exit(ExitCode.ANSWER_IS_NO)


def print_proof(proof: Proof) -> None:
    """Print the verdict, its reasons, and everybody's numbers."""
    show.line(f"{proof.verdict.upper()}: {proof.service}")
    for reason in proof.reasons:
        show.line(f"  {reason.code}: {reason.text}")
    if proof.policy is None:
        return
    rows = [("policy", *_pair(proof.policy.attainment_ratio, proof.policy.gpu_hours), "", "")]
    rows += [
        (
            name,
            *_pair(result.attainment_ratio, result.gpu_hours),
            _change(result.cost_at_equal_attainment),
            _change(result.cost_as_they_ran),
        )
        for name, result in proof.baselines.items()
    ]
    target, evidence = proof.objective, proof.evidence
    show.table(
        f"{100 * target.attainment_ratio:g} % within {target.latency_ms:g} ms; "
        f"{evidence.judged_hours:.1f} h judged in {evidence.blocks} stretches, {evidence.seeds} "
        "seeds; 95 % intervals",
        COLUMNS,
        rows,
    )
    show.line(
        f"guardrail changed {_share(proof.policy.overridden_ratio)} of the policy's decisions; "
        f"{_share(proof.policy.unfamiliar_ratio)} were outside of what it was trained on"
    )
    show.line(proof.method)


def _pair(attained: Metric, cost: Metric) -> tuple[str, str]:
    return (
        "-" if attained.mean is None else f"{100 * attained.mean:.2f}",
        "-" if cost.mean is None else f"{cost.mean:.3g}",
    )


def _change(metric: Metric) -> str:
    low, high = metric.ci95
    if metric.mean is None or low is None or high is None:
        return "-"
    return f"{100 * metric.mean:+.1f} % ({100 * low:+.1f} to {100 * high:+.1f})"


def _share(metric: Metric) -> str:
    return "-" if metric.mean is None else f"{100 * metric.mean:.1f} %"
