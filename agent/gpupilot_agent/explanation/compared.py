"""The same account from a comparison, which keeps intervals instead of decisions.

What a policy saw and why it moved is not among them; the outlook lets it decide again on the same
rates and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from gpupilot_agent.explanation.account import Account, with_replicas
from gpupilot_agent.explanation.intervals import Intervals
from gpupilot_agent.explanation.moment import Moment
from gpupilot_agent.explanation.setting import MADE_BY_THIS_VERSION, Decider, scene_from
from gpupilot_agent.explanation.when import seconds
from gpupilot_envs.errors import InputInvalid

SERIES = "series"
"""Folder of a comparison that holds one file per policy (``docs/results.md``)."""
CONFIG = "config.yaml"

Rows = dict[str, Any]
"""Columns of a time series, one array each."""


def is_comparison(run: Path) -> bool:
    """Tell whether the folder is one a comparison left."""
    return (run / SERIES).is_dir()


def of_comparison(
    run: Path, at: str, *, policy: str | None, trace: str | None, seed: int
) -> Account:
    """Return the account of the interval ``at`` lies in.

    Args:
        run: Folder of the comparison.
        at: See :func:`.when.seconds`, on the trace's own clock.
        policy: Whose run.
        trace: On which traffic; ``None`` where there is only one.
        seed: Of which repetition.

    Raises:
        InputInvalid: The policy, trace, seed or time is not in the comparison; says what is.
    """
    config = read_config(run)
    rows, trace = _rows(run, policy, trace, seed)
    everything = _intervals(rows)
    at_s = seconds(at, everything)
    around = everything.around(at_s)
    row = _decided(rows, around, at_s)
    scene = scene_from(config, str(run / CONFIG))
    granted = [with_replicas(scene.allocation, count) for count in rows["replicas_granted"]]
    inside = np.flatnonzero(np.isin(rows["t_s"], around.ends_s)).tolist()
    grants = ((around.start_s, granted[inside[0]]), *((rows["t_s"][i], granted[i]) for i in inside))
    moment = Moment(
        at_s=float(rows["t_s"][row]),
        scene=scene,
        traffic=around.traffic(trace),
        start_s=around.start_s,
        grants=grants,
        running=granted[row - 1],
        granted=granted[row],
    )
    return Account(
        title=f"{policy} on {trace}, seed {seed}",
        policy=str(policy),
        at_s=moment.at_s,
        asked=with_replicas(scene.allocation, rows["replicas_asked"][row]),
        granted=moment.granted,
        running=moment.running,
        intervals=around,
        moment=moment,
        decider=decider(config, str(policy)),
    )


def read_config(run: Path) -> dict[str, Any]:
    """Return what a comparison was asked to do.

    Raises:
        InputInvalid: The file is missing or damaged.
    """
    path = run / CONFIG
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputInvalid(str(path), "no readable file", "a comparison's config") from error
    if not isinstance(document, dict):
        raise InputInvalid(str(path), type(document).__name__, "a comparison's config")
    return document


def decider(config: Mapping[str, Any], policy: str) -> Decider | None:
    """Return the main setting of a policy of the comparison, ``None`` if it has none.

    A bound is granted the best of its settings run by run, so it has no main one.

    Raises:
        InputInvalid: The configuration is of another version.
    """
    known = config.get("policies", {}).get(policy)
    if known is None or known["role"] == "bound":
        return None
    try:
        first = next(
            params for name, params in config["settings"].items() if name.startswith(f"{policy}: ")
        )
        return Decider(name=policy, params=first, **known)
    except (KeyError, StopIteration, TypeError) as error:
        raise InputInvalid(f"{policy}: settings", str(error), MADE_BY_THIS_VERSION) from error


def _rows(run: Path, policy: str | None, trace: str | None, seed: int) -> tuple[Rows, str]:
    names = sorted(path.stem for path in (run / SERIES).glob("*.parquet"))
    if policy not in names:
        raise InputInvalid("--policy", policy, f"one of {', '.join(names)}")
    path = run / SERIES / f"{policy}.parquet"
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputInvalid(str(path), "not a readable Parquet file", "a time series") from error
    at = table.schema.get_field_index("trace")
    table = table.set_column(at, "trace", table["trace"].cast(pa.string()))
    if trace is None and len(pc.unique(table["trace"])) == 1:
        trace = str(table["trace"][0])
    table = _only(table, "--trace", "trace", trace)
    table = _only(table, "--seed", "seed", seed)
    return {name: table[name].to_numpy() for name in table.column_names}, str(trace)


def _only(table: pa.Table, option: str, column: str, value: object) -> pa.Table:
    kind = table.schema.field(column).type
    kept = table.filter(pc.equal(table[column], pa.scalar(value, kind)))
    if value is None or not kept.num_rows:
        known = ", ".join(str(name) for name in sorted(pc.unique(table[column]).to_pylist()))
        raise InputInvalid(option, value, f"one of {known}")
    return kept


def _intervals(rows: Rows) -> Intervals:
    return Intervals(
        ends_s=rows["t_s"].astype(np.float64),
        length_s=float(np.median(rows["interval_s"])),
        requests=rows["requests"].astype(np.float64),
        late=rows["late"].astype(np.float64),
        gpu_s=rows["gpu_seconds"].astype(np.float64),
    )


def _decided(rows: Rows, around: Intervals, at_s: float) -> int:
    """Return the row at whose end the decision in force at ``at_s`` was taken."""
    ends_s = rows["t_s"]
    inside = np.flatnonzero((ends_s >= around.ends_s[0]) & (ends_s <= max(at_s, 0.0) + 1e-6))
    if len(inside) < 1 or int(inside[-1]) == 0:
        first_s = float(around.ends_s[min(1, len(around.ends_s) - 1)])
        raise InputInvalid("--at", at_s, f"{first_s:g} s or later; decisions begin there")
    return int(inside[-1])
