"""What a trained policy met on validation: one of its observations per decision, and what it did.

The learning report asks the policy about them again, with load, trend and budget changed.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.fleet_validation import Act, Yardstick
from gpupilot_envs.actions import AXES, CHOICES
from gpupilot_envs.atomic import write_bytes
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.observation import FIELDS

SAMPLE = "validation.npz"

_STRIDE = 37
"""Between the services looked at in two decisions; prime, so that every service is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Decisions of a policy on the validation fleet.

    Attributes:
        observations: Float32, shape ``(k, len(FIELDS))``.
        masks: Which values could be chosen, bool, shape ``(k, CHOICES)``.
        actions: What it chose, int64, shape ``(k, len(AXES))``.
    """

    observations: NDArray[np.float32]
    masks: NDArray[np.bool_]
    actions: NDArray[np.int64]


def keep_sample(path: Path, yardstick: Yardstick, act: Act, price: float) -> None:
    """Run ``act`` on the validation fleet at a price and keep one decision of every step.

    Raises:
        OutputRefused: The disk is full or the path cannot be written.
    """
    kept: list[tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int64]]] = []

    def watched(seen: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
        actions = act(seen, masks)
        one = _STRIDE * len(kept) % len(seen)
        kept.append((seen[one].copy(), masks[one].copy(), actions[one].copy()))
        return actions

    yardstick.score(watched, price=price)
    observations, masks, actions = (np.stack(column) for column in zip(*kept, strict=True))
    buffer = BytesIO()
    np.savez_compressed(buffer, observations=observations, masks=masks, actions=actions)
    write_bytes(path, buffer.getvalue())


def read_sample(path: Path) -> Sample:
    """Read what :func:`keep_sample` wrote.

    Raises:
        InputInvalid: Missing, damaged, or of another observation or action table.
    """
    try:
        with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            sample = Sample(
                observations=arrays["observations"],
                masks=arrays["masks"],
                actions=arrays["actions"],
            )
    except OSError as error:
        raise InputInvalid(str(path), error.strerror, "what `gpupilot train` wrote") from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputInvalid(str(path), "damaged", "what `gpupilot train` wrote") from error
    shapes = [sample.observations.shape[1:], sample.masks.shape[1:], sample.actions.shape[1:]]
    if shapes != [(len(FIELDS),), (CHOICES,), (len(AXES),)]:
        raise InputInvalid(str(path), shapes, "observations and actions of this version")
    return sample
