"""A training configuration as a file people read and edit: YAML in ``gpupilot/training-v1``.

``gpupilot study`` writes one, ``gpupilot train --config`` takes one, and every training leaves its
own. Where a training writes, and whether it goes on from a checkpoint, is no part of it.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from gpupilot_agent.training_config import TrainConfig
from gpupilot_envs.atomic import write_text
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.malformed import complaint

FORMAT = "gpupilot/training-v1"

GENERALIST = "generalist.yaml"

_OF_ONE_RUN = ("out", "resume", "tensorboard", "checkpoint_s")


def write_config(config: TrainConfig, path: Path) -> None:
    """Write everything that decides a training, whole or not at all.

    Raises:
        OutputRefused: The disk is full or the path cannot be written.
    """
    document = {name: value for name, value in config.plain().items() if name not in _OF_ONE_RUN}
    plain = {"format": FORMAT, **_listed(document)}
    write_text(path, yaml.safe_dump(plain, sort_keys=False))


def read_config(path: Path, *, out: Path) -> TrainConfig:
    """Read a configuration; what it leaves out is as ``gpupilot train`` has it.

    Args:
        path: The file.
        out: Folder the training is to write to.

    Raises:
        InputInvalid: Missing, not YAML, an unknown field, or a value out of range; names it.
    """
    document = _document(path)
    found = document.pop("format", None)
    if found != FORMAT:
        raise InputInvalid(f"{path}: format", found, FORMAT)
    _refuse_unknown(TrainConfig, document, str(path), "")
    try:
        return TypeAdapter(TrainConfig).validate_python({**document, "out": out})
    except ValidationError as error:
        raise InputInvalid(*complaint(error, str(path))) from error
    except InputInvalid as error:
        raise InputInvalid(f"{path}: {error.field}", error.value, error.allowed) from error


def read_generalist(*, out: Path) -> TrainConfig:
    """Return the configuration the shipped policy was trained with."""
    with resources.as_file(resources.files("gpupilot_agent") / "data" / GENERALIST) as path:
        return read_config(path, out=out)


def _document(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise InputInvalid(str(path), error.strerror, "a readable file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputInvalid(str(path), "malformed YAML", f"{FORMAT} YAML") from error
    if not isinstance(document, dict):
        raise InputInvalid(str(path), type(document).__name__, f"a mapping in {FORMAT}")
    return document


def _refuse_unknown(kind: type[Any], document: dict[str, Any], origin: str, at: str) -> None:
    """Refuse a field that ``kind`` does not have: a typing error must not be passed over."""
    hints = get_type_hints(kind)
    known = {field.name for field in fields(kind)} - (set(_OF_ONE_RUN) if not at else set())
    for name, value in document.items():
        if name not in known:
            raise InputInvalid(f"{origin}: {at}{name}", value, "no such field")
        if is_dataclass(hints[name]) and isinstance(value, dict):
            _refuse_unknown(hints[name], value, origin, f"{at}{name}.")


def _listed(value: Any) -> Any:
    """Return the value with tuples as lists, which YAML knows."""
    if isinstance(value, dict):
        return {name: _listed(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_listed(inner) for inner in value]
    return value
