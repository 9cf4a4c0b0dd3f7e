"""A trained policy as one file of plain arrays: what it is, what it was trained on, how it did.

The file is a NumPy ``.npz`` without pickled objects: the weights layer by layer and one JSON
document. It loads without torch and refuses to load where the observation schema or the action
table of this code is not the one the weights were trained with, or where anything is damaged.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.forward import Network, forward, most_likely
from gpupilot_agent.ood import Familiar, spread
from gpupilot_envs.actions import NEUTRAL, SIZES, action_table
from gpupilot_envs.atomic import write_bytes
from gpupilot_envs.controller import Controller
from gpupilot_envs.errors import BundleRefused
from gpupilot_envs.objective import first_price
from gpupilot_envs.observation import FIELDS, schema_hash

FORMAT = "gpupilot/bundle-v2"

NETWORKS_MAX = 5
"""Most networks in one bundle; a thousand services must be decided within a millisecond."""

_UNREADABLE = (
    EOFError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading a damaged archive can raise: a changed byte may ask for any feature of zip."""

_SIZES = np.array(SIZES, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a policy makes of ``n`` observations.

    Attributes:
        actions: Index taken on every axis, int64, shape ``(n, len(SIZES))``.
        logits: Mean logits of the networks, float32, shape ``(n, sum(SIZES))``.
        spreads: How far the networks are apart, see :func:`.ood.spread`, float32, ``(n,)``.
        strange: Which observations the policy was not trained on, bool, ``(n,)``.
    """

    actions: NDArray[np.int64]
    logits: NDArray[np.float32]
    spreads: NDArray[np.float32]
    strange: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A policy artefact.

    Attributes:
        networks: One network, or several trained with different seeds whose mean decides. The
            outputs of each are the logits of every axis of the action table one after the other.
        controller: The classical controller the actions move around.
        prices: Price of a late request by objective, pairs of attainment and price, ascending.
        config: The training configuration as plain data.
        seeds: Seeds of training, validation and choice of checkpoint.
        trace_hashes: SHA-256 of the traffic it was trained on, by name.
        commit: Commit of the code that trained it, or ``unknown``.
        card: Evaluation card: what was measured, on what, against whom.
        familiar: What the policy saw in training; ``None`` where nobody looked.
        schema: Hash of the observation table the weights expect.
        actions: The action table the weights expect.
    """

    networks: tuple[Network, ...]
    controller: Controller
    config: Mapping[str, Any]
    seeds: Mapping[str, int]
    trace_hashes: Mapping[str, str]
    commit: str
    card: Mapping[str, Any]
    prices: tuple[tuple[float, float], ...] = ()
    familiar: Familiar | None = None
    schema: str = field(default_factory=schema_hash)
    actions: list[dict[str, object]] = field(default_factory=action_table)

    @property
    def sha256(self) -> str:
        """Digest of everything that decides: the networks, the tables and the controller.

        The card and the record of the training stay out, so that a proof about the policy can
        name it and become part of its card.
        """
        decides = {
            "schema": self.schema,
            "actions": self.actions,
            "controller": asdict(self.controller),
            "prices": [list(pair) for pair in self.prices],
            "familiar": _bounds(self),
        }
        digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode())
        for array in _arrays(self).values():
            digest.update(str(array.shape).encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    def logits(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mean logits, float32, shape ``(n, sum(SIZES))``, of ``(n, len(FIELDS))``."""
        return _mean([forward(network, observations) for network in self.networks])

    def act(self, observations: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the most likely allowed index of every axis, int64, shape ``(n, len(SIZES))``.

        Args:
            observations: Shape ``(n, len(FIELDS))``.
            masks: Which values can be chosen, shape ``(n, sum(SIZES))``, one at least per axis.
        """
        return most_likely(self.logits(observations), masks, _SIZES)

    def answer(self, observations: NDArray[np.float32], masks: NDArray[np.bool_]) -> Answer:
        """Return what :meth:`act` does, and which observations the policy was not trained on."""
        each = [forward(network, observations) for network in self.networks]
        logits = _mean(each)
        spreads = np.zeros(len(logits), dtype=np.float32)
        if len(each) > 1:
            spreads = spread(np.stack(each), logits, _SIZES)
        strange = np.zeros(len(logits), dtype=np.bool_)
        if self.familiar is not None:
            strange = self.familiar.strange(observations, spreads)
        return Answer(
            actions=most_likely(logits, masks, _SIZES),
            logits=logits,
            spreads=spreads,
            strange=strange,
        )

    def unmoved(self) -> Bundle:
        """Return the same policy with a network that leaves its controller as it is, always."""
        head = np.zeros((len(FIELDS), int(_SIZES.sum())), dtype=np.float32)
        neutral = np.concatenate(
            [np.arange(size) == index for size, index in zip(SIZES, NEUTRAL, strict=True)]
        )
        return replace(self, networks=(((head, neutral.astype(np.float32)),),), familiar=None)

    def price(self, attainment_ratio: float) -> float:
        """Return the price of a late request at which the policy meets an objective.

        Between the objectives of :attr:`prices` its logarithm is linear in that of the share that
        may be late; beyond them it stays; without any, a rule of thumb prices them.
        """
        if not self.prices:
            return first_price(attainment_ratio)
        allowed = -np.log([max(1.0 - objective, 1e-6) for objective, _ in self.prices])
        wanted = -np.log(max(1.0 - attainment_ratio, 1e-6))
        logarithm = np.interp(wanted, allowed, np.log([price for _, price in self.prices]))
        return float(np.exp(logarithm))


def _mean(each: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the mean of the networks' logits, the first network's own where it is alone."""
    if len(each) == 1:
        return each[0]
    total = each[0].copy()
    for logits in each[1:]:
        total += logits
    total *= np.float32(1.0 / len(each))
    return total


def save(bundle: Bundle, path: Path) -> None:
    """Write the bundle, whole or not at all.

    Raises:
        OutputRefused: The disk is full or the path cannot be written.
    """
    document = np.array(json.dumps(_document(bundle)))
    buffer = BytesIO()
    np.savez_compressed(buffer, bundle=document, **_arrays(bundle))  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def load(path: Path) -> Bundle:
    """Read a bundle and check that it fits this code.

    Raises:
        BundleRefused: Not a bundle, damaged, or made for another observation or action table.
    """
    return parse(content(path), path)


def content(path: Path) -> bytes:
    """Return the bytes of a bundle's file.

    Raises:
        BundleRefused: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleRefused(f"{path}: {error.strerror or error}") from error


def parse(data: bytes, path: Path) -> Bundle:
    """Return the bundle in the bytes of a file, checked as :func:`load` does.

    Args:
        data: Content of the file.
        path: What to call it in an error.

    Raises:
        BundleRefused: Not a bundle, damaged, or made for another observation or action table.
    """
    try:
        arrays = _read(data)
        document = json.loads(str(arrays["bundle"]))
    except _UNREADABLE as error:
        raise BundleRefused(f"{path} is not a policy bundle, or a damaged one") from error
    if not isinstance(document, dict):
        raise BundleRefused(f"{path} is not a policy bundle: its document is not a mapping")
    _check_tables(document, path)
    return _assemble(document, arrays, path)


def _read(data: bytes) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(BytesIO(data)) as archive:
        if archive.testzip() is not None:
            raise ValueError("a checksum is wrong")
    with np.load(BytesIO(data), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _arrays(bundle: Bundle) -> dict[str, NDArray[np.float32]]:
    familiar = {} if bundle.familiar is None else bundle.familiar.arrays()
    return familiar | {
        f"{name}_{member}_{index}": array
        for member, network in enumerate(bundle.networks)
        for index, layer in enumerate(network)
        for name, array in zip(("weight", "bias"), layer, strict=True)
    }


def _bounds(bundle: Bundle) -> dict[str, float | None] | None:
    return None if bundle.familiar is None else bundle.familiar.bounds()


def _document(bundle: Bundle) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "schema": bundle.schema,
        "actions": bundle.actions,
        "controller": asdict(bundle.controller),
        "prices": [list(pair) for pair in bundle.prices],
        "config": dict(bundle.config),
        "seeds": dict(bundle.seeds),
        "trace_hashes": dict(bundle.trace_hashes),
        "commit": bundle.commit,
        "card": dict(bundle.card),
        "familiar": _bounds(bundle),
        "networks": [len(network) for network in bundle.networks],
        "sha256": bundle.sha256,
    }


def _check_tables(document: Mapping[str, Any], path: Path) -> None:
    if document.get("format") != FORMAT:
        raise BundleRefused(f"{path}: format {document.get('format')!r}, expected {FORMAT!r}")
    found = document.get("schema")
    if found != schema_hash():
        raise BundleRefused(
            f"{path}: observation schema {str(found)[:12]} is not this version's "
            f"{schema_hash()[:12]}; train the policy again"
        )
    if document.get("actions") != action_table():
        raise BundleRefused(
            f"{path}: its action table is not this version's; train the policy again"
        )


def _assemble(
    document: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], path: Path
) -> Bundle:
    try:
        networks = tuple(
            _network(arrays, member, int(layers))
            for member, layers in enumerate(document["networks"])
        )
        bounds = document.get("familiar")
        bundle = Bundle(
            networks=networks,
            controller=Controller(**document["controller"]),
            prices=tuple((float(a), float(p)) for a, p in document["prices"]),
            config=document["config"],
            seeds=document["seeds"],
            trace_hashes=document["trace_hashes"],
            commit=document["commit"],
            card=document["card"],
            familiar=None if bounds is None else Familiar.read(arrays, bounds),
            schema=document["schema"],
            actions=document["actions"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BundleRefused(f"{path} is not a complete policy bundle: {error}") from error
    _check_networks(bundle, path)
    if bundle.sha256 != document.get("sha256"):
        raise BundleRefused(f"{path}: its weights are not those it was saved with")
    return bundle


def _network(arrays: Mapping[str, NDArray[Any]], member: int, layers: int) -> Network:
    def array(name: str) -> NDArray[np.float32]:
        return np.ascontiguousarray(arrays[name], dtype=np.float32)

    return tuple(
        (array(f"weight_{member}_{index}"), array(f"bias_{member}_{index}"))
        for index in range(layers)
    )


def _check_networks(bundle: Bundle, path: Path) -> None:
    if not 1 <= len(bundle.networks) <= NETWORKS_MAX:
        raise BundleRefused(
            f"{path}: {len(bundle.networks)} networks, expected 1 to {NETWORKS_MAX}"
        )
    for network in bundle.networks:
        _check_shapes(network, path)


def _check_shapes(network: Network, path: Path) -> None:
    width = len(FIELDS)
    for weight, bias in network:
        if weight.ndim != 2 or weight.shape[0] != width or bias.shape != weight.shape[1:]:
            raise BundleRefused(f"{path}: a layer of shape {weight.shape} does not follow {width}")
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise BundleRefused(f"{path}: a weight is not a finite number")
        width = weight.shape[1]
    if not network or width != sum(SIZES):
        raise BundleRefused(f"{path}: {width} outputs, expected {sum(SIZES)}")
