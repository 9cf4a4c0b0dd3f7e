"""Somebody is faster than we are: what was seen is no longer so, which is nobody's trouble."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from connecting import connected

from cluster_objects import PLATFORM, SPEC
from gpupilot_operator import kinds, naming
from gpupilot_operator.cluster import KubeCluster
from gpupilot_operator.kinds import DEPLOYMENT
from gpupilot_operator.kube import Connection
from gpupilot_operator.plan import Plan
from gpupilot_operator.ports import Change, Seen
from gpupilot_operator.store import Store
from gpupilot_operator.sweep import sweep
from gpupilot_operator.views import Name
from gpupilot_testbed.api import MERGE, done
from gpupilot_testbed.running import Cluster

pytestmark = pytest.mark.timeout(3000)


class Shop:
    """A service on a real API server, and an operator's view of it that is looked after by hand."""

    def __init__(self, cluster: Cluster, namespace: str, connection: Connection) -> None:
        self.api, self._namespace, self._connection = cluster.api, namespace, connection
        self.at = Name(namespace=namespace, name="shop")
        self.store = Store()
        self.operator = KubeCluster(connection, self.store, lambda: PLATFORM, identity="test")
        body = {"apiVersion": naming.API_VERSION, "kind": naming.KIND, "metadata": {"name": "shop"}}
        done(self.api.ask("POST", self._path(), {**body, "spec": SPEC}))
        self.look()
        while not self.operator.reconcile([self.at])[self.at].is_settled:
            self.look()

    def _path(self) -> str:
        return kinds.INFERENCE_SERVICE.path(self._namespace)

    def look(self) -> None:
        """Bring what is seen to what is there."""
        sweep(self._connection, self.store, [self._namespace])

    def scale(self, replicas: int) -> None:
        """Scale the Deployment, which nobody here sees."""
        path = DEPLOYMENT.path(self._namespace, "shop-1000")
        done(self.api.ask("PATCH", path, {"spec": {"replicas": replicas}}, kind=MERGE))

    def replicas(self) -> int:
        path = DEPLOYMENT.path(self._namespace, "shop-1000")
        return int(self.api.get(path)["spec"]["replicas"])

    def seen(self) -> Seen:
        (found,) = self.operator.services()
        return found

    def told(self) -> tuple[list[Any], list[Any]]:
        """Return the events and the conditions of the resource."""
        events = self.api.get(f"/apis/events.k8s.io/v1/namespaces/{self._namespace}/events")
        ours = [each for each in events["items"] if each["regarding"]["kind"] == naming.KIND]
        body = self.api.get(f"{self._path()}/shop")
        return ours, body.get("status", {}).get("conditions", [])


@pytest.fixture
def shop(defined: Cluster, namespace: str) -> Iterator[Shop]:
    """Return a service whose objects are as it asks, as far as can be seen."""
    with connected(defined.kubeconfig) as connection:
        made = Shop(defined, namespace, connection)
        yield made
        made.operator.close()


def test_an_object_that_changed_meanwhile_is_looked_at_again_and_not_complained_of(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.scale(1)
    shop.look()
    shop.scale(3)
    with caplog.at_level(logging.INFO):
        outcome = shop.operator.reconcile([shop.at])[shop.at]
    assert outcome.overtaken == "replicas of Deployment/shop-1000 are no longer 1: decided anew"
    assert not outcome.is_settled
    assert {each.levelname for each in caplog.records if "no longer" in each.message} == {"INFO"}
    assert shop.operator.unready() == {}
    assert shop.told() == ([], [])
    shop.look()
    assert shop.operator.reconcile([shop.at])[shop.at].is_settled
    assert shop.replicas() == 3


def test_a_decision_on_what_is_no_longer_so_is_passing(shop: Shop) -> None:
    change = Change(seen=shop.seen(), plan=Plan(replicas=4))
    shop.scale(3)
    (failure,) = shop.operator.carry_out([change]).values()
    assert failure is not None
    assert failure.passing
    assert shop.replicas() == 3
    shop.look()
    (failure,) = shop.operator.carry_out([Change(seen=shop.seen(), plan=change.plan)]).values()
    assert failure is None
    assert shop.replicas() == 4


def test_a_complaint_goes_with_the_resource(shop: Shop) -> None:
    """A resource that is gone is not counted among those that something is wrong with."""
    path = kinds.SERVICE.path(shop.at.namespace, "shop")
    done(shop.api.ask("DELETE", path))
    theirs = {"metadata": {"name": "shop"}, "spec": {"ports": [{"port": 80}]}}
    done(shop.api.ask("POST", kinds.SERVICE.path(shop.at.namespace), theirs))
    shop.look()
    shop.operator.reconcile([shop.at])
    assert shop.operator.unready() == {f"{shop.at.namespace}/shop": "ReconcileFailed"}
    done(shop.api.ask("DELETE", kinds.INFERENCE_SERVICE.path(shop.at.namespace, "shop")))
    shop.look()
    assert shop.operator.reconcile([shop.at])[shop.at].is_settled
    assert shop.operator.unready() == {}
