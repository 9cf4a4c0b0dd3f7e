"""``gpupilot calibrate``: a traffic model and, from a recording, a service profile."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpupilot_agent.cli import options, show
from gpupilot_agent.cli.checks import unused
from gpupilot_agent.cli.examples import examples
from gpupilot_agent.cli.outcome import ExitCode, tell
from gpupilot_agent.cli.progress import spinner
from gpupilot_envs.errors import TraceInvalid

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gpupilot_envs.calibration import Calibration
    from gpupilot_envs.profile import ServiceProfile
    from gpupilot_envs.workload.model import WorkloadModel
    from gpupilot_envs.workload.trace import RateTrace

EXAMPLES = examples(
    "gpupilot calibrate records/shop/recording.parquet --out models/shop",
    "gpupilot calibrate day.csv --out models/day",
    "gpupilot calibrate records/shop/recording.parquet \\\n"
    "  --base my.yaml --out models/shop --json",
)


def calibrate(
    source: Annotated[
        Path,
        typer.Argument(help="A recording, or a rate trace with columns t_s, rps.", metavar="FILE"),
    ],
    out: options.Out,
    base: Annotated[
        str,
        typer.Option(
            help="Profile that gives what a recording does not show, such as the cold start.",
            metavar="FILE|NAME",
        ),
    ] = options.DEFAULT_PROFILE,
    arrivals: Annotated[
        Path | None,
        typer.Option(help="Exact arrivals of the same service, column t_s: tells burstiness."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Fit a traffic model and, from a recording, a service profile.

    Written to the folder: traffic.yaml and, from a recording, profile.yaml; what a file is too
    short for is said. When a recording cannot tell how long a batch takes, the reasons are
    printed, no profile is written and the exit code is 3.
    """
    from gpupilot_envs.embedded import find_profile
    from gpupilot_envs.workload.model import save_model
    from gpupilot_envs.workload.recording import is_recording, read_traffic
    from gpupilot_envs.workload.trace import read_arrivals

    unused(out)
    service = find_profile(base)
    recorded = is_recording(source)
    trace = read_traffic(source)
    times = None if arrivals is None else read_arrivals(arrivals)
    found = _service(source, service) if recorded else None
    with spinner("fitting the traffic"):
        model, too_little = _traffic(trace, times, required=not recorded)
    if model is not None:
        save_model(out / "traffic.yaml", model)
    if found is not None and found.profile is not None:
        _write_profile(out / "profile.yaml", found.profile)
    if as_json:
        show.as_json(_document(model, found))
    else:
        _print(out, model, found)
    if too_little:
        tell(f"no traffic model: {too_little}")
    if found is not None and found.profile is None:
        raise typer.Exit(ExitCode.ANSWER_IS_NO)


def _traffic(
    trace: RateTrace, arrivals_s: NDArray[np.float64] | None, *, required: bool
) -> tuple[WorkloadModel | None, str]:
    """Return the fitted model, or why there is none: a short recording may still show a profile."""
    from gpupilot_envs.workload.fitting import fit

    try:
        return fit(trace, arrivals_s), ""
    except TraceInvalid as error:
        if required:
            raise
        return None, str(error)


def _service(source: Path, base: ServiceProfile) -> Calibration:
    from gpupilot_envs.calibration import calibrate as calibrate_service
    from gpupilot_envs.workload.recording import read_recording

    written = datetime.fromtimestamp(source.stat().st_mtime, UTC).date().isoformat()
    return calibrate_service(read_recording(source), base, when=f"recorded until {written}")


def _write_profile(path: Path, profile: ServiceProfile) -> None:
    import yaml

    from gpupilot_envs.atomic import write_text

    write_text(path, yaml.safe_dump(profile.model_dump(mode="json"), sort_keys=False))


def _document(model: WorkloadModel | None, found: Calibration | None) -> dict[str, Any]:
    traffic = None if model is None else _summary(model)
    if found is None:
        return {"traffic": traffic, "profile": None, "refusals": [], "notes": []}
    return {
        "traffic": traffic,
        "profile": None if found.profile is None else found.profile.model_dump(mode="json"),
        "refusals": list(found.refusals),
        "notes": list(found.notes),
    }


def _summary(model: WorkloadModel) -> dict[str, Any]:
    return {
        "family": model.family,
        "mean_rps": model.mean_rps,
        "arrivals_cv": model.arrivals_cv,
        "distance": {name: fit.goodness.distance for name, fit in model.fits.items()},
    }


def _print(out: Path, model: WorkloadModel | None, found: Calibration | None) -> None:
    if model is not None:
        ranked = sorted(model.fits.items(), key=lambda item: item[1].goodness.distance)
        rows = [(name, f"{fit.goodness.distance:.3f}") for name, fit in ranked]
        title = (
            f"traffic of {model.name}: mean {model.mean_rps:.4g} requests/s, like {model.family}"
        )
        show.table(title, ("family", "distance"), rows)
        show.line(f"{out / 'traffic.yaml'}: the traffic model")
    if found is None:
        return
    for sentence in found.refusals:
        tell(f"no profile: {sentence}")
    if found.profile is not None:
        curve = ", ".join(f"{ms:.2f} ms at batch {b:g}" for b, ms in found.profile.batch_latency_ms)
        show.line(f"{out / 'profile.yaml'}: {curve}; {'; '.join(found.notes)}")
