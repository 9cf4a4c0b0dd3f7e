"""Every development trace that is present can be read, cut, replayed and fitted.

The folder is named by ``GPUPILOT_DATA`` (default ``../shared/data`` beside the repository).
Where it is absent, files of the same form stand in, generated from the models fitted to it.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpupilot_envs.workload.arrivals import ExactArrivals, RateArrivals
from gpupilot_envs.workload.burstiness import arrivals_cv
from gpupilot_envs.workload.fitting import fit
from gpupilot_envs.workload.model import fitted, generate_from
from gpupilot_envs.workload.splits import ROLES, split_by_day
from gpupilot_envs.workload.trace import (
    DAY_S,
    RateTrace,
    read_arrivals,
    read_trace,
    scale_to,
    write_trace,
)

ROOT = Path(__file__).resolve().parents[2]
TRACES = Path(os.environ.get("GPUPILOT_DATA", ROOT / ".." / "shared" / "data")) / "traces"
RATES = {path.stem: path for path in sorted(TRACES.glob("*.parquet"))}
ARRIVALS = {path.stem: path for path in sorted((TRACES / "arrivals").glob("*.parquet"))}
STAND_INS = ("azure_llm_2023_code_10s", "mscloud_mongo_app_02", "mscloud_mongo_app_04")
"""On and off, daily, and with flash crowds."""


def stand_in(name: str, days: float = 6.0) -> RateTrace:
    """Return traffic of a fitted model's kind, by the minute."""
    return generate_from(fitted()[name], duration_s=days * DAY_S, bin_s=60.0, seed=1)


@pytest.fixture
def rates(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return the file of the rate trace of that name, written anew where it is absent."""
    name = str(request.param)
    if name in RATES:
        return RATES[name]
    write_trace(tmp_path / f"{name}.parquet", stand_in(name))
    return tmp_path / f"{name}.parquet"


@pytest.fixture
def arrivals(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return the file of the arrivals of that name, written anew where it is absent."""
    name = str(request.param)
    if name in ARRIVALS:
        return ARRIVALS[name]
    trace = scale_to(stand_in(name, days=1.0), 1.0)
    times = RateArrivals(trace, seed=1).take(trace.duration_s)
    pq.write_table(pa.table({"t_s": times}), tmp_path / f"{name}.parquet")
    return tmp_path / f"{name}.parquet"


@pytest.mark.parametrize("rates", RATES or STAND_INS, indirect=True)
def test_rate_traces_are_read_cut_and_replayed(rates: Path) -> None:
    trace = read_trace(rates)
    assert trace.mean_rps > 0
    day = trace.sliced(0.0, min(DAY_S, trace.duration_s))
    scaled = scale_to(day, 50.0)
    taken = RateArrivals(scaled, seed=1).take(scaled.duration_s)
    expected = scaled.rps.sum() * scaled.bin_s
    assert len(taken) == pytest.approx(expected, abs=5.0 * np.sqrt(expected))
    if trace.duration_s >= 5 * DAY_S:
        split = split_by_day([trace])
        assert all(split.role(role) for role in ROLES)


@pytest.mark.parametrize(
    "rates", [name for name in RATES if name in fitted()] or STAND_INS, indirect=True
)
def test_a_fit_is_kept_with_the_trace_it_is_the_fit_of(rates: Path) -> None:
    """The fit is the committed one, or that of the stand-in before it became a file."""
    trace = read_trace(rates)
    kept = fitted()[rates.stem] if rates.stem in RATES else fit(stand_in(rates.stem))
    assert kept.source_sha256 == trace.sha256
    model = fit(trace)
    assert model.family == kept.family
    again = model.fits[model.family].goodness.distance
    assert again == pytest.approx(kept.fits[model.family].goodness.distance, rel=1e-2)


@pytest.mark.parametrize("arrivals", ARRIVALS or STAND_INS, indirect=True)
def test_arrival_files_are_read_and_replayed(arrivals: Path) -> None:
    times = read_arrivals(arrivals)
    assert len(ExactArrivals(times).take(np.inf)) == len(times)
    cv = arrivals_cv(times)
    assert cv is not None
    assert 0.5 < cv <= 10.0
