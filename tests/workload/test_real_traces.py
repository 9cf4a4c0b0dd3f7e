"""Every development trace that is present can be read, cut, replayed and fitted.

The folder is named by ``GPUPILOT_DATA`` (default ``../shared/data`` beside the repository). The
other tests of this folder cover the same code with generated traffic where it is absent.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from gpupilot_envs.workload.arrivals import ExactArrivals, RateArrivals
from gpupilot_envs.workload.burstiness import arrivals_cv
from gpupilot_envs.workload.fitting import fit
from gpupilot_envs.workload.model import fitted
from gpupilot_envs.workload.splits import ROLES, split_by_day
from gpupilot_envs.workload.trace import DAY_S, read_arrivals, read_trace, scale_to

ROOT = Path(__file__).resolve().parents[2]
TRACES = Path(os.environ.get("GPUPILOT_DATA", ROOT / ".." / "shared" / "data")) / "traces"
RATES = sorted(TRACES.glob("*.parquet"))
KNOWN = [path for path in RATES if path.stem in fitted()]
ARRIVALS = sorted((TRACES / "arrivals").glob("*.parquet"))


@pytest.mark.parametrize("path", RATES, ids=lambda path: path.stem)
def test_rate_traces_are_read_cut_and_replayed(path: Path) -> None:
    trace = read_trace(path)
    assert trace.mean_rps > 0
    day = trace.sliced(0.0, min(DAY_S, trace.duration_s))
    scaled = scale_to(day, 50.0)
    arrivals = RateArrivals(scaled, seed=1).take(scaled.duration_s)
    expected = scaled.rps.sum() * scaled.bin_s
    assert len(arrivals) == pytest.approx(expected, abs=5.0 * np.sqrt(expected))
    if trace.duration_s >= 5 * DAY_S:
        split = split_by_day([trace])
        assert all(split.role(role) for role in ROLES)


@pytest.mark.parametrize("path", KNOWN, ids=lambda path: path.stem)
def test_the_committed_fit_is_the_fit_of_the_trace(path: Path) -> None:
    trace = read_trace(path)
    committed = fitted()[path.stem]
    assert committed.source_sha256 == trace.sha256
    model = fit(trace)
    assert model.family == committed.family
    again = model.fits[model.family].goodness.distance
    assert again == pytest.approx(committed.fits[model.family].goodness.distance, rel=1e-2)


@pytest.mark.parametrize("path", ARRIVALS, ids=lambda path: path.stem)
def test_arrival_files_are_read_and_replayed(path: Path) -> None:
    times = read_arrivals(path)
    assert len(ExactArrivals(times).take(np.inf)) == len(times)
    cv = arrivals_cv(times)
    assert cv is not None
    assert 0.5 < cv <= 10.0
