"""A real Prometheus, filled with scripted series and scraping a target that still runs."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gpupilot_agent.stack import debian
from gpupilot_agent.stack.tools import cache_folder

STEP_S = 2
LIVE = 'rate(nv_inference_request_success{model="live"}[1m])'
LONG_S = 26_000
"""13,000 samples: more than the 11,000 points a server answers at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The Prometheus of the tests.

    Attributes:
        url: Its address.
        end_s: Time of the newest scripted sample, a multiple of 60.
    """

    url: str
    end_s: int


def binary(name: str) -> str:
    """Return a program of the Prometheus package; unpacks Debian's where it is not installed."""
    present = shutil.which(name)
    if present is not None:
        return present
    return str(debian.unpack("prometheus", cache_folder()) / "usr" / "bin" / name)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


class Script:
    """Scripted series in the OpenMetrics text that ``promtool`` turns into blocks."""

    def __init__(self) -> None:
        self._families: dict[str, list[str]] = {}

    def add(self, name: str, labels: str, samples: list[tuple[float, float]]) -> None:
        """Add one series: its samples as (Unix time, value)."""
        lines = [f"{name}{{{labels}}} {value!r} {at!r}" for at, value in samples]
        self._families.setdefault(name, []).extend(lines)

    def text(self) -> str:
        """Return the whole document."""
        lines = []
        for name, samples in self._families.items():
            lines += [f"# TYPE {name} gauge", *samples]
        return "\n".join([*lines, "# EOF", ""])


def counter(
    rate: float, start_s: int, end_s: int, *, at_start: float = 5.0
) -> list[tuple[float, float]]:
    """Return a counter that grows evenly."""
    times = range(start_s, end_s + 1, STEP_S)
    return [(float(t), at_start + rate * (t - start_s)) for t in times]


def scripted(end_s: int) -> Script:
    """Return what the past held; each service shows one thing (``tests/live/test_reading.py``)."""
    script = Script()
    start_s = end_s - 1200
    gateway(script, "shop", start_s, end_s, rate=40.0, failing=10.0)
    triton(script, "shop", start_s, end_s)
    kubernetes(script, "shop", start_s, end_s)
    gateway(script, "idle", start_s, end_s, rate=0.0, failing=0.0)
    # a restart: the counter falls to zero in the middle
    half = counter(40.0, start_s, end_s - 600), counter(40.0, end_s - 598, end_s, at_start=0.0)
    script.add("nv_inference_request_success", 'model="reset",version="1"', half[0] + half[1])
    # silence: nothing for 7 minutes, longer than Prometheus looks back
    late = counter(10.0, end_s - 300, end_s, at_start=5005.0)
    early = counter(10.0, start_s, end_s - 720)
    script.add("nv_inference_request_success", 'model="gap",version="1"', early + late)
    nan = [(at, float("nan")) for at, _ in counter(0.0, start_s, end_s)]
    script.add("nv_inference_request_success", 'model="nan",version="1"', nan)
    script.add("nv_inference_pending_request_count", 'model="nan",version="1"', nan)
    script.add(
        "nv_inference_request_success",
        'model="long",version="1"',
        counter(7.0, end_s - LONG_S, end_s),
    )
    for namespace, rate in (("left", 10.0), ("right", 30.0)):
        # one name in two namespaces, served by a model of another name
        whose = f'namespace="{namespace}",service="twin",model="resnet",version="1"'
        gateway(script, "twin", start_s, end_s, rate=rate, failing=0.0, namespace=namespace)
        samples = [(at, rate) for at, _ in counter(0.0, start_s, end_s)]
        script.add("nv_inference_pending_request_count", whose, samples)
    # a gateway's own counters are missing: the declared fallback, told by service and namespace
    whose = 'namespace="left",service="lone",model="resnet",version="1"'
    script.add("nv_inference_request_success", whose, counter(20.0, start_s, end_s))
    return script


def gateway(
    script: Script,
    service: str,
    start_s: int,
    end_s: int,
    *,
    rate: float,
    failing: float,
    namespace: str | None = None,
) -> None:
    """Add a histogram: of the answered, half within 20 ms, 90 % within 60 ms, all within 100 ms."""
    name = "envoy_gpupilot_request_duration_us"
    for code, every, shares in (("200", rate, (0.5, 0.9, 1.0, 1.0)), ("503", failing, (1.0,) * 4)):
        outcome = "ok" if code == "200" else "rejected"
        labels = f'service="{service}",code="{code}",outcome="{outcome}",replica="a"'
        labels += f',namespace="{namespace}"' if namespace else ""
        for bound, share in zip(("20000", "60000", "100000", "+Inf"), shares, strict=True):
            samples = counter(every * share, start_s, end_s)
            script.add(f"{name}_bucket", f'{labels},le="{bound}"', samples)
        script.add(f"{name}_count", labels, counter(every, start_s, end_s))
        script.add(f"{name}_sum", labels, counter(every * 25_000.0, start_s, end_s))


def triton(script: Script, model: str, start_s: int, end_s: int) -> None:
    """Add two servers: batches of 4, 3 ms queued, 12 ms in all of an execution."""
    for instance, rate in (("a", 10.0), ("b", 30.0)):
        labels = f'model="{model}",version="1",instance="{instance}"'
        for name, per_request in (
            ("request_success", 1.0),
            ("count", 1.0),
            ("exec_count", 0.25),
            ("queue_duration_us", 3000.0),
            ("compute_input_duration_us", 1000.0),
            ("compute_infer_duration_us", 10_000.0),
            ("compute_output_duration_us", 1000.0),
        ):
            script.add(f"nv_inference_{name}", labels, counter(rate * per_request, start_s, end_s))
        pending = [(at, 3.0) for at, _ in counter(0.0, start_s, end_s)]
        script.add("nv_inference_pending_request_count", labels, pending)


def kubernetes(script: Script, name: str, start_s: int, end_s: int) -> None:
    """Add what kube-state-metrics, cAdvisor and DCGM say of two pods, one ready."""
    times = [at for at, _ in counter(0.0, start_s, end_s)]

    def level(metric: str, labels: str, value: float) -> None:
        script.add(metric, labels, [(at, value) for at in times])

    whose = f'namespace="web",deployment="{name}"'
    level("kube_deployment_spec_replicas", whose, 2.0)
    level("kube_deployment_status_replicas_ready", whose, 1.0)
    for number in (1, 2):
        pod = f"{name}-7d4b9c6f5-ab{number}de"
        labels = f'namespace="web",pod="{pod}"'
        level("kube_pod_container_resource_limits", f'{labels},resource="cpu",container="c"', 1.5)
        usage = counter(0.4, start_s, end_s)
        script.add("container_cpu_usage_seconds_total", f'{labels},container="c"', usage)
        exported = f'exported_namespace="web",exported_pod="{pod}",gpu="{number}"'
        level("DCGM_FI_DEV_GPU_UTIL", exported, 30.0 * number)
        level("DCGM_FI_DEV_FB_USED", exported, 1000.0)
        level("DCGM_FI_DEV_POWER_USAGE", exported, 50.0)


class Exporter(BaseHTTPRequestHandler):
    """A target whose counter grows by 20 a second since the module was loaded."""

    began_s = time.time()

    def do_GET(self) -> None:
        requests = 20.0 * (time.time() - self.began_s)
        body = (
            "# TYPE nv_inference_request_success counter\n"
            f'nv_inference_request_success{{model="live",version="1"}} {requests}\n'
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(BrokenPipeError):  # a Prometheus that is stopped hangs up
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture(scope="session")
def target() -> Iterator[int]:
    """Yield the port of a target that is scraped every second."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Exporter) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield listening.server_address[1]
        listening.shutdown()


@pytest.fixture(scope="session")
def prometheus(target: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Yield a Prometheus that holds the scripted past and scrapes the target."""
    folder = tmp_path_factory.mktemp("prometheus")
    end_s = int(time.time()) // 60 * 60 - 120
    (folder / "past.txt").write_text(scripted(end_s).text(), encoding="utf-8")
    load = [binary("promtool"), "tsdb", "create-blocks-from", "openmetrics"]
    subprocess.run([*load, folder / "past.txt", folder / "data"], check=True, capture_output=True)
    job = f"{{job_name: live, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}"
    config = f"global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs: [{job}]\n"
    (folder / "prometheus.yml").write_text(config, encoding="utf-8")
    url = f"http://127.0.0.1:{free_port()}"
    log = (folder / "log").open("w", encoding="utf-8")
    process = subprocess.Popen(
        [
            binary("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={url.removeprefix('http://')}",
        ],
        stdout=log,
        stderr=log,
    )
    try:
        _wait(f"{url}/-/ready", b"", process)
        # it looks for targets five seconds late, and a rate needs two scrapes
        words = urllib.parse.urlencode({"query": LIVE})
        _wait(f"{url}/api/v1/query?{words}", b'"value"', process)
        yield Running(url=url, end_s=end_s)
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def _wait(page: str, holds: bytes, process: subprocess.Popen[bytes]) -> None:
    """Wait until Prometheus answers a page that holds some text."""
    until_s = time.monotonic() + 30.0
    while time.monotonic() < until_s:
        assert process.poll() is None, "Prometheus ended"
        try:
            with urllib.request.urlopen(page, timeout=1) as answer:
                if holds in answer.read():
                    return
        except OSError:
            pass
        time.sleep(0.1)
    pytest.fail(f"Prometheus did not answer {page} in 30 s")
