"""Menus of gears for a fleet: which tables are gears of one service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.fleet.table import FleetTables
from gpupilot_envs.gears import GEAR_FIELDS, GEARS_MAX, Menu

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_SLO = GEAR_FIELDS.index("slo_rps")
_COST = GEAR_FIELDS.index("cost_milli")


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetMenus:
    """The gears of every table of a :class:`FleetTables`, one row per table.

    Attributes:
        rows: ``Menu.rows()`` of the service a table is a gear of, shape
            ``(tables, GEARS_MAX, len(GEAR_FIELDS))``.
        gears: Gears on its menu, 1 or more, shape ``(tables,)``.
        place: Which of them the table is, shape ``(tables,)``.
        tables: Table of each gear of the menu, -1 beyond it, shape ``(tables, GEARS_MAX)``.
        unit_rps: What one replica of the stated gear carries, shape ``(tables,)``.
        unit_share: What that replica is billed, in GPUs or cores, shape ``(tables,)``.
    """

    rows: Floats
    gears: Ints
    place: Ints
    tables: Ints
    unit_rps: Floats
    unit_share: Floats

    @classmethod
    def of(cls, menus: Sequence[Menu]) -> FleetMenus:
        """Return the menus of services whose tables stand one after the other, gear by gear."""
        counts = np.array([len(menu) for menu in menus], dtype=np.int64)
        firsts = np.cumsum(counts) - counts
        places = np.arange(GEARS_MAX)
        tables = np.where(places < counts[:, None], firsts[:, None] + places, -1)
        stated = np.array([menu.rows()[menu.base] for menu in menus])
        service = np.repeat(np.arange(len(menus)), counts)
        return cls(
            rows=np.stack([menu.rows() for menu in menus])[service],
            gears=counts[service],
            place=np.arange(len(service)) - firsts[service],
            tables=tables[service],
            unit_rps=stated[service, _SLO],
            unit_share=stated[service, _COST] / 1000.0,
        )

    @classmethod
    def none(cls, tables: FleetTables) -> FleetMenus:
        """Return that every table is a service of its own, with nothing to choose."""
        n = len(tables)
        only = np.full((n, GEARS_MAX), -1, dtype=np.int64)
        only[:, 0] = np.arange(n)
        return cls(
            rows=np.full((n, GEARS_MAX, len(GEAR_FIELDS)), np.nan),
            gears=np.ones(n, dtype=np.int64),
            place=np.zeros(n, dtype=np.int64),
            tables=only,
            unit_rps=tables.plants["slo_rps"].astype(np.float64),
            unit_share=tables.plants["gpu_share"].astype(np.float64),
        )
