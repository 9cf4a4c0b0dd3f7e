"""Everything a training needs to go on as if it had never been stopped, in one file.

Taken between an update and the next rollout, when the learner holds no half-filled buffer: the
weights, the optimiser, the fleet with all its services, every generator of random numbers, and the
counts of the run. The header says what made it; a checkpoint is only continued by the same
configuration, the same code and the same numerical libraries, because only then is the outcome
the same.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import pickle
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

import gpupilot_agent
import gpupilot_envs
from gpupilot_agent.forward import Network
from gpupilot_agent.world_state import dumps, loads
from gpupilot_envs.atomic import write_bytes
from gpupilot_envs.errors import InputInvalid

FORMAT = "gpupilot/checkpoint-v2"

_LIBRARIES = ("numba", "numpy", "stable-baselines3", "torch")
_LEARNING = ("bundle.py", "forward.py", "fleet_validation.py", "ppo*.py", "training*.py")
_COUNTS = ("num_timesteps", "_n_updates", "_current_progress_remaining")
_SEEN = ("_last_obs", "_last_episode_starts")
_AGAIN = "delete it, or train into another folder, to start again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The plain part of a checkpoint: where the run is and what it found.

    Attributes:
        updates: Updates so far.
        elapsed_s: Seconds trained so far, interruptions left out.
        log: Validations so far.
        best: The validation that found the best actor, as in the log.
        since_best: Validations since then.
    """

    updates: int
    elapsed_s: float
    log: list[dict[str, Any]]
    best: dict[str, Any]
    since_best: int


class AtBoundary(BaseCallback):  # type: ignore[misc]
    """Calls back between an update and the next rollout: the one moment that can be resumed."""

    def __init__(self, on_boundary: Callable[[], bool]) -> None:
        """Call ``on_boundary``, which returns whether training goes on."""
        super().__init__()
        self._on_boundary = on_boundary
        self._go_on = True

    def _on_rollout_start(self) -> None:
        self._go_on = self._on_boundary()

    def _on_step(self) -> bool:
        return self._go_on


def store(
    path: Path,
    model: PPO,
    state: Checkpoint,
    best: Network,
    *,
    made_by: Mapping[str, Any],
    shared: Mapping[str, object],
) -> None:
    """Write the whole state of a training, or nothing.

    Args:
        path: The file.
        model: The learner, its environment included, between an update and a rollout.
        state: Counts of the run.
        best: The best actor so far.
        made_by: The configuration, as plain data; :func:`restore` must be given the same.
        shared: Parts of the environment that follow from the configuration and are not written.

    Raises:
        OutputRefused: The disk is full or the path cannot be written.
    """
    document = {
        "format": FORMAT,
        "made_by": json.dumps({**made_by, **made_with()}),
        "state": json.dumps(asdict(state)),
        "policy": model.policy.state_dict(),
        "optimizer": model.policy.optimizer.state_dict(),
        "best": [[torch.from_numpy(weight), torch.from_numpy(bias)] for weight, bias in best],
        "torch_random": torch.get_rng_state(),
        "world": torch.frombuffer(bytearray(dumps(_world(model), shared)), dtype=torch.uint8),
    }
    buffer = BytesIO()
    torch.save(document, buffer)
    write_bytes(path, buffer.getvalue())


def restore(
    path: Path, model: PPO, *, made_by: Mapping[str, Any], shared: Mapping[str, object]
) -> tuple[Checkpoint, Network]:
    """Put ``model``, its environment and all randomness back to where they were.

    Returns:
        The counts of the run and its best actor.

    Raises:
        InputInvalid: The file is no checkpoint, a damaged one, or of another configuration, code
            or library; says which.
    """
    document = _read(path)
    _check(path, json.loads(document["made_by"]), {**made_by, **made_with()})
    try:
        model.policy.load_state_dict(document["policy"])
        model.policy.optimizer.load_state_dict(document["optimizer"])
        _enter(model, loads(document["world"].numpy().tobytes(), shared))
        torch.set_rng_state(document["torch_random"])
        best = tuple((weight.numpy(), bias.numpy()) for weight, bias in document["best"])
        return Checkpoint(**json.loads(document["state"])), best
    except _DAMAGE as error:
        raise InputInvalid("resume", str(path), f"a whole checkpoint; {_AGAIN}") from error


@cache
def made_with() -> dict[str, str]:
    """Return what besides the configuration decides the last bit of a training."""
    libraries = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    python = ".".join(map(str, sys.version_info[:3]))
    return {"python": python, **libraries, "code": _code()[:16]}


_DAMAGE = (
    OSError,
    pickle.UnpicklingError,
    RuntimeError,
    AttributeError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
)


def _read(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = torch.load(path, weights_only=True)
        found = document["format"]
    except _DAMAGE as error:
        raise InputInvalid("resume", str(path), f"a training checkpoint; {_AGAIN}") from error
    if found != FORMAT:
        raise InputInvalid("resume", str(path), f"a checkpoint of format {FORMAT}; {_AGAIN}")
    return document


def _check(path: Path, made: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that would not go on as it began.

    Raises:
        InputInvalid: Names the first thing that differs, as it was and as it is.
    """
    # through JSON, as the checkpoint went, so that a tuple is not told apart from a list
    was, will_be = _flat(made), _flat(json.loads(json.dumps(dict(now))))
    names = sorted(was.keys() | will_be.keys())
    differing = [name for name in names if was.get(name) != will_be.get(name)]
    if differing:
        name = differing[0]
        others = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
        raise InputInvalid(
            f"resume: {name}{others}",
            will_be.get(name),
            f"{was.get(name)!r}, with which {path} was made; {_AGAIN}",
        )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            rows |= _flat(value, f"{prefix}{name}.")
        else:
            rows[prefix + name] = value
    return rows


def _world(model: PPO) -> dict[str, Any]:
    """Return what torch does not keep: the environment, the other generators, what was seen."""
    return {
        "environment": _plain(vars(model.env)),
        "model": {name: getattr(model, name) for name in (*_COUNTS, *_SEEN)},
        "numpy": np.random.get_state(),  # noqa: NPY002  the generator Stable-Baselines3 uses
        "python": random.getstate(),
    }


def _enter(model: PPO, world: Mapping[str, Any]) -> None:
    vars(model.env).update(world["environment"])
    for name, value in world["model"].items():
        setattr(model, name, value)
    np.random.set_state(world["numpy"])  # noqa: NPY002
    random.setstate(world["python"])


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of an environment without its spaces, which never change."""
    return {name: value for name, value in attributes.items() if not name.endswith("_space")}


def _code() -> str:
    """Return a digest of the sources that decide what a training comes to."""
    envs, agent = (Path(package.__path__[0]) for package in (gpupilot_envs, gpupilot_agent))
    files = [*envs.rglob("*.py"), *(file for glob in _LEARNING for file in agent.glob(glob))]
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: (file.name, str(file))):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()
