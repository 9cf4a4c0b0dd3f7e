"""What a real service needs on a full cluster: our images, GPUs, and a claim that holds models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from gpupilot_agent.mobilenet import weights
from gpupilot_agent.stack.tools import Say, model_store
from gpupilot_agent.triton import repository
from gpupilot_envs.embedded import find_profile
from gpupilot_envs.profile import Batching
from gpupilot_testbed import full, product_images
from gpupilot_testbed.api import Api, done
from gpupilot_testbed.running import define
from gpupilot_testbed.state import KUBECONFIG

CRDS = Path(__file__).resolve().parents[2] / "crds"
GPUS = 4
CLAIM = "models"
EMULATED, CPU = "emulated", "cpu"
"""Paths in the claim: a model that sleeps a GPU's time, and the real one on the CPU."""
PROFILE = "mobilenetv4-edge-emulated"
"""Whose time the emulated model takes."""
TENANTS = Path("/dev/shm/gpupilot-tenants")
"""In the pod: its instances share one emulated GPU."""
ONE_BY_ONE = Batching(enabled=False, max_batch=1)
"""Without batches an emulated GPU is at its end at a load that two cores can make."""
_SIZE = "1Gi"


def provide(folder: Path, say: Say) -> None:
    """Make a cluster ready for ``deploy/samples/emulated-gpu.yaml``, in the namespace default.

    ``kubectl apply -f deploy/crds -f …`` fails where the kind is not defined yet: it looks up every
    kind before it applies anything.

    Args:
        folder: Of a full cluster that runs.
        say: Told in one line each what takes time.

    Raises:
        StackFailed: An image cannot be built or imported; says why.
    """
    for image in (product_images.TRITON, product_images.GATEWAY):
        full.load_image(folder, product_images.archive(image, say), say)
    models = folder / "models"
    write_models(models)
    with Api(folder / KUBECONFIG) as api:
        for definition in sorted(CRDS.glob("*.yaml")):
            define(api, yaml.safe_load(definition.read_text(encoding="utf-8")))
        full.offer(api, GPUS)
        offer_models(api, models, "default")


def write_models(folder: Path) -> None:
    """Write the repositories that the claim shows; the folder is what it shows of the host."""
    profile = find_profile(PROFILE)
    alone = profile.model_copy(update={"batching": ONE_BY_ONE})
    emulated = repository.emulated_config(alone, tenants=TENANTS, seed=0)
    repository.write_model(folder / EMULATED, emulated, code="emulated_model")
    real = repository.cpu_config(profile.batching)
    version = repository.write_model(folder / CPU, real, code="onnx_model")
    repository.add_onnx(version, weights.ensure("seeded", model_store())[0])


def offer_models(api: Api, folder: Path, namespace: str) -> None:
    """Make a claim of a namespace that shows a folder of the host, to be read by many."""
    volume = f"{namespace}-{CLAIM}"
    # no class: nobody is to make a volume for it
    shown: dict[str, Any] = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    offered = {
        **shown,
        "capacity": {"storage": _SIZE},
        "hostPath": {"path": str(folder), "type": "Directory"},
        "claimRef": {"namespace": namespace, "name": CLAIM},
    }
    asked = {**shown, "volumeName": volume, "resources": {"requests": {"storage": _SIZE}}}
    claims = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
    for path, kind, name, spec in (
        ("/api/v1/persistentvolumes", "PersistentVolume", volume, offered),
        (claims, "PersistentVolumeClaim", CLAIM, asked),
    ):
        body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        done(api.ask("POST", path, body))
