"""The decision log: what was seen, asked, granted and held back, one row per decision.

Parquet, format ``gpupilot/decisions-v2`` (``docs/decisions.md``): the columns of ``Signals`` as the
policy saw them, the allocation that ran (``running_…``), was asked for (``asked_…``) and was
granted (``granted_…``), ``held``, ``reasons``, ``why``, and of a learned policy what it decided on:
``observation``, ``logits``, ``action`` and ``price``. File metadata: ``format``, ``service``,
``policy``, ``bundle_sha256``, the ``field_names`` and ``axes`` that the numbers stand for, and the
``setting`` in which it was decided, so that a log can be read by itself years later.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gpupilot_agent.policies import Evidence
from gpupilot_agent.rollout import Decision
from gpupilot_envs.actions import action_table
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.atomic import atomic_path
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.observation import FIELDS
from gpupilot_envs.reasons import Reason
from gpupilot_envs.signals import SIGNAL_FIELDS, Signals

FORMAT = "gpupilot/decisions-v2"
"""Value of the file's ``format`` metadata."""

_ROLES = ("running", "asked", "granted")
_PARTS = tuple(part.name for part in fields(Allocation))
_WHOLE = ("replicas_ready", "replicas_pending")
_DOCUMENTS = ("field_names", "axes", "setting")
_SCHEMA = pa.schema(
    [pa.field(name, pa.int64() if name in _WHOLE else pa.float64()) for name in SIGNAL_FIELDS]
    + [pa.field(f"{role}_{part}", pa.int64()) for role in _ROLES for part in _PARTS]
    + [
        pa.field("decided_at_s", pa.float64()),
        pa.field("held", pa.bool_()),
        pa.field("reasons", pa.list_(pa.string())),
        pa.field("why", pa.string()),
        pa.field("observation", pa.list_(pa.float32())),
        pa.field("logits", pa.list_(pa.float32())),
        pa.field("action", pa.list_(pa.int16())),
        pa.field("price", pa.float64()),
    ]
)

_FLOATS = [part.name for part in _SCHEMA if pa.types.is_floating(part.type)] + [
    f"{name}.list.element" for name in ("observation", "logits")
]
"""Columns whose bytes are stored place by place, which takes a third off a day's log."""


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
    """All decisions of one run, oldest first.

    Attributes:
        service: Name of the service.
        policy: Name of who decided.
        entries: The decisions, ascending in time.
        bundle_sha256: Digest of the learned policy, ``None`` of a classical one.
        field_names: Names of the numbers of an observation.
        axes: The action table that logits and actions index.
        setting: Scene and settings of the policy as plain data
            (:func:`gpupilot_agent.explanation.setting.described`); empty where unknown.
    """

    service: str
    policy: str
    entries: tuple[Entry, ...]
    bundle_sha256: str | None = None
    field_names: tuple[str, ...] = tuple(part.name for part in FIELDS)
    axes: list[dict[str, Any]] = field(default_factory=action_table)
    setting: Mapping[str, Any] = field(default_factory=dict)

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
    _write(path, _table(log))


def append_decisions(path: Path, later: DecisionLog) -> None:
    """Add decisions to a log, or start it; an interruption leaves the old file whole.

    Raises:
        InputInvalid: The file is no log, is of another service, policy, bundle or setting, or
            ``later`` does not start after its end.
        OutputRefused: The file cannot be written.
    """
    fresh = _table(later)
    if not path.exists():
        _write(path, fresh)
        return
    kept = _read(path)
    here, there = _metadata(fresh), _metadata(kept)
    for name in here:
        if here[name] != there.get(name):
            raise InputInvalid(
                f"{path}: {name}", here[name], f"{there.get(name)}, as logged so far"
            )
    if kept.num_rows and fresh.num_rows:
        end_s, start_s = kept["decided_at_s"][-1].as_py(), fresh["decided_at_s"][0].as_py()
        if not start_s > end_s:
            raise InputInvalid(f"{path}: decided_at_s", start_s, f"a time after {end_s:g} s")
    _write(path, pa.concat_tables([kept, fresh]))


def read_decisions(path: Path) -> DecisionLog:
    """Read a decision log.

    Raises:
        InputInvalid: The file is missing, damaged or of another format.
    """
    table = _read(path)
    try:
        return _log(table, _metadata(table))
    except (KeyError, TypeError, ValueError) as error:
        raise InputInvalid(str(path), f"damaged: {error}", f"a {FORMAT} file") from error


def _write(path: Path, table: pa.Table) -> None:
    with atomic_path(path) as partial:
        pq.write_table(
            table,
            partial,
            compression="zstd",
            use_dictionary=False,
            use_byte_stream_split=_FLOATS,
        )


def _read(path: Path) -> pa.Table:
    # asked first: without its datasets, which the operator's image has not, Arrow says otherwise
    if not path.is_file():
        raise InputInvalid(str(path), "no such file", f"a {FORMAT} file")
    try:
        # a log is small: threads cost more than they save, and an operator reads many of them
        table = pq.read_table(path, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise InputInvalid(str(path), "not a readable Parquet file", f"a {FORMAT} file") from error
    found = _metadata(table).get("format")
    if found != FORMAT:
        raise InputInvalid(f"{path}: format", found, FORMAT)
    if table.schema.names != _SCHEMA.names:
        raise InputInvalid(f"{path}: columns", table.schema.names, f"those of {FORMAT}")
    return table


def _metadata(table: pa.Table) -> dict[str, str]:
    raw: Mapping[bytes, bytes] = table.schema.metadata or {}
    return {key.decode(): value.decode() for key, value in raw.items()}


def _log(table: pa.Table, known: Mapping[str, str]) -> DecisionLog:
    documents = {name: json.loads(known[name]) for name in _DOCUMENTS}
    return DecisionLog(
        service=known["service"],
        policy=known["policy"],
        entries=tuple(_entry(row) for row in table.to_pylist()),
        bundle_sha256=known["bundle_sha256"] or None,
        field_names=tuple(documents["field_names"]),
        axes=documents["axes"],
        setting=documents["setting"],
    )


def _table(log: DecisionLog) -> pa.Table:
    metadata = {
        "format": FORMAT,
        "service": log.service,
        "policy": log.policy,
        "bundle_sha256": log.bundle_sha256 or "",
        **{name: json.dumps(getattr(log, name), sort_keys=True) for name in _DOCUMENTS},
    }
    rows = [_row(entry) for entry in log.entries]
    return pa.Table.from_pylist(rows, schema=_SCHEMA.with_metadata(metadata))


def _row(entry: Entry) -> dict[str, Any]:
    decision = entry.decision
    shapes: Sequence[Allocation] = (entry.running, decision.ask, decision.granted)
    allocations = {
        f"{role}_{part}": value
        for role, shape in zip(_ROLES, shapes, strict=True)
        for part, value in _plain(shape).items()
    }
    return {
        **_plain(entry.seen),
        **allocations,
        "decided_at_s": decision.at_s,
        "held": decision.held,
        "reasons": [str(reason) for reason in decision.reasons],
        "why": decision.why,
        **({} if decision.evidence is None else _plain(decision.evidence)),
    }


def _plain(thing: Signals | Allocation | Evidence) -> dict[str, Any]:
    """Return the fields by name; ``asdict`` copies deep, at more than the rest of a row costs."""
    return {name: getattr(thing, name) for name in thing.__slots__}


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
        evidence=_evidence(row),
    )
    seen = Signals(**{name: row[name] for name in SIGNAL_FIELDS})
    return Entry(seen=seen, running=running, decision=decision)


def _evidence(row: Mapping[str, Any]) -> Evidence | None:
    if row["observation"] is None:
        return None
    return Evidence(
        observation=tuple(row["observation"]),
        logits=tuple(row["logits"]),
        action=tuple(row["action"]),
        price=row["price"],
    )
