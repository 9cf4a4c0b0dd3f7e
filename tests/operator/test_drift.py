"""What of a manifest a live object does not have."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpupilot_operator.drift import APPLIED, differences, stamped
from gpupilot_operator.quantities import milli, quantity, whole

WANTED: dict[str, Any] = {
    "metadata": {"labels": {"app": "shop"}, "ownerReferences": [{"uid": "u-1", "name": "shop"}]},
    "spec": {
        "selector": {"app": "shop"},
        "containers": [
            {
                "name": "triton",
                "args": ["tritonserver", "--exit-timeout-secs=30"],
                "resources": {"limits": {"cpu": "1000m", "memory": "2048Mi", "gpu": 1}},
                "volumeMounts": [{"name": "m", "mountPath": "/models", "readOnly": True}],
            }
        ],
        "volumes": [{"name": "m", "emptyDir": {}}],
    },
}


def settled() -> dict[str, Any]:
    """Return what an API server makes of it: defaults, canonical quantities, others' additions."""
    live = deepcopy(WANTED)
    live["metadata"] |= {"resourceVersion": "7", "uid": "x"}
    live["metadata"]["labels"]["team"] = "search"
    (container,) = live["spec"]["containers"]
    container["resources"]["limits"] = {"cpu": "1", "memory": "2Gi", "gpu": "1"}
    container["terminationMessagePath"] = "/dev/termination-log"
    live["spec"]["containers"].insert(0, {"name": "sidecar", "image": "mesh"})
    live["status"] = {"replicas": 1}
    return live


def changed(path: str, value: Any) -> dict[str, Any]:
    live = settled()
    place: Any = live
    *parents, last = path.split(".")
    for parent in parents:
        place = place[int(parent) if parent.isdecimal() else parent]
    place[int(last) if last.isdecimal() else last] = value
    return live


def test_what_the_api_server_adds_is_no_difference() -> None:
    assert differences(WANTED, settled()) == ()


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("spec.selector", {"app": "other"}, ".spec.selector.app"),
        ("spec.selector", None, ".spec.selector"),
        ("spec.containers.1.args", ["tritonserver"], ".spec.containers[triton].args"),
        ("spec.containers.1.args.1", "--x", ".spec.containers[triton].args[1]"),
        ("spec.containers.1.resources.limits.cpu", "2", "limits.cpu"),
        ("spec.containers.1.volumeMounts", [], "volumeMounts[/models]"),
        ("spec.containers.1.volumeMounts.0.readOnly", False, "[/models].readOnly"),
        ("spec.containers", [{"name": "sidecar"}], ".spec.containers[triton]"),
        ("spec.containers", [], ".spec.containers[triton]"),
        ("metadata.ownerReferences.0.uid", "u-2", ".metadata.ownerReferences[u-1]"),
        ("metadata.labels", {}, ".metadata.labels.app"),
    ],
)
def test_what_another_changed_is_named(path: str, value: Any, said: str) -> None:
    (found,) = differences(WANTED, changed(path, value))
    assert found.endswith(said)


def test_one_is_not_true() -> None:
    assert differences({"a": True}, {"a": 1}) == (".a",)
    assert differences({"a": 1}, {"a": "1"}) == (".a",)


def test_a_manifest_of_which_something_is_no_longer_asked_differs() -> None:
    fewer = deepcopy(WANTED)
    del fewer["spec"]["containers"][0]["args"]
    live = stamped(WANTED)
    assert differences(fewer, live) == ()
    assert differences(stamped(fewer), live) == (f".metadata.annotations.{APPLIED}",)


def test_the_stamp_is_of_what_is_asked_and_of_nothing_else() -> None:
    assert stamped(WANTED) == stamped(deepcopy(WANTED))
    assert "annotations" not in WANTED["metadata"]
    assert stamped(WANTED)["metadata"]["annotations"].keys() == {APPLIED}


@pytest.mark.parametrize(
    ("one", "other"),
    [("1", "1000m"), ("1Gi", "1024Mi"), ("1e3", "1k"), ("0.5", "500m"), ("1.5Gi", "1536Mi")],
)
def test_equal_quantities_are_equal(one: str, other: str) -> None:
    assert quantity(one) == quantity(other) is not None


@pytest.mark.parametrize("text", ["", "one", "1 Gi", "Gi", "1gi", "--1"])
def test_what_is_no_quantity_is_none(text: str) -> None:
    assert quantity(text) is None
    assert milli(text) is None
    assert whole(text) is None


@given(st.integers(0, 10**12))
def test_thousandths_and_whole_units_are_rounded_up(amount: int) -> None:
    assert milli(f"{amount}m") == amount
    assert milli(f"{amount}u") == -(-amount // 1000)
    assert whole(amount) == amount
    assert whole(f"{amount}m") == -(-amount // 1000)
