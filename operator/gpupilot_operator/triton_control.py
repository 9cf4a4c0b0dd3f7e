"""Tells a running Triton how to serve a model: instances, largest batch, queue delay.

KServe v2's model repository extension: a load with the parameter ``config`` replaces the model's
configuration (triton-inference-server/server ``docs/protocol/extension_model_repository.md``). The
old one serves until the new one is loaded.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from gpupilot_operator.plan import Batching

PORT = 8000
CONNECT_S = 3.0
LOAD_S = 600.0
"""A load answers when the model is loaded; asked again before, it would begin again."""


def load(
    address: str,
    model: str,
    batching: Batching,
    preferred: tuple[int, ...] = (),
    *,
    port: int = PORT,
) -> str | None:
    """Make a server serve a model otherwise; one that does already is left alone.

    Args:
        address: IP of its pod.
        model: The model's name.
        batching: How it is to be served.
        preferred: Batch sizes that are sent at once; empty keeps the model's own.
        port: Of its HTTP door.

    Returns:
        What went wrong, ``None`` where nothing did.
    """
    connection = http.client.HTTPConnection(address, port, timeout=CONNECT_S)
    name = quote(model, safe="")
    try:
        config = _asked(connection, "GET", f"/v2/models/{name}/config", None)
        if serves(config, batching, preferred):
            return None
        parameters = {"config": json.dumps(changed(config, batching, preferred))}
        body = {"parameters": parameters}
        connection.close()
        connection.connect()
        connection.sock.settimeout(LOAD_S)
        _asked(connection, "POST", f"/v2/repository/models/{name}/load", body)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"Triton at {address} did not take its configuration: {error}"
    finally:
        connection.close()
    return None


def serves(config: Mapping[str, Any], batching: Batching, preferred: tuple[int, ...] = ()) -> bool:
    """Say whether a model is served so already.

    Args:
        config: As ``GET /v2/models/NAME/config`` gives it.
        batching: How it is to be served.
        preferred: Batch sizes that are sent at once; empty takes any.
    """
    batcher = config.get("dynamic_batching")
    delay_us = int((batcher or {}).get("max_queue_delay_microseconds", 0))
    sizes = tuple((batcher or {}).get("preferred_batch_size", ()))
    groups = config.get("instance_group") or [{}]
    found = Batching(
        instances=groups[0].get("count", 1),
        batch_max=config.get("max_batch_size", 0),
        queue_delay_us=delay_us,
    )
    # one by one there is nothing to wait for, with a batcher or without
    batches = batcher is not None or batching.batch_max == 1
    return found == batching and batches and preferred in ((), sizes)


def changed(
    config: Mapping[str, Any], batching: Batching, preferred: tuple[int, ...] = ()
) -> dict[str, Any]:
    """Return a model's configuration with another batching, everything else as it is.

    Args:
        config: As ``GET /v2/models/NAME/config`` gives it.
        batching: How the model is to be served.
        preferred: Batch sizes that are sent at once; empty keeps the model's own.
    """
    groups = config.get("instance_group") or [{}]
    batcher = {
        **(config.get("dynamic_batching") or {}),
        "max_queue_delay_microseconds": batching.queue_delay_us,
    }
    sizes = preferred or batcher.get("preferred_batch_size", ())
    fitting = [size for size in sizes if size <= batching.batch_max]
    return {
        **config,
        "max_batch_size": batching.batch_max,
        "dynamic_batching": {**batcher, "preferred_batch_size": fitting},
        "instance_group": [{**groups[0], "count": batching.instances}],
    }


def _asked(
    connection: http.client.HTTPConnection, method: str, path: str, body: Mapping[str, Any] | None
) -> Any:
    text = None if body is None else json.dumps(body)
    connection.request(method, path, body=text, headers={"Content-Type": "application/json"})
    answer = connection.getresponse()
    said = answer.read()
    if answer.status != http.client.OK:
        raise ValueError(f"{answer.status} {said.decode('utf-8', 'replace').strip()}")
    return json.loads(said) if said else {}
