"""A learned policy, recorded and explained: what drove it, its choices, its alternatives."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from gpupilot_agent.bundle import Bundle
from gpupilot_agent.comparison.scene import Scene
from gpupilot_agent.decision_log import read_decisions, write_decisions
from gpupilot_agent.explanation.account import DECISIONS, Account, of_log
from gpupilot_agent.explanation.alternatives import alternatives
from gpupilot_agent.explanation.drivers import usual
from gpupilot_agent.explanation.outlook import Alternative, outlook
from gpupilot_agent.explanation.telling import document, why
from gpupilot_agent.learned import LearnedPolicy
from gpupilot_agent.ood import Familiar
from gpupilot_agent.recorder import record
from gpupilot_envs.actions import SIZES
from gpupilot_envs.controller import Controller
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.observation import FIELDS, HIGH
from gpupilot_envs.workload.trace import RateTrace


def weights(seed: int) -> Bundle:
    """Return a policy of random weights, large enough for its choices to vary."""
    random = np.random.default_rng(seed)
    sizes = (len(FIELDS), 8, sum(SIZES))
    layers = tuple(
        (
            random.normal(0.0, 1.0, (a, b)).astype(np.float32),
            random.normal(0.0, 0.5, b).astype(np.float32),
        )
        for a, b in pairwise(sizes)
    )
    return Bundle(
        networks=(layers,),
        controller=Controller(z=1.0, anchor_miss=0.9),
        config={},
        seeds={},
        trace_hashes={},
        commit="unknown",
        card={},
    )


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return weights(0)


@pytest.fixture(scope="module")
def folder(scene: Scene, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ten minutes of decisions under rising traffic, and no recording."""
    rates = np.linspace(1.0, 3.0, 40) * scene.capacity().slo_rps
    traffic = RateTrace(name="rising", bin_s=15.0, rps=rates)
    _, log = record(scene, traffic, "ppo", seed=0, every_s=15.0, bundle=bundle)
    out = tmp_path_factory.mktemp("learned")
    write_decisions(out / DECISIONS, log)
    return out


@pytest.fixture(scope="module")
def account(folder: Path) -> Account:
    return of_log(folder, "05:00")


def test_the_log_knows_policy_service_and_limits(
    account: Account, scene: Scene, bundle: Bundle
) -> None:
    assert account.moment is not None
    assert account.decider is not None
    assert account.at_s == 300.0
    assert account.decider.bundle_sha256 == bundle.sha256
    assert account.moment.scene == replace(scene, scale_to_replicas=None)


def test_what_was_logged_leads_to_the_move_again(account: Account, bundle: Bundle) -> None:
    """The readings' credits add up to how much likelier the move is than on a usual reading."""
    log, entry = account.log, account.entry
    assert log is not None
    assert entry is not None
    evidence = entry.decision.evidence
    assert evidence is not None
    seen = [e.decision.evidence.observation for e in log.entries if e.decision.evidence]
    told = why(
        evidence,
        field_names=log.field_names,
        axes=log.axes,
        network=bundle.logits,
        ordinary=usual(seen),
    )
    rows = np.array([evidence.observation, usual(seen)], dtype=np.float32)
    shares = []
    could = np.isfinite(np.array(evidence.logits))
    for logits in np.where(could, bundle.logits(rows).astype(np.float64), -np.inf):
        parts = np.split(logits, np.cumsum(SIZES)[:-1])
        pairs = zip(parts, evidence.action, strict=True)
        shares.append(sum(part[i] - np.log(np.exp(part).sum()) for part, i in pairs))
    total = sum(driver.credit for driver in told.drivers)
    assert total == pytest.approx(shares[0] - shares[1], abs=1e-3)
    taken = [choice for choice in told.choices if choice.taken]
    assert len(taken) == len(SIZES)
    plain = document(entry, service=log.service, policy=log.policy, reasoned=told)
    assert plain["learned"]["drivers"][0]["name"] == told.drivers[0].name


def test_it_decides_again_as_it_did(account: Account, bundle: Bundle) -> None:
    moment = account.moment
    assert moment is not None
    found = alternatives(account, moment, bundle=bundle, baselines=("hpa", "ppo"))
    names = [each.name for each in found]
    ran, granted = account.running.replicas, account.granted.replicas
    assert names[0] == "as it decides"
    assert names[-2:] == ["classical controller", "hpa"]
    held = {name.split(",")[0] for name in names}
    assert {f"hold {count}" for count in (ran, granted, granted - 1, granted + 1)} <= held
    assert f"hold {ran}, as it ran" in names
    assert len(names) == len(set(names))
    seen = outlook(moment, found, ahead_s=120.0, seeds=2)
    assert abs(seen.first.ask.replicas - account.asked.replicas) <= 1
    truth, _ = account.intervals.truth(300.0, 420.0)
    assert seen.outcomes[0].attainment_ratio.mean == pytest.approx(truth, abs=0.1)


def test_the_classical_alternative_is_the_controller_that_takes_over_in_doubt(
    account: Account, bundle: Bundle
) -> None:
    """With all its rules, the running mean that stands in for a forecast among them."""
    moment = account.moment
    assert moment is not None
    found = alternatives(account, moment, bundle=bundle, baselines=())
    (classical,) = (each for each in found if each.name == "classical controller")
    width = len(FIELDS)
    nothing = Familiar(
        low=HIGH + 1.0,
        high=HIGH + 1.0,
        whitening=np.eye(width, dtype=np.float32),
        centre=np.zeros(width, dtype=np.float32),
        distance_max=1e3,
    )
    doubting = LearnedPolicy(bundle=replace(bundle, familiar=nothing))
    in_doubt = Alternative(name="in doubt", chooser=lambda _, __: doubting)
    told = outlook(moment, [classical, in_doubt], ahead_s=300.0, seeds=2).outcomes
    assert told[0].replicas == told[1].replicas
    assert told[0].gpu_hours == told[1].gpu_hours
    assert told[0].late == told[1].late


def test_without_its_weights_what_was_granted_is_played_again(account: Account) -> None:
    assert account.moment is not None
    found = alternatives(account, account.moment, bundle=None, baselines=())
    assert found[0].name == "as it was granted"


def test_at_the_end_without_its_weights_the_grant_is_held(folder: Path) -> None:
    last = of_log(folder, "last")
    assert last.moment is not None
    found = alternatives(last, last.moment, bundle=None, baselines=())
    assert found[0].name == f"hold {last.granted.replicas} as granted"


def test_another_policy_than_the_one_that_decided_is_refused(account: Account) -> None:
    assert account.moment is not None
    with pytest.raises(InputInvalid, match="the one that decided"):
        alternatives(account, account.moment, bundle=weights(1))


def test_a_setting_of_another_version_is_refused(folder: Path, tmp_path: Path) -> None:
    log = read_decisions(folder / DECISIONS)
    path = tmp_path / "log.parquet"
    for setting, said in (
        ({**log.setting, "scene": {"cv": 1.0}}, "record or compare again"),
        ({**log.setting, "decider": {"name": "x"}}, "record or compare again"),
    ):
        write_decisions(path, replace(log, setting=setting))
        with pytest.raises(InputInvalid, match=said):
            of_log(path, "60")
