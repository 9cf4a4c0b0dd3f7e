"""The Helm chart: what it gives is what kustomize gives, and every value reaches its object."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpupilot_operator import crd, naming
from gpupilot_testbed import charts
from gpupilot_testbed.running import Cluster

pytestmark = pytest.mark.timeout(3000)

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
CHART = DEPLOY / "helm" / "gpupilot"
NAMESPACE = "gpupilot-system"
OF_HELM = (
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "helm.sh/chart",
)
Object = dict[str, Any]


def charted(*options: str) -> list[Object]:
    """Return the objects of the Helm chart."""
    done = subprocess.run(
        [charts.helm(print), "template", "gpupilot", CHART, "--namespace", NAMESPACE, *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def comparable(objects: list[Object]) -> dict[tuple[str, str], Object]:
    """Return objects by kind and name, without what says that Helm made them."""
    found = {}
    for each in json.loads(json.dumps(objects)):
        for metadata in (each["metadata"], _template(each)):
            for label in OF_HELM:
                metadata.get("labels", {}).pop(label, None)
            metadata.get("annotations", {}).pop("gpupilot.dev/settings", None)
        found[(each["kind"], each["metadata"]["name"])] = each
    return found


def _template(thing: Object) -> Object:
    if thing["kind"] != "Deployment":
        return {}
    template: Object = thing["spec"]["template"]["metadata"]
    return template


def test_helm_gives_what_kustomize_gives(light: Cluster) -> None:
    ours = comparable(light.rendered(DEPLOY / "operator"))
    theirs = comparable(charted("--include-crds"))
    namespace = ours.pop(("Namespace", NAMESPACE))
    assert namespace["metadata"]["name"] == NAMESPACE, "Helm leaves namespaces to whoever installs"
    definition = theirs.pop(("CustomResourceDefinition", naming.CRD_NAME))
    assert definition == crd.crd()
    assert theirs.keys() == ours.keys()
    for key, wanted in ours.items():
        assert theirs[key] == wanted, key


def test_values_that_mean_nothing_are_refused() -> None:
    for wrong in ("replica=2", "replicas=0", "networkPolicy.enable=true", "settings.TICK=5"):
        done = subprocess.run(
            [charts.helm(print), "template", "gpupilot", CHART, "--set", wrong],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0, wrong
        assert wrong.split("=")[0].split(".")[-1] in done.stderr


def test_every_value_reaches_its_object() -> None:
    given = charted(
        "--set=replicas=3",
        "--set-string=image.tag=9",
        "--set=settings.GPUPILOT_TICK_SECONDS=10",
        "--set=networkPolicy.enabled=false",
        "--set=nodeSelector.pool=system",
    )
    found = {(each["kind"], each["metadata"]["name"]): each for each in given}
    deployment = found["Deployment", "gpupilot-operator"]["spec"]
    pod = deployment["template"]["spec"]
    assert deployment["replicas"] == 3
    assert pod["containers"][0]["image"] == "gpupilot-operator:9"
    assert pod["nodeSelector"] == {"pool": "system"}
    settings = found["ConfigMap", "gpupilot-operator"]["data"]
    assert settings["GPUPILOT_TICK_SECONDS"] == "10"
    assert ("NetworkPolicy", "gpupilot-operator") not in found


def test_the_definition_lies_in_the_chart_as_in_its_folder() -> None:
    names = ("crds/inferenceservices.yaml", "helm/gpupilot/crds/inferenceservices.yaml")
    texts = {(DEPLOY / name).read_text(encoding="utf-8") for name in names}
    assert texts == {crd.text()}
