"""The memory of one service between two steps, as a record that kernels and numpy share."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

SERVICE = np.dtype(
    [
        ("profile", np.int64),
        ("trace", np.int64),
        ("start_s", np.float64),
        ("elapsed_s", np.float64),
        ("rate_scale", np.float64),
        ("dispersion", np.float64),
        ("lag_s", np.float64),
        ("cold_start_mean_s", np.float64),
        ("crashes_per_s", np.float64),
        ("silences_per_s", np.float64),
        ("ready", np.int64),
        ("starting", np.int64),
        ("backlog_s", np.float64),
        ("stranded", np.int64),
        ("stranded_s", np.float64),
        ("silent_until_s", np.float64),
        ("silence", np.int64),
        ("newest", np.int64),
        ("next_profile", np.int64),
        ("restarting", np.int64),
        ("flip_at_s", np.float64),
    ]
)
"""One service.

``ready`` counts the pods that answer, ``starting`` those that do not yet. Queued requests stay
with their pod: ``stranded`` of the ready pods hold a backlog of ``stranded_s`` each, built up
before the others, which hold ``backlog_s`` each, became ready.

``next_profile`` is the gear that takes over at ``flip_at_s``, -1 for none. Where ``restarting``,
its pods are the ``starting`` ones, and the ``ready`` ones are those of the gear it replaces.
"""


class Silence(IntEnum):
    """What the metrics source answers during a silence."""

    MISSING = 0
    """No value at all: NaN."""
    STALE = 1
    """The last value before the silence, again and again."""
