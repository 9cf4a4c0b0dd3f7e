"""Fit every development trace and write the package's ``fitted.yaml``.

Usage: ``GPUPILOT_DATA=DIR python benchmarks/fit_traces.py`` (default ``../shared/data`` beside the
repository). Only fitted parameters are written, rounded to four digits; ``replay`` is left out
because it would carry the data.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import yaml
from pydantic import TypeAdapter

from gpupilot_envs.atomic import write_text
from gpupilot_envs.workload.fitting import fit
from gpupilot_envs.workload.model import WorkloadModel
from gpupilot_envs.workload.trace import read_arrivals, read_trace

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("GPUPILOT_DATA", ROOT / ".." / "shared" / "data"))
TARGET = ROOT / "envs" / "gpupilot_envs" / "workload" / "fitted.yaml"

HEAD = """\
# Fits to public traces, made by benchmarks/fit_traces.py; parameters only, none of the data.
# trace: source (licence)
#   aws_elb: numenta/NAB (MIT); azure_llm_2023: Azure/AzurePublicDataset (CC-BY-4.0);
#   gentd26: alibaba/clusterdata cluster-trace-v2026-GenAI (research use);
#   mscloud: microsoft/cloud-monitoring-dataset (MIT); nasa: Internet Traffic Archive, NASA-HTTP;
#   servegen: alibaba/ServeGen (Apache-2.0); twitter: Archive Team stream grab 2021-08, as counted
#   by reconfigurable-ml-pipeline/web-service-datasets; worldcup98: Internet Traffic Archive,
#   WorldCup98, as counted by nimamahmoudi/worldcup98-dataset (MIT).
# Days are counted from each trace's first day; goodness is described in workload/model.py.
"""


def rounded(value: object) -> object:
    """Return the document with every float at four significant digits."""
    match value:
        case float():
            return float(f"{value:.4g}")
        case dict():
            return {key: rounded(item) for key, item in value.items()}
        case list():
            return [rounded(item) for item in value]
        case _:
            return value


def model(path: Path) -> WorkloadModel:
    """Fit one trace, with the exact arrivals of the same service where there are any."""
    exact = path.parent / "arrivals" / f"{path.stem.rpartition('_')[0]}.parquet"
    found = fit(read_trace(path), read_arrivals(exact) if exact.exists() else None)
    return replace(found, fits={name: one for name, one in found.fits.items() if name != "replay"})


def main() -> None:
    """Fit all and write the file."""
    models = {path.stem: model(path) for path in sorted((DATA / "traces").glob("*.parquet"))}
    document = TypeAdapter(dict[str, WorkloadModel]).dump_python(models, mode="json")
    text = yaml.safe_dump(rounded(document), sort_keys=False, default_flow_style=None, width=98)
    write_text(TARGET, HEAD + text)
    for name, found in models.items():
        distance = found.fits[found.family].goodness.distance
        print(f"{name:32} {found.family:8} distance {distance:.2f}")


if __name__ == "__main__":
    main()
