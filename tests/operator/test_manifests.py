"""From a service to the objects that carry it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster_objects import SLICES
from gpupilot_operator.crd import NAME_MOST
from gpupilot_operator.manifests import deployment_name, manifests
from gpupilot_operator.pod import DRAIN_S, LEAVE_S, Platform, pod_spec
from gpupilot_operator.service import SERVICE_LABEL, SHARE_LABEL, Service

Maker = Callable[..., Service]
PLATFORM = Platform()
GOLDEN = Path(__file__).with_name("golden")


def kinds(made: list[dict[str, Any]]) -> list[str]:
    return [each["kind"] for each in made]


def one(made: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = [each for each in made if each["kind"] == kind]
    return found


def triton(pod: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod["containers"]
    return dict(found)


def test_everything_is_as_it_was_looked_over(service_of: Maker) -> None:
    """A change of what is written to a cluster is looked over as the text a cluster would get."""
    resources = {"limits": {"cpu": "2", "memory": "2Gi"}, "requests": {"cpu": "500m"}}
    service = service_of({"resources": resources}, gpu=SLICES)
    platform = Platform(has_service_monitors=True)
    made = manifests(service, platform, serving_milli=142, starting_milli=428)
    assert list(yaml.safe_load_all((GOLDEN / "shop.yaml").read_text(encoding="utf-8"))) == made


def test_replicas_are_not_part_of_what_is_applied(service_of: Maker) -> None:
    made = one(manifests(service_of(), PLATFORM, serving_milli=1000), "Deployment")
    assert "replicas" not in made["spec"]


def test_all_goes_with_the_resource_and_is_found_by_it(service_of: Maker) -> None:
    for made in manifests(service_of(), PLATFORM, serving_milli=1000):
        (owner,) = made["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("InferenceService", "shop", "u-1")
        assert owner["controller"]
        assert made["metadata"]["namespace"] == "prod"
        assert made["metadata"]["labels"][SERVICE_LABEL] == "shop"
        assert made["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "gpupilot"


def test_a_change_of_share_keeps_the_serving_pods_in_service(service_of: Maker) -> None:
    made = manifests(service_of(gpu=SLICES), PLATFORM, serving_milli=142, starting_milli=428)
    assert kinds(made) == ["Deployment", "Deployment", "Service", "PodDisruptionBudget"]
    assert [each["metadata"]["name"] for each in made[:2]] == ["shop-142", "shop-428"]
    assert one(made, "Service")["spec"]["selector"][SHARE_LABEL] == "142"
    assert SHARE_LABEL not in one(made, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]


def test_pods_of_two_shares_are_never_taken_for_each_other(service_of: Maker) -> None:
    small, large = manifests(
        service_of(gpu=SLICES), PLATFORM, serving_milli=142, starting_milli=428
    )[:2]
    labels = large["spec"]["template"]["metadata"]["labels"]
    wanted = small["spec"]["selector"]["matchLabels"]
    assert not wanted.items() <= labels.items()


def test_a_pod_asks_for_the_devices_of_its_share(service_of: Maker) -> None:
    service = service_of({"resources": {"limits": {"cpu": 2}}}, gpu=SLICES)
    pod = pod_spec(service, PLATFORM, 142)
    assert triton(pod)["resources"] == {"limits": {"cpu": "2", "nvidia.com/mig-1g.10gb": "1"}}
    assert [each["key"] for each in pod["tolerations"]] == ["nvidia.com/mig-1g.10gb"]
    whole = triton(pod_spec(service_of(), PLATFORM, 1000))["resources"]
    assert whole == {"limits": {"nvidia.com/gpu": "1"}}


def test_a_share_there_is_not_is_refused(service_of: Maker) -> None:
    with pytest.raises(ValueError, match="no share of 500"):
        manifests(service_of(gpu=SLICES), PLATFORM, serving_milli=500)


def test_what_gpupilot_does_not_own_has_no_pods_of_ours(service_of: Maker) -> None:
    target = service_of(predictor={"targetRef": {"name": "triton"}, "maxReplicas": 2})
    with pytest.raises(ValueError, match="prod/shop names a target, not a model"):
        manifests(target, PLATFORM, serving_milli=1000)


def test_a_request_in_flight_is_answered_before_the_pod_ends(service_of: Maker) -> None:
    """Out of the Service first, then Triton's own drain, and only then the kubelet's patience."""
    pod = pod_spec(service_of(), PLATFORM, 1000)
    assert triton(pod)["lifecycle"]["preStop"]["sleep"]["seconds"] == LEAVE_S
    assert f"--exit-timeout-secs={DRAIN_S}" in triton(pod)["args"]
    assert pod["terminationGracePeriodSeconds"] > LEAVE_S + DRAIN_S


def test_a_pod_answers_before_it_counts(service_of: Maker) -> None:
    container = triton(pod_spec(service_of({"name": "resnet"}), PLATFORM, 1000))
    assert "--load-model=resnet" in container["args"]
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"] == "/v2/models/resnet/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"


def test_a_claim_is_mounted_where_the_model_lies(service_of: Maker) -> None:
    pod = pod_spec(service_of({"storageUri": "pvc://models/shop/1"}), PLATFORM, 1000)
    claim = {"claimName": "models", "readOnly": True}
    assert pod["volumes"][0] == {"name": "models", "persistentVolumeClaim": claim}
    mount = triton(pod)["volumeMounts"][0]
    assert (mount["subPath"], mount["readOnly"]) == ("shop/1", True)
    assert "storage" not in [each["name"] for each in pod["initContainers"]]


def test_a_whole_claim_has_no_path_within(service_of: Maker) -> None:
    pod = pod_spec(service_of({"storageUri": "pvc://models"}), PLATFORM, 1000)
    assert "subPath" not in triton(pod)["volumeMounts"][0]


@pytest.mark.parametrize(
    ("uri", "copied"),
    [
        ("s3://models/shop", "s3://models/shop/"),
        ("gs://models/shop/", "gs://models/shop/"),
        ("s3://models", "s3://models/"),
        ("s3://models/shop.tar.gz", "s3://models/shop.tar.gz"),
        ("https://models.example/shop.zip", "https://models.example/shop.zip"),
        ("hf://acme/shop:v1", "hf://acme/shop:v1"),
    ],
)
def test_other_storage_is_copied_first(service_of: Maker, uri: str, copied: str) -> None:
    model = {"storageUri": uri, "serviceAccountName": "reader"}
    pod = pod_spec(service_of(model), Platform(storage_image="copy:1"), 1000)
    copy, _ = pod["initContainers"]
    assert (copy["image"], copy["args"]) == ("copy:1", [copied, "/models"])
    assert "envFrom" not in copy
    assert pod["serviceAccountName"] == "reader"
    assert pod["volumes"][0]["emptyDir"] == {}


def test_what_opens_a_storage_is_named_and_given_to_who_copies_alone(service_of: Maker) -> None:
    model = {"storageUri": "s3://models/shop", "storageSecretName": "bucket"}
    pod = pod_spec(service_of(model), PLATFORM, 1000)
    copy, gateway = pod["initContainers"]
    assert copy["envFrom"] == [{"secretRef": {"name": "bucket"}}]
    assert "envFrom" not in gateway
    assert "envFrom" not in triton(pod)


def test_an_image_is_mounted_as_kserve_packs_models(service_of: Maker) -> None:
    model = {"storageUri": "oci://registry.example/models/shop:3"}
    pod = pod_spec(service_of(model), Platform(pull_policy="Always"), 1000)
    image = {"reference": "registry.example/models/shop:3", "pullPolicy": "Always"}
    assert pod["volumes"][0] == {"name": "models", "image": image}
    mount = triton(pod)["volumeMounts"][0]
    assert (mount["subPath"], mount["readOnly"]) == ("models", True)
    assert "storage" not in [each["name"] for each in pod["initContainers"]]


def test_openshift_chooses_the_user(service_of: Maker) -> None:
    security = pod_spec(service_of(), Platform(user=None), 1000)["securityContext"]
    assert "runAsUser" not in security
    assert security["runAsNonRoot"]


def test_scraping_is_told_only_where_somebody_listens(service_of: Maker) -> None:
    without = manifests(service_of(), PLATFORM, serving_milli=1000)
    assert "ServiceMonitor" not in kinds(without)
    monitored = manifests(service_of(), Platform(has_service_monitors=True), serving_milli=1000)
    front = one(monitored, "Service")
    monitor = one(monitored, "ServiceMonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= front["metadata"]["labels"].items()
    ports = {port["name"] for port in front["spec"]["ports"]}
    assert {endpoint["port"] for endpoint in monitor["endpoints"]} <= ports


def test_the_longest_name_fits(service_of: Maker) -> None:
    longest = replace(service_of(), name="s" * NAME_MOST)
    assert len(deployment_name(longest, 1000)) <= 63
