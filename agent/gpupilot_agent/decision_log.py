"""The decision log: what was seen, asked, granted and held back, one row per decision.

Parquet, format ``gpupilot/decisions-v1``: the columns of ``Signals`` as the policy saw them, the
allocation that ran (``running_…``), was asked for (``asked_…``) and was granted (``granted_…``),
``held``, ``reasons`` (list of text) and ``why``. File metadata: ``format``, ``service`` and
``policy``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gpupilot_agent.rollout import Decision
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.atomic import atomic_path
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.reasons import Reason
from gpupilot_envs.signals import SIGNAL_FIELDS, Signals

FORMAT = "gpupilot/decisions-v1"
"""Value of the file's ``format`` metadata."""

_ROLES = ("running", "asked", "granted")
_PARTS = tuple(part.name for part in fields(Allocation))
_WHOLE = ("replicas_ready", "replicas_pending")
_SCHEMA = pa.schema(
    [pa.field(name, pa.int64() if name in _WHOLE else pa.float64()) for name in SIGNAL_FIELDS]
    + [pa.field(f"{role}_{part}", pa.int64()) for role in _ROLES for part in _PARTS]
    + [
        pa.field("decided_at_s", pa.float64()),
        pa.field("held", pa.bool_()),
        pa.field("reasons", pa.list_(pa.string())),
        pa.field("why", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A decision together with what it was taken on.

    Attributes:
        seen: The newest reading before the decision.
        running: What the service ran with.
        decision: What was asked, granted and why.
    """

    seen: Signals
    running: Allocation
    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionLog:
    """All decisions of one run, oldest first."""

    service: str
    policy: str
    entries: tuple[Entry, ...]

    def at(self, at_s: float) -> Entry:
        """Return the decision in force at ``at_s``: the last one taken until then.

        Raises:
            InputInvalid: No decision had been taken by then.
        """
        taken = [entry for entry in self.entries if entry.decision.at_s <= at_s]
        if not taken:
            raise InputInvalid("--at", at_s, self._covered())
        return taken[-1]

    def _covered(self) -> str:
        if not self.entries:
            return "a run with decisions; this one has none"
        first, last = self.entries[0].decision.at_s, self.entries[-1].decision.at_s
        return f"{first:g} or later; decisions were taken from {first:g} to {last:g} s"


def write_decisions(path: Path, log: DecisionLog) -> None:
    """Write the file, whole or not at all.

    Raises:
        OutputRefused: The file cannot be written.
    """
    metadata = {"format": FORMAT, "service": log.service, "policy": log.policy}
    rows = [_row(entry) for entry in log.entries]
    table = pa.Table.from_pylist(rows, schema=_SCHEMA.with_metadata(metadata))
    with atomic_path(path) as partial:
        pq.write_table(table, partial)


def read_decisions(path: Path) -> DecisionLog:
    """Read a decision log.

    Raises:
        InputInvalid: The file is missing, damaged or of another format.
    """
    try:
        table = pq.read_table(path)
    except FileNotFoundError as error:
        raise InputInvalid(str(path), "no such file", f"a {FORMAT} file") from error
    except (pa.ArrowException, OSError) as error:
        raise InputInvalid(str(path), "not a readable Parquet file", f"a {FORMAT} file") from error
    raw: Mapping[bytes, bytes] = table.schema.metadata or {}
    metadata = {key.decode(): value.decode() for key, value in raw.items()}
    if metadata.get("format") != FORMAT:
        raise InputInvalid(f"{path}: format", metadata.get("format"), FORMAT)
    return DecisionLog(
        service=metadata["service"],
        policy=metadata["policy"],
        entries=tuple(_entry(row) for row in table.to_pylist()),
    )


def _row(entry: Entry) -> dict[str, Any]:
    decision = entry.decision
    shapes: Sequence[Allocation] = (entry.running, decision.ask, decision.granted)
    allocations = {
        f"{role}_{part}": value
        for role, shape in zip(_ROLES, shapes, strict=True)
        for part, value in asdict(shape).items()
    }
    return {
        **asdict(entry.seen),
        **allocations,
        "decided_at_s": decision.at_s,
        "held": decision.held,
        "reasons": [str(reason) for reason in decision.reasons],
        "why": decision.why,
    }


def _entry(row: Mapping[str, Any]) -> Entry:
    running, asked, granted = (
        Allocation(**{part: row[f"{role}_{part}"] for part in _PARTS}) for role in _ROLES
    )
    decision = Decision(
        at_s=row["decided_at_s"],
        ask=asked,
        granted=granted,
        held=row["held"],
        reasons=tuple(Reason(name) for name in row["reasons"]),
        why=row["why"],
    )
    seen = Signals(**{name: row[name] for name in SIGNAL_FIELDS})
    return Entry(seen=seen, running=running, decision=decision)
