"""Write examples/shop.csv: twelve made-up hours of a shop's requests, for trying the commands on.

A working day in two waves, noise that lasts some minutes, and three crowds that come within half a
minute. No real service is behind it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

BIN_S = 30.0
BINS = 1440
MEAN_RPS = 420.0
CROWDS_H = ((2.6, 1.3), (7.1, 1.8), (9.8, 0.9))
"""Hour at which a crowd comes, and what it adds to the mean."""

TARGET = Path(__file__).resolve().parents[1] / "examples" / "shop.csv"


def rates() -> list[float]:
    """Return requests per second of each bin."""
    hours = np.arange(BINS) * BIN_S / 3600.0
    day = (
        1.0 + 0.55 * np.sin(2 * np.pi * (hours - 2.5) / 12.0) + 0.2 * np.sin(2 * np.pi * hours / 5)
    )
    random = np.random.default_rng(2026)
    noise = np.zeros(BINS)
    for i in range(1, BINS):
        noise[i] = 0.9 * noise[i - 1] + 0.035 * random.standard_normal()
    crowds = sum(
        more * np.where(hours >= at, np.exp(-(hours - at) / 0.12), 0.0) for at, more in CROWDS_H
    )
    return [
        round(float(rate), 1) for rate in MEAN_RPS * np.maximum(day * np.exp(noise) + crowds, 0.05)
    ]


def csv() -> str:
    """Return the file."""
    rows = (f"{BIN_S * i:g},{rate:g}" for i, rate in enumerate(rates()))
    return "\n".join(["t_s,rps", *rows]) + "\n"


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(csv(), encoding="utf-8")
    sys.stdout.write(f"{TARGET}\n")
