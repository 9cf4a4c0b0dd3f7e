"""``gpupilot calibrate``: a traffic model and, from a recording, a service profile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpupilot_agent.cli import options, show
from gpupilot_agent.cli.checks import unused
from gpupilot_agent.cli.examples import examples
from gpupilot_agent.cli.outcome import ExitCode, tell
from gpupilot_agent.cli.progress import spinner
from gpupilot_envs.errors import InputInvalid, OutputRefused, TraceInvalid

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gpupilot_envs.calibration.fitting import Calibration
    from gpupilot_envs.profile import ServiceProfile
    from gpupilot_envs.workload.model import WorkloadModel
    from gpupilot_envs.workload.trace import RateTrace

EXAMPLES = examples(
    "gpupilot calibrate records/shop/recording.parquet --out models/shop",
    "gpupilot calibrate light.parquet heavy.parquet two-instances.parquet -o shop.yaml",
    "gpupilot calibrate recordings/cpu/cal-* -o cpu.yaml",
    "gpupilot calibrate day.csv --out models/day",
    "gpupilot calibrate records/shop/recording.parquet \\\n"
    "  --base my.yaml --out models/shop --json",
)


def calibrate(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Recordings of one service, folders of recorded runs among them, or one rate "
            "trace with columns t_s, rps.",
            metavar="FILE...",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder, or a .yaml for the profile.", metavar="PATH"),
    ],
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
    """Fit a traffic model and, from recordings, a service profile.

    Written to the folder: traffic.yaml and, from recordings, profile.yaml with fit.html, fit.json
    and fit.png: every parameter with its error and what it was read from, or why it cannot be
    told. When not even the time of a batch can be told, the reasons are printed, no profile is
    written and the exit code is 3.
    """
    from gpupilot_envs.embedded import find_profile
    from gpupilot_envs.workload.model import save_model
    from gpupilot_envs.workload.trace import read_arrivals

    places = _places(out)
    service = find_profile(base)
    recorded = [path for path in sources if _is_run(path) or _is_recording(path)]
    if recorded and len(recorded) != len(sources):
        raise InputInvalid(
            "FILE", str(next(p for p in sources if p not in recorded)), "a recording"
        )
    seen = [_recorded(path) for path in recorded]
    if not recorded and len(sources) != 1:
        raise InputInvalid("FILE", f"{len(sources)} traces", "one trace, or recordings")
    traces = [_read_traffic(path) for path in ([s.path for s in seen] or sources)]
    times = None if arrivals is None else read_arrivals(arrivals)
    found = _service(seen, service) if recorded else None
    model: WorkloadModel | None = None
    too_little = ""
    if places.traffic is not None:
        with spinner("fitting the traffic"):
            longest = max(traces, key=lambda trace: trace.duration_s)
            model, too_little = _traffic(longest, times, required=not recorded)
    with _written(out, places) as made:
        if made.traffic is not None and model is not None:
            save_model(made.traffic, model)
        if found is not None:
            _write_fit(made, found)
    if as_json:
        show.as_json(_document(model, found))
    else:
        _print(places, model, found)
    if too_little:
        tell(f"no traffic model: {too_little}")
    if found is not None and found.profile is None:
        raise typer.Exit(ExitCode.ANSWER_IS_NO)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A recording, and the mean latency that its users measured where they are recorded too."""

    path: Path
    users_s: float | None = None


def _is_run(path: Path) -> bool:
    from gpupilot_envs.runs import CARD

    return (path / CARD).is_file()


def _recorded(path: Path) -> _Seen:
    """Return a recording, or that of a run's folder.

    Raises:
        InputInvalid: The run is held out to judge the result.
    """
    from gpupilot_envs.runs import RECORDING, REQUESTS, read_run, requests_of

    if not _is_run(path):
        return _Seen(path=path)
    card = read_run(path)
    if card.purpose == "fidelity":
        raise InputInvalid("FILE", str(path), "a run that is not held out (purpose: fidelity)")
    logged = (path / REQUESTS).is_file()
    users_s = requests_of(path, card).latency_mean_s if logged else None
    return _Seen(path=path / RECORDING, users_s=users_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Places:
    """Where each file goes; no traffic model is made beside a profile that has its own name."""

    profile: Path
    fit: Path
    traffic: Path | None


def _places(out: Path) -> _Places:
    if out.suffix not in (".yaml", ".yml"):
        unused(out)
        return _within(out)
    places = _Places(profile=out, fit=out.with_name(f"{out.stem}-fit"), traffic=None)
    if out.exists():
        raise OutputRefused(f"{out} exists already; choose another --out")
    return places


def _within(folder: Path) -> _Places:
    return _Places(
        profile=folder / "profile.yaml", fit=folder / "fit", traffic=folder / "traffic.yaml"
    )


@contextmanager
def _written(out: Path, places: _Places) -> Iterator[_Places]:
    """Yield where to write; a folder appears when all of it is there."""
    from gpupilot_envs.atomic import atomic_folder

    if places.traffic is None:
        yield places
        return
    with atomic_folder(out) as folder:
        yield _within(folder)


def _is_recording(path: Path) -> bool:
    """Tell whether a file is a recording; imported late, because help must not wait."""
    from gpupilot_envs.workload.recording import is_recording

    return is_recording(path)


def _read_traffic(path: Path) -> RateTrace:
    """Return the traffic of a trace or a recording; imported late."""
    from gpupilot_envs.workload.recording import read_traffic

    return read_traffic(path)


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


def _service(sources: Sequence[_Seen], base: ServiceProfile) -> Calibration:
    from gpupilot_envs.calibration.fitting import calibrate as calibrate_service
    from gpupilot_envs.workload.recording import read_recording

    newest_s = max(source.path.stat().st_mtime for source in sources)
    written = datetime.fromtimestamp(newest_s, UTC).date().isoformat()
    return calibrate_service(
        [read_recording(source.path) for source in sources],
        base,
        when=f"recorded until {written}",
        users_s=[source.users_s for source in sources],
    )


def _write_fit(places: _Places, found: Calibration) -> None:
    """Write the profile, and the report in any case: it says what was missing, too."""
    import yaml

    from gpupilot_agent.report.fit_report import write_fit_report
    from gpupilot_envs.atomic import write_text

    if found.profile is not None:
        document = found.profile.model_dump(mode="json")
        write_text(places.profile, yaml.safe_dump(document, sort_keys=False))
    write_fit_report(places.fit, found)


def _document(model: WorkloadModel | None, found: Calibration | None) -> dict[str, Any]:
    from gpupilot_envs.calibration.fitting import as_document

    traffic = None if model is None else _summary(model)
    if found is None:
        return {"traffic": traffic, "profile": None, "refusals": [], "notes": [], "findings": []}
    return {
        "traffic": traffic,
        "profile": None if found.profile is None else found.profile.model_dump(mode="json"),
        "refusals": list(found.refusals),
        "notes": list(found.notes),
        "findings": as_document(found.findings),
    }


def _summary(model: WorkloadModel) -> dict[str, Any]:
    return {
        "family": model.family,
        "mean_rps": model.mean_rps,
        "arrivals_cv": model.arrivals_cv,
        "distance": {name: fit.goodness.distance for name, fit in model.fits.items()},
    }


def _print(places: _Places, model: WorkloadModel | None, found: Calibration | None) -> None:
    if model is not None:
        ranked = sorted(model.fits.items(), key=lambda item: item[1].goodness.distance)
        rows = [(name, f"{fit.goodness.distance:.3f}") for name, fit in ranked]
        title = (
            f"traffic of {model.name}: mean {model.mean_rps:.4g} requests/s, like {model.family}"
        )
        show.table(title, ("family", "distance"), rows)
        show.line(f"{places.traffic}: the traffic model")
    if found is None:
        return
    for sentence in found.refusals:
        tell(f"no profile: {sentence}")
    if found.profile is not None:
        curve = ", ".join(f"{ms:.2f} ms at batch {b:g}" for b, ms in found.profile.batch_latency_ms)
        show.line(f"{places.profile}: {curve}")
    for sentence in found.notes:
        show.line(f"  {sentence}")
    show.line(f"{places.fit}.html: what each was read from")
