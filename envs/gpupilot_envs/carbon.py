"""Grid carbon intensity by the hour, and the grams that energy costs."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.errors import InputInvalid

WORLD_MEAN_G_PER_KWH = 481.0
"""Mean of the world's power sector in 2023 (Ember, "Yearly electricity data", July 2024)."""

JOULES_PER_KWH = 3.6e6
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CarbonIntensity:
    """Grams of CO2 per kilowatt-hour, one value an hour from time 0, then from the start again.

    Attributes:
        name: Where the values are from, for tables.
        hourly_g_per_kwh: One value an hour, shape ``(hours,)``, at least one.
    """

    name: str
    hourly_g_per_kwh: NDArray[np.float64]

    @property
    def constant(self) -> bool:
        """Whether every hour is the same."""
        return bool(np.ptp(self.hourly_g_per_kwh) == 0.0)

    def at(self, t_s: float) -> float:
        """Return the intensity in the hour that ``t_s`` lies in."""
        hours = len(self.hourly_g_per_kwh)
        return float(self.hourly_g_per_kwh[int(t_s // HOUR_S) % hours])


WORLD_MEAN = CarbonIntensity(
    name="world mean 2023 (Ember)", hourly_g_per_kwh=np.array([WORLD_MEAN_G_PER_KWH])
)


def grams(energy_j: float, g_per_kwh: float) -> float:
    """Return the grams of CO2 of ``energy_j`` joules at an intensity."""
    return energy_j / JOULES_PER_KWH * g_per_kwh


def load_carbon(path: Path) -> CarbonIntensity:
    """Read hourly intensities from a CSV with the columns ``timestamp_utc,gco2_per_kwh``.

    Raises:
        InputInvalid: The file cannot be read, a column is missing, or a value is not a
            number of 0 or more; names the line.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise InputInvalid(str(path), error.strerror, "a readable CSV file") from error
    if not rows or not {"timestamp_utc", "gco2_per_kwh"} <= rows[0].keys():
        raise InputInvalid(
            str(path), list(rows[0]) if rows else "no rows", "columns timestamp_utc,gco2_per_kwh"
        )
    values = [_intensity(path, line, row["gco2_per_kwh"]) for line, row in enumerate(rows, 2)]
    return CarbonIntensity(name=path.stem, hourly_g_per_kwh=np.array(values, dtype=np.float64))


def _intensity(path: Path, line: int, text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float("inf"):
        raise InputInvalid(f"{path} line {line}: gco2_per_kwh", text, "a number, 0 or more")
    return value
