"""A learned policy at real pods: it acts once a gate has promoted it, and not for ever."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Callable, Collection, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpupilot_agent.generalist import NAME, load_generalist
from gpupilot_agent.stack import processes
from gpupilot_envs.embedded import find_profile
from gpupilot_envs.workload.generators import generate
from gpupilot_envs.workload.noise import generator
from gpupilot_envs.workload.randomisation import HELD_OUT_SHAPES, random_params
from gpupilot_testbed.running import until
from gpupilot_testbed.serving import PROFILE

pytestmark = pytest.mark.timeout(3000)

GPUPILOT = Path(sys.executable).with_name("gpupilot")
ROUND_S = 6 * 3600.0
"""Of the service's traffic: the length of its day."""
EVERY_S = 15.0
QUEUEING = "queueing"
QUIET_RPS, BUSY_RPS = 20.0, 130.0
UP, DOWN = True, False
BOTH_WAYS = {(NAME, UP), (NAME, DOWN)}
WAVES_MOST = 4
"""A load that comes at once may be unlike all it was trained on: then it stands back a while."""


@pytest.fixture(autouse=True, scope="module")
def _as_it_was(system: Any, shop: str) -> Iterator[None]:
    """Leave the service as the other modules know it: made anew, as nobody is to wait for it."""
    yield
    kubectl = system.cluster.kubectl
    kubectl("delete", "configmap", "--selector", f"gpupilot.dev/service={shop}")
    kubectl("delete", "gpisvc", shop)
    until(lambda: not system.objects("apps/v1", "deployments", shop))
    system.apply_sample()
    until(lambda: system.status(shop)["readyReplicas"] == system.status(shop)["replicas"] == 1)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """Return what waits for what the gate says of the policy on this service, asked at once."""
    folder = tmp_path_factory.mktemp("gate")
    profile = find_profile(PROFILE).model_copy(update={"name": "shop"})
    (folder / "shop.yaml").write_text(yaml.safe_dump(profile.model_dump(mode="json")), "utf-8")
    write_traffic(folder / "shop.csv")
    asked = f"""
        cd {folder}
        {GPUPILOT} record --profile shop.yaml --trace shop.csv --scale-to-replicas 2 \\
            --policy keda --target-ms 100 --out recorded
        {GPUPILOT} gate --service-recordings recorded/recording.parquet --profile shop.yaml \\
            --target-ms 100 --trials 4 --block-minutes 15 --out proof
    """
    said = folder / "said"
    process = processes.start("gate", ["sh", "-ec", asked], said)

    def proof() -> str:
        until(lambda: not process.is_alive(), within_s=900.0)
        assert (folder / "proof").exists(), said.read_text("utf-8")[-3000:]
        return (folder / "proof" / "proof.json").read_text("utf-8")

    yield proof
    processes.stop([process])


def write_traffic(path: Path) -> None:
    """Write a smooth day of a shape that no policy was trained on."""
    shape = random_params("diurnal", generator(77), shapes=HELD_OUT_SHAPES, day_s=ROUND_S)
    trace = generate(shape, duration_s=ROUND_S, bin_s=EVERY_S, seed=5)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = ((EVERY_S * at, rate) for at, rate in enumerate(trace.rps.tolist()))
        csv.writer(file).writerows([("t_s", "rps"), *rows])


def test_a_learned_policy_acts_once_it_has_passed_the_gate(
    judged: Callable[[], str], system: Any, shop: str, requests: Any
) -> None:
    """Before, the queueing controller acts in its place, and what it would do is shown."""
    system.change(shop, {"autoscaling": {"mode": "Act", "policy": "Learned"}})
    until(lambda: system.condition(shop, "PolicyReady") == ("False", "ProofMissing"))
    unproven_s, earlier = time.monotonic(), history(system, shop)
    with system.load(shop, QUIET_RPS) as quiet:
        with system.load(shop, BUSY_RPS) as unproven:
            until(lambda: (QUEUEING, UP) in moves(system, shop, earlier))
            assert system.condition(shop, "Fallback") == ("True", "ProofNeeded")
            until(lambda: system.autoscaling(shop).get("shadow", {}).get("policy") == NAME)
        system.store("shop-proof", shop, "proof.json", judged())
        until(lambda: system.condition(shop, "PolicyReady") == ("True", "GatePassed"))
        proof = system.autoscaling(shop)["proof"]
        assert (proof["verdict"], proof["policyDigest"]) == ("promote", load_generalist().sha256)
        until(lambda: system.condition(shop, "Fallback") == ("False", "PolicyDecides"))
        until(lambda: system.replicas(shop) <= 2)
        begun_anew(system, shop)
        waves: list[Path] = []
        decided: set[tuple[str, bool]] = set()
        while len(waves) < WAVES_MOST and not decided >= BOTH_WAYS:
            waves.append(wave(system, shop))
            decided |= moves(system, shop, earlier)
        assert decided >= BOTH_WAYS
    answered = [row for each in (quiet, unproven, *waves) for row in requests(each)]
    assert len(answered) > 1000
    assert [each for each in answered if each["ok"] != "true"] == []
    assert set(system.witness.since(("default", shop), unproven_s)) <= {1, 2, 3, 4}


def test_a_proof_counts_as_long_as_it_is_young(
    judged: Callable[[], str], system: Any, shop: str
) -> None:
    """Too old, it is as none, unless a person says otherwise; that is shown."""
    old = json.loads(judged())
    made = datetime.fromisoformat(old["created_at"]) - timedelta(days=15)
    aged = json.dumps(old | {"created_at": made.isoformat()})
    system.change(shop, {"autoscaling": {"mode": "Act", "policy": "Learned"}})
    system.store("shop-proof", shop, "proof.json", aged)
    until(lambda: system.condition(shop, "PolicyReady") == ("False", "ProofExpired"))
    assert system.condition(shop, "Fallback") == ("True", "ProofNeeded")
    kubectl = system.cluster.kubectl
    kubectl("annotate", "gpisvc", shop, "gpupilot.dev/override-gate=true")
    until(lambda: system.condition(shop, "PolicyReady") == ("True", "GateOverridden"))
    assert system.autoscaling(shop)["proof"]["overridden"]
    kubectl("annotate", "gpisvc", shop, "gpupilot.dev/override-gate-")
    until(lambda: system.condition(shop, "PolicyReady") == ("False", "ProofExpired"))


def begun_anew(system: Any, name: str) -> None:
    """Restart the operator, so that a policy knows what this test sent and nothing else.

    Seven times the load of all the minutes of other tests is a lasting step that no policy saw in
    training (``trend_15_60``): it would stand back for a quarter of an hour.
    """
    system.stop()
    system.start()
    until(lambda: system.operator.page("/readyz") is not None)
    ticked = "gpupilot_last_tick_timestamp_seconds"
    until(lambda: system.operator.scraped().value(ticked) > 0.0)
    until(lambda: system.condition(name, "Fallback") == ("False", "PolicyDecides"))


def wave(system: Any, name: str) -> Path:
    """Let a load come and go, each until it is answered; return the file of its requests."""
    sent: Path
    before = system.replicas(name)
    with system.load(name, BUSY_RPS) as sent:
        until(lambda: system.replicas(name) > before)
        until(lambda: system.status(name)["readyReplicas"] > before)
        until(lambda: system.condition(name, "Fallback") == ("False", "PolicyDecides"))
        most = system.replicas(name)
    until(lambda: system.replicas(name) < most)
    until(lambda: history(system, name)[0]["grantedReplicas"] < most)
    return sent


def moves(system: Any, name: str, earlier: Collection[dict[str, Any]]) -> set[tuple[str, bool]]:
    """Return who changed the replicas since what is earlier, each with whether to more."""
    return {
        (each["policy"], each["grantedReplicas"] > each["currentReplicas"])
        for each in history(system, name)
        if each not in earlier
    }


def history(system: Any, name: str) -> list[dict[str, Any]]:
    """Return the changes of replicas that status remembers, newest first."""
    found: list[dict[str, Any]] = system.autoscaling(name).get("history", [])
    return found
