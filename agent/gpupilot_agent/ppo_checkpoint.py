"""What training needs to go on after it was stopped: tensors and plain numbers, no pickled code."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from stable_baselines3 import PPO

from gpupilot_agent.forward import Network
from gpupilot_envs.atomic import write_bytes
from gpupilot_envs.errors import InputInvalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The plain part of a checkpoint.

    Attributes:
        frames: Service-decisions so far.
        updates: Updates so far.
        multiplier: Price of a late request.
        log: Validations so far.
        best_frames: Service-decisions after which the best actor was found.
    """

    frames: int
    updates: int
    multiplier: float
    log: list[dict[str, Any]]
    best_frames: int


def store(path: Path, model: PPO, state: Checkpoint, best: Network) -> None:
    """Write weights, optimiser, best actor and counts, whole or not at all.

    Raises:
        OutputRefused: The disk is full or the path cannot be written.
    """
    document = {
        "policy": model.policy.state_dict(),
        "optimizer": model.policy.optimizer.state_dict(),
        "best": [[torch.from_numpy(weight), torch.from_numpy(bias)] for weight, bias in best],
        "state": json.dumps(asdict(state)),
    }
    buffer = BytesIO()
    torch.save(document, buffer)
    write_bytes(path, buffer.getvalue())


def restore(path: Path, model: PPO) -> tuple[Checkpoint, Network]:
    """Load a checkpoint into ``model``; return its counts and the best actor so far.

    Raises:
        InputInvalid: The file is not a checkpoint or of another network.
    """
    try:
        document = torch.load(path, weights_only=True)
        model.policy.load_state_dict(document["policy"])
        model.policy.optimizer.load_state_dict(document["optimizer"])
        best = tuple((weight.numpy(), bias.numpy()) for weight, bias in document["best"])
        return Checkpoint(**json.loads(document["state"])), best
    except (OSError, pickle.UnpicklingError, RuntimeError, KeyError, ValueError) as error:
        allowed = "a checkpoint of the same network; delete it to start again"
        raise InputInvalid("resume", str(path), allowed) from error
