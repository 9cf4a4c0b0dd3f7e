"""One request and its answer: KServe v2 over HTTP with binary tensors, or over gRPC.

Both speak through gevent, so that one user's waiting never holds up another's request: a client
that blocks its process makes a hundred users look like one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.errors import InputInvalid
from gpupilot_load.payloads import Model, model_of, tensors

OK = 200
INPUTS = 8
"""Different inputs in turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """How one request ended.

    Attributes:
        ok: Answered, with the output that was asked for.
        reason: ``ok``, an HTTP status, a gRPC status or the kind of the network's error.
        size_bytes: Of the answer.
    """

    ok: bool
    reason: str
    size_bytes: int = 0


class Transport(Protocol):
    """Sends one request and waits for its answer."""

    protocol: str

    def infer(self) -> Reply:
        """Send the next input; an error is a reply, not an exception."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


def connect(
    url: str,
    model: str,
    *,
    timeout_s: float,
    connections: int,
    seed: int,
    images: Path | None = None,
) -> Transport:
    """Return a transport to a model that answers its metadata.

    Args:
        url: ``http://HOST:PORT``, ``https://HOST:PORT`` or ``grpc://HOST:PORT``.
        model: Name of the model.
        timeout_s: A request that takes longer has failed.
        connections: Most connections at once (HTTP); gRPC shares one.
        seed: Of the inputs.
        images: Folder of pictures to send instead of drawn ones.

    Raises:
        InputInvalid: The URL is none of these, the server cannot be reached or is not ready, or
            the model is not there.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https", "grpc") or not parts.hostname:
        allowed = "http://HOST:PORT, https://HOST:PORT or grpc://HOST:PORT"
        raise InputInvalid("--host", url, allowed)
    if parts.scheme == "grpc":
        return GrpcTransport(url, model, timeout_s=timeout_s, seed=seed, images=images)
    return HttpTransport(
        url, model, timeout_s=timeout_s, connections=connections, seed=seed, images=images
    )


class HttpTransport:
    """Binary tensors over pooled keep-alive connections (KServe v2, binary extension)."""

    protocol = "HTTP"

    def __init__(
        self,
        url: str,
        model: str,
        *,
        timeout_s: float,
        connections: int,
        seed: int,
        images: Path | None = None,
    ) -> None:
        """Connect; see :func:`connect`."""
        from geventhttpclient import HTTPClient

        base = url.rstrip("/")
        self._client = HTTPClient.from_url(
            base, concurrency=connections, connection_timeout=timeout_s, network_timeout=timeout_s
        )
        path = f"{urlsplit(base).path}/v2/models/{model}"
        known = model_of(self._metadata(url, path))
        inputs = tensors(known, count=INPUTS, seed=seed, folder=images)
        self._path = f"{path}/infer"
        self._bodies = itertools.cycle([_http_body(known, values) for values in inputs])

    def infer(self) -> Reply:
        """Send the next input; see :class:`Transport`."""
        from geventhttpclient.response import HTTPParseError

        body, headers = next(self._bodies)
        try:
            answer = self._client.post(self._path, body=body, headers=headers)
            try:
                content = answer.read()
            finally:
                answer.release()
        except (OSError, HTTPParseError) as error:
            return Reply(ok=False, reason=type(error).__name__)
        if answer.status_code != OK:
            return Reply(ok=False, reason=str(answer.status_code), size_bytes=len(content))
        return Reply(ok=bool(content), reason="ok" if content else "empty", size_bytes=len(content))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _metadata(self, url: str, path: str) -> dict[str, Any]:
        import json

        from geventhttpclient.response import HTTPParseError

        try:
            answer = self._client.get(path)
            content = answer.read()
        except (OSError, HTTPParseError) as error:
            raise InputInvalid("--host", url, f"a server that answers ({error})") from error
        if answer.status_code != OK:
            said = content.decode("utf-8", "replace").strip()[:200]
            raise InputInvalid("--model", path.rsplit("/", 1)[1], f"a model that is ready ({said})")
        found: dict[str, Any] = json.loads(content)
        return found


class GrpcTransport:
    """KServe v2 over gRPC on one channel, through gevent."""

    protocol = "gRPC"

    def __init__(
        self, url: str, model: str, *, timeout_s: float, seed: int, images: Path | None = None
    ) -> None:
        """Connect; see :func:`connect`."""
        import grpc.experimental.gevent as grpc_gevent

        grpc_gevent.init_gevent()
        from tritonclient.grpc import InferenceServerClient, InferRequestedOutput
        from tritonclient.utils import InferenceServerException

        self._client = InferenceServerClient(urlsplit(url).netloc)
        self._refused = InferenceServerException
        self._model, self._timeout_s = model, timeout_s
        try:
            answer = self._client.get_model_metadata(model, as_json=True, client_timeout=timeout_s)
        except InferenceServerException as error:
            allowed = f"a server with a ready model {model} ({error.message()})"
            raise InputInvalid("--host", url, allowed) from error
        known = model_of(answer)
        inputs = tensors(known, count=INPUTS, seed=seed, folder=images)
        self._inputs = itertools.cycle([[_grpc_input(known, values)] for values in inputs])
        self._outputs = [InferRequestedOutput(known.output_name)]

    def infer(self) -> Reply:
        """Send the next input; see :class:`Transport`."""
        try:
            answer = self._client.infer(
                self._model,
                next(self._inputs),
                outputs=self._outputs,
                client_timeout=self._timeout_s,
            )
        except self._refused as error:
            return Reply(ok=False, reason=str(error.status() or type(error).__name__))
        size = sum(len(content) for content in answer.get_response().raw_output_contents)
        return Reply(ok=size > 0, reason="ok" if size else "empty", size_bytes=size)

    def close(self) -> None:
        """Close the channel."""
        self._client.close()


def _http_body(model: Model, values: NDArray[Any]) -> tuple[bytes, dict[str, str]]:
    from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

    tensor = InferInput(model.input_name, list(values.shape), model.datatype)
    tensor.set_data_from_numpy(values, binary_data=True)
    outputs: Sequence[Any] = [InferRequestedOutput(model.output_name, binary_data=True)]
    body, header_bytes = InferenceServerClient.generate_request_body([tensor], outputs=outputs)
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(header_bytes),
    }
    return bytes(body), headers


def _grpc_input(model: Model, values: NDArray[np.generic]) -> Any:
    from tritonclient.grpc import InferInput

    tensor = InferInput(model.input_name, list(values.shape), model.datatype)
    tensor.set_data_from_numpy(values)
    return tensor
