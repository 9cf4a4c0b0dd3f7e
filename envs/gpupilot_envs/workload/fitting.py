"""Fit traffic to a recording: every family, how well each does, and which one to generate with.

This is the traffic half of ``gpupilot calibrate``: :func:`fit` turns a trace into a
:class:`~gpupilot_envs.workload.model.WorkloadModel`, from which
:func:`~gpupilot_envs.workload.model.generate_from` makes any amount of new traffic of its kind.
"""

from __future__ import annotations

from gpupilot_envs.workload.burstiness import arrivals_cv
from gpupilot_envs.workload.fit_events import fit_flash, fit_onoff, fit_ramps, fit_regimes
from gpupilot_envs.workload.fit_patterns import fit_diurnal, fit_replay
from gpupilot_envs.workload.generators import Params
from gpupilot_envs.workload.goodness import goodness
from gpupilot_envs.workload.model import Fit, WorkloadModel
from gpupilot_envs.workload.series import Floats, Series, prepare
from gpupilot_envs.workload.trace import RateTrace


def fit(trace: RateTrace, arrivals_s: Floats | None = None) -> WorkloadModel:
    """Fit every family to a trace and choose the closest.

    Args:
        trace: Real rates in requests per second: the noise of counting is told from them.
        arrivals_s: Exact arrivals of the same service, for the burstiness; ascending seconds.

    Raises:
        TraceInvalid: The trace has no traffic or fewer than 120 bins.
    """
    series = prepare(trace)
    fits: dict[str, Fit] = {
        params.family: Fit(params=params, goodness=goodness(series, params))
        for params in _candidates(series)
    }
    chosen = min(
        (family for family in fits if family != "replay"),
        key=lambda family: fits[family].goodness.distance,
    )
    return WorkloadModel(
        name=trace.name,
        source_sha256=trace.sha256,
        mean_rps=trace.mean_rps,
        bin_s=trace.bin_s,
        duration_s=trace.duration_s,
        arrivals_cv=None if arrivals_s is None else arrivals_cv(arrivals_s),
        family=chosen,
        fits=fits,
    )


def _candidates(series: Series) -> list[Params]:
    base = fit_diurnal(series)
    found = (
        base,
        fit_flash(series, base),
        fit_regimes(series),
        fit_ramps(series),
        fit_onoff(series),
        fit_replay(series),
    )
    return [params for params in found if params is not None]
