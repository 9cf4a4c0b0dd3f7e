"""Where the ONNX file comes from: the public weights, or the same network with seeded ones.

The public file is ``onnx-community/mobilenetv4_conv_small.e2400_r224_in1k`` on the Hugging Face
hub. Of its main branch the checksum is pinned; of another revision, named by the user, the hub's
own checksum is compared with what arrived, and the first download's is held against every later
one. In either case the network is checked operator by operator.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from gpupilot_agent.mobilenet import download
from gpupilot_envs.atomic import write_bytes, write_text
from gpupilot_envs.errors import StackFailed

HUB = "https://huggingface.co"
HUB_VARIABLE = "HF_ENDPOINT"
"""Names another hub, as the hub's own tools have it."""
HUB_REPOSITORY = "onnx-community/mobilenetv4_conv_small.e2400_r224_in1k"
HUB_FILE = "onnx/model.onnx"
HUB_REVISION = "main"
PINNED_SHA256 = "ca5b8dbf490f54e83c5d72f787821565447ea94347935f6b834cf0a4af0e8d37"
"""Of ``main``: 15,086,122 bytes, as a public model catalogue that pins it states both; a second
project measured the same length. Nobody here could reach the hub to see it."""
PUBLIC = "mobilenetv4-public.onnx"

OFFLINE = "offline, `gpupilot model --weights seeded` builds the same network, untrained"

Kind = Literal["public", "seeded"]


class Card(BaseModel):
    """What is known of an ONNX file, kept beside it.

    Attributes:
        kind: ``public`` weights answer; ``seeded`` ones only cost the same.
        source: Where the file is from.
        sha256: Of the file.
        parameters: Weights in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    source: str
    sha256: str
    parameters: int


def ensure(
    kind: Kind, store: Path, *, seed: int = 0, revision: str = HUB_REVISION
) -> tuple[Path, Card]:
    """Return the ONNX file of a kind, downloaded or built into ``store`` if it is not there.

    Raises:
        StackFailed: The hub cannot be reached, or what it gave is not the model.
    """
    target = store / (PUBLIC if kind == "public" else f"mobilenetv4-seed{seed}.onnx")
    known = read_card(target)
    if known is not None and target.is_file() and download.sha256_of(target) == known.sha256:
        return target, known
    card = _download(target, revision, known) if kind == "public" else _build(target, seed)
    write_text(_card_path(target), card.model_dump_json(indent=2))
    return target, card


def public_file(store: Path) -> Path | None:
    """Return the public weights if they were downloaded before."""
    return store / PUBLIC if (store / PUBLIC).is_file() else None


def read_card(model: Path) -> Card | None:
    """Return what is known of an ONNX file, ``None`` where it has no card."""
    try:
        return Card.model_validate_json(_card_path(model).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _build(target: Path, seed: int) -> Card:
    from gpupilot_agent.mobilenet.architecture import build, inspected

    write_bytes(target, build(seed).SerializeToString(deterministic=True))
    return Card(
        kind="seeded",
        source=f"built with seed {seed}: the network's cost, answers without meaning",
        sha256=download.sha256_of(target),
        parameters=inspected(target),
    )


def _download(target: Path, revision: str, known: Card | None) -> Card:
    """Fetch the public file: continued where it broke off, checked, kept whole or not at all."""
    from gpupilot_agent.mobilenet.architecture import inspected

    hub = os.environ.get(HUB_VARIABLE, HUB).rstrip("/")
    url = f"{hub}/{HUB_REPOSITORY}/resolve/{revision}/{HUB_FILE}"
    try:
        stated = download.ask(url)
    except StackFailed as error:
        raise StackFailed(f"{error}; {OFFLINE}") from error
    if revision == HUB_REVISION:
        _refuse_another(url, stated.sha256)
        stated = replace(stated, sha256=PINNED_SHA256)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{(stated.sha256 or stated.commit)[:12]}.part")
    sha256 = download.fetch(url, partial, stated)
    try:
        if known is not None and known.sha256 != sha256:
            raise StackFailed(
                f"{url} now gives another file ({sha256}) than at first ({known.sha256}); "
                f"remove {_card_path(target)} if that is meant"
            )
        card = Card(
            kind="public",
            source=f"{url}, commit {stated.commit or 'not stated'}",
            sha256=sha256,
            parameters=inspected(partial),
        )
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return card


def _refuse_another(url: str, sha256: str) -> None:
    """Refuse a file the hub itself states to be another one, before it is fetched."""
    if sha256 and sha256 != PINNED_SHA256:
        raise StackFailed(
            f"{url} is now another file ({sha256}) than the pinned one ({PINNED_SHA256}); "
            "--revision COMMIT takes the one you name"
        )


def _card_path(model: Path) -> Path:
    return model.with_suffix(".json")
