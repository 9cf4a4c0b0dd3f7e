"""Models that lie in a bucket: the init container copies them, with the key that a Secret holds."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpupilot_agent.triton.repository import MODEL
from gpupilot_testbed import bucket, full, product_images
from gpupilot_testbed.api import done
from gpupilot_testbed.running import until
from gpupilot_testbed.serving import EMULATED

pytestmark = pytest.mark.timeout(3000)

CORE = "/api/v1/namespaces/default"
BUCKET, OPENS, ANOTHER = "models", "opens-the-bucket", "another-key"
FOLDER, ARCHIVE = EMULATED, "packed.zip"
NAMESAKE = f"{EMULATED}-2"
"""What lies beside a folder and begins with its name: no part of it."""


@pytest.fixture(scope="module", autouse=True)
def _secrets(system: Any) -> Iterator[None]:
    """Keep a Secret that opens a bucket of the cluster, and one with a key of nobody's."""
    archive = product_images.archive(product_images.STORAGE, print)
    full.load_image(system.cluster.folder, archive, print)
    opens = bucket.locked(served(system), BUCKET, held(system.cluster.folder / "models" / EMULATED))
    keep(system, OPENS, opens)
    keep(system, ANOTHER, opens | {"AWS_SECRET_ACCESS_KEY": "of-nobody"})
    yield
    made = (f"secret/{OPENS}", f"secret/{ANOTHER}", f"pod/{BUCKET}")
    system.cluster.kubectl("delete", *made, "--wait=false")


def keep(system: Any, name: str, entries: dict[str, str]) -> None:
    """Make a Secret."""
    body = {"metadata": {"name": name}, "stringData": entries}
    done(system.cluster.api.ask("POST", f"{CORE}/secrets", body))


def served(system: Any) -> str:
    """Run an S3 server in the cluster; return its URL."""
    done(system.cluster.api.ask("POST", f"{CORE}/pods", bucket.pod(BUCKET)))
    system.cluster.kubectl("wait", "--for=condition=Ready", f"pod/{BUCKET}", "--timeout=600s")
    address = system.cluster.api.get(f"{CORE}/pods/{BUCKET}")["status"]["podIP"]
    return f"http://{address}:{bucket.PORT}"


def held(model: Path) -> dict[str, bytes]:
    """Return what the bucket holds: a repository as a folder and as an archive, and a namesake."""
    files = {
        str(each.relative_to(model)): each.read_bytes()
        for each in model.rglob("*")
        if each.is_file()
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    lying = {f"{FOLDER}/{name}": data for name, data in files.items()}
    return lying | {f"{NAMESAKE}/config.pbtxt": b"another", ARCHIVE: packed.getvalue()}


def beside(system: Any, shop: str, called: str, path: str, secret: str = OPENS) -> None:
    """Create a service like the sample's whose model lies in the bucket."""
    model = {"storageUri": f"s3://{BUCKET}/{path}", "storageSecretName": secret}
    system.beside(shop, called, predictor={"model": model})


def test_a_model_is_copied_from_a_bucket_and_served(system: Any, shop: str) -> None:
    """A folder without its namesake, and an archive that is unpacked: the same two servers."""
    beside(system, shop, "lying", FOLDER)
    beside(system, shop, "packed", ARCHIVE)
    for name in ("lying", "packed"):
        serves(system, name)
    system.cluster.kubectl("delete", "gpisvc", "lying", "packed")


def serves(system: Any, name: str) -> None:
    """Wait until a service is ready; make sure that it answers, with the model and nothing else."""
    until(lambda: system.condition(name, "Ready")[0] == "True")
    answer = system.answered(name, np.zeros((1, 3, 8, 8), dtype=np.float32))
    assert answer.shape == (1, 1000)
    looked = ("exec", f"deployment/{name}-1000", "-c", "triton", "--", "ls", "/models")
    assert system.cluster.kubectl(*looked).split() == [MODEL]


def test_a_model_that_cannot_be_copied_is_told_with_who_copies(system: Any, shop: str) -> None:
    """Where there is nothing, or for whom the bucket does not open."""
    beside(system, shop, "lost", "nowhere")
    beside(system, shop, "locked", FOLDER, ANOTHER)
    for name, cause in (("lost", "No model found"), ("locked", "403")):
        fails(system, name, cause)
    system.cluster.kubectl("delete", "gpisvc", "lost", "locked")


def fails(system: Any, name: str, cause: str) -> None:
    """Wait until status names the container that fails, and its pod the cause."""
    until(lambda: "storage CrashLoopBackOff" in message(system, name))
    assert system.condition(name, "Ready") == ("False", "PodsNotReady")
    until(lambda: cause in last_words(system, name))


def message(system: Any, name: str) -> str:
    """Return what status says of whether a service is ready, empty while it says nothing."""
    conditions = system.status(name).get("conditions", [])
    return "".join(each["message"] for each in conditions if each["type"] == "Ready")


def last_words(system: Any, name: str) -> str:
    """Return what the containers that copy said as they ended."""
    statuses = [
        each["status"].get("initContainerStatuses", ())
        for each in system.objects("v1", "pods", name)
    ]
    ends = [container.get("lastState", {}) for each in statuses for container in each]
    return "".join(each["terminated"].get("message", "") for each in ends if "terminated" in each)
