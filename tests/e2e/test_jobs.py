"""The Jobs of ``loadtests`` run in the cluster as they are written, with the image they name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gpupilot_testbed import full, product_images
from gpupilot_testbed.api import done
from gpupilot_testbed.running import until

pytestmark = pytest.mark.timeout(1800)

JOBS = "/apis/batch/v1/namespaces/default/jobs"
LOADTESTS = Path(__file__).resolve().parents[2] / "loadtests"
LATE_MS = 1000
"""How late the generator may be: two cores carry all of the cluster beside it."""


@pytest.fixture(scope="module", autouse=True)
def image(system: Any) -> None:
    """Give the node the image that the Jobs name."""
    archive = product_images.archive(product_images.LOAD, print)
    full.load_image(system.cluster.folder, archive, print)


def ran(system: Any, file: str, name: str, *args: str) -> tuple[int, str]:
    """Run a Job with other arguments to its end; return its exit code and what it printed."""
    body = yaml.safe_load((LOADTESTS / file).read_text(encoding="utf-8"))
    body["metadata"]["name"] = name
    body["spec"]["template"]["spec"]["containers"][0]["args"] = list(args)
    done(system.cluster.api.ask("POST", JOBS, body))
    until(lambda: ended(system, name) is not None, within_s=240.0)
    said = system.cluster.kubectl("logs", f"job/{name}")
    code = ended(system, name)
    system.cluster.kubectl("delete", "job", name, "--wait=false")
    return (-1 if code is None else code), said


def ended(system: Any, name: str) -> int | None:
    """Return the exit code of a Job's only pod, ``None`` while it has none."""
    path = f"/api/v1/namespaces/default/pods?labelSelector=batch.kubernetes.io/job-name={name}"
    for pod in system.cluster.api.get(path)["items"]:
        for status in pod["status"].get("containerStatuses", ()):
            if "terminated" in status["state"]:
                return int(status["state"]["terminated"]["exitCode"])
    return None


@pytest.mark.parametrize(("slo_ms", "code"), [("5000", 0), ("1", 1)])
def test_a_load_tells_whether_a_service_kept_its_objective(
    system: Any, shop: str, slo_ms: str, code: int
) -> None:
    target = (f"--host={system.url(shop)}", f"--slo-ms={slo_ms}", f"--lag-limit-ms={LATE_MS}")
    rate = ("--rate=10", "--duration=10", "--warm-up=1")
    files = ("--requests=/results/requests.parquet", "--summary=/results/summary.json")
    found, said = ran(system, "locust-job.yaml", f"load-{slo_ms}", *target, *rate, *files)
    assert found == code, said


def test_a_co_tenant_burns_what_it_is_given_and_ends(system: Any) -> None:
    given = ("--cpu", "constant:0.5", "--cores", "1", "--duration", "5")
    code, said = ran(system, "stress-job.yaml", "stress", *given)
    assert code == 0, said
    assert "1 workers" in said
