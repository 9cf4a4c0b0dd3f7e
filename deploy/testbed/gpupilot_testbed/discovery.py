"""Kubernetes' pods as Prometheus' own discovery would tell them, for one built without it.

Debian's Prometheus is: it knows ``http_sd_configs`` and no ``kubernetes_sd_configs``. The labels
are those of role ``pod``
(https://prometheus.io/docs/prometheus/latest/configuration/configuration/#pod).
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from gpupilot_agent.stack.plan import LOOPBACK
from gpupilot_testbed.api import Api

_META = "__meta_kubernetes_"


@contextmanager
def pods(kubeconfig: Path) -> Iterator[str]:
    """Yield the URL that answers ``http_sd_configs``; ``?label=`` chooses pods."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = self.path.partition("?")[2]
            try:
                with Api(kubeconfig) as api:
                    found = api.get(f"/api/v1/pods?{query.replace('label=', 'labelSelector=')}")
            except OSError:
                # Prometheus keeps the pods it knows, and asks again
                self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
                return
            body = json.dumps([each for pod in found["items"] for each in targets(pod)]).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with HTTPServer((LOOPBACK, 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://{LOOPBACK}:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def page(url: str, selectors: list[Mapping[str, str]]) -> str:
    """Return the page that answers for a discovery with these selectors."""
    return f"{url}?{urlencode([('label', each['label']) for each in selectors])}"


def targets(pod: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a target for every declared port of a pod that has an address."""
    metadata, status = pod["metadata"], pod.get("status", {})
    address = status.get("podIP")
    if not address:
        return
    common = {"namespace": metadata["namespace"], "pod_name": metadata["name"]}
    common["pod_phase"] = status["phase"]
    for name, value in metadata.get("labels", {}).items():
        common[f"pod_label_{re.sub('[^a-zA-Z0-9_]', '_', name)}"] = value
    for container in (*pod["spec"]["containers"], *pod["spec"].get("initContainers", ())):
        for port in container.get("ports", ()):
            own = {
                "pod_container_name": container["name"],
                "pod_container_port_name": port.get("name", ""),
            }
            labels = {f"{_META}{name}": value for name, value in (common | own).items()}
            yield {"targets": [f"{address}:{port['containerPort']}"], "labels": labels}
