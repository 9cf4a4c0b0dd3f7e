"""What a Triton says of itself and Prometheus does not: its configuration and its batch times.

``GET /v2/models/NAME/config`` and ``/stats`` (Triton's model configuration and statistics
extensions of KServe v2). The statistics count executions and their time by batch size: the one
place where the time of a batch can be read rather than inferred.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import urlopen

from gpupilot_envs.errors import InputInvalid, MetricsUnavailable

TIMEOUT_S = 5.0
STEPS = ("compute_input", "compute_infer", "compute_output")

BatchTimes = Mapping[int, tuple[int, float]]
"""By batch size: executions, and seconds they took in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningModel:
    """How Triton runs a model now.

    Attributes:
        batch_max: Largest batch, 1 when the model does not batch dynamically.
        queue_delay_us: ``max_queue_delay_microseconds``.
        instances: Instances in one server, over all its devices.
    """

    batch_max: int
    queue_delay_us: int
    instances: int


def running_model(url: str, model: str) -> RunningModel:
    """Return how a server runs a model.

    Raises:
        InputInvalid: The URL is none, or the server does not know the model.
        MetricsUnavailable: The server does not answer.
    """
    config = _get(url, model, "config")
    batching = config.get("dynamic_batching")
    groups = config.get("instance_group") or [{}]
    delay = (batching or {}).get("max_queue_delay_microseconds", 0)
    return RunningModel(
        batch_max=max(int(config.get("max_batch_size", 0)), 1) if batching is not None else 1,
        queue_delay_us=int(delay),
        instances=sum(
            max(int(group.get("count", 1)), 1) * max(len(group.get("gpus") or ()), 1)
            for group in groups
        ),
    )


def batch_times(url: str, model: str) -> dict[int, tuple[int, float]]:
    """Return executions and seconds by batch size since the server loaded the model.

    Raises:
        InputInvalid: The URL is none, or the server does not know the model.
        MetricsUnavailable: The server does not answer.
    """
    found: dict[int, tuple[int, float]] = {}
    for version in _get(url, model, "stats").get("model_stats", ()):
        for entry in version.get("batch_stats", ()):
            size = int(entry["batch_size"])
            count = int(entry["compute_infer"]["count"])
            time_s = sum(int(entry[step]["ns"]) for step in STEPS) / 1e9
            before = found.get(size, (0, 0.0))
            found[size] = (before[0] + count, before[1] + time_s)
    return found


class BatchWatch:
    """Adds up what the servers' batch statistics grow by; a restarted server begins at zero."""

    def __init__(self, urls: Sequence[str], model: str, *, since_loaded: bool = False) -> None:
        """Begin to count now, or where the servers began.

        Args:
            urls: HTTP address of every replica.
            model: The model's name.
            since_loaded: Whether what was executed before now counts too.
        """
        self._urls, self._model = tuple(urls), model
        known = {url: batch_times(url, model) for url in self._urls}
        self._seen = {url: {} for url in self._urls} if since_loaded else known

    def grown(self) -> dict[int, tuple[int, float]]:
        """Return what was executed since the last call; a server that is away adds nothing.

        Raises:
            InputInvalid: A server no longer knows the model.
        """
        total: dict[int, tuple[int, float]] = {}
        for url in self._urls:
            try:
                now = batch_times(url, self._model)
            except MetricsUnavailable:
                continue
            for size, (count, time_s) in now.items():
                old = self._seen[url].get(size, (0, 0.0))
                base = old if count >= old[0] else (0, 0.0)
                if count > base[0]:
                    before = total.get(size, (0, 0.0))
                    total[size] = (before[0] + count - base[0], before[1] + time_s - base[1])
            self._seen[url] = now
        return total


def _get(url: str, model: str, what: str) -> dict[str, Any]:
    if urlsplit(url).scheme not in ("http", "https"):
        raise InputInvalid("--triton", url, "http://HOST:PORT")
    address = f"{url.rstrip('/')}/v2/models/{quote(model, safe='')}/{what}"
    try:
        with urlopen(address, timeout=TIMEOUT_S) as answer:
            found: dict[str, Any] = json.load(answer)
    except HTTPError as error:
        said = error.read(300).decode("utf-8", "replace").strip()
        raise InputInvalid(
            "--triton", f"{url}, model {model}", f"a ready model ({said})"
        ) from error
    except (URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        sentence = f"Triton at {url} cannot be reached: {reason}"
        raise MetricsUnavailable(sentence, passing=True) from error
    return found
