"""The rows of a learned policy: trainings as replicates, families, bounds nothing can beat."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gpupilot_agent.bundle import Bundle
from gpupilot_agent.cli.scores import print_rows
from gpupilot_agent.comparison.config import CompareConfig
from gpupilot_agent.comparison.contenders import Contender, Role
from gpupilot_agent.comparison.rows import family_scores, impossible, perfect, rows
from gpupilot_agent.comparison.running import compare
from gpupilot_agent.comparison.table import Results
from gpupilot_agent.comparison.tasks import Score, Window
from gpupilot_agent.perfect import PRICES
from gpupilot_agent.report import write_report
from gpupilot_agent.results import Impossible, Row, Summary, read_summary
from gpupilot_envs.actions import SIZES
from gpupilot_envs.controller import Controller
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.observation import FIELDS

TRACES = ("calm", "wild")
LEVELS = (0.99,)


def score(cost: float, late: float, *, stepped: bool = False, proves: bool = False) -> Score:
    """Return a run of two equal windows with 1,000 requests each."""
    half = Window(requests=1000, in_time=round(1000 * (1.0 - late)), gpu_hours=cost / 2.0)
    return Score(
        scored_s=3600.0,
        requests=2000,
        in_time=2 * half.in_time,
        gpu_hours=cost,
        energy_kwh=1.0,
        co2_g=None,
        latency_p50_ms=1.0,
        latency_p95_ms=2.0,
        latency_p99_ms=3.0,
        replica_changes=4,
        pod_restarts=0,
        recovery_s=60.0 if stepped else None,
        decisions=10,
        held={},
        overridden=1,
        unfamiliar=0,
        geared=False,
        windows=(half, half),
        duals=((1.0,) * len(PRICES),) * 2 if proves else (),
    )


def contender(name: str, setting: str, role: Role, *, main: bool = False) -> Contender:
    params = (("margin", 0.0),) if name == "oracle" else ()
    return Contender(
        name=name, setting=setting, family=name, role=role, params=params, asked=0.99, main=main
    )


Point = tuple[float, float]


def made(**settings: list[list[Point]]) -> Results:
    """Return results from (cost, late share) per policy, training and setting, on both traces."""
    roles: dict[str, Role] = {"ppo": "learned", "hpa": "default", "oracle": "bound"}
    scores = {}
    for key, trainings in settings.items():
        name = key.replace("_", "-")
        for at, _ in enumerate(trainings[0]):
            who = contender(name, f"s{at}", roles.get(name, "tuned"), main=at == 0)
            scores[who] = [
                [
                    [score(*points[at], stepped=trace == "wild", proves=name == "oracle")] * 2
                    for trace in TRACES
                ]
                for points in trainings
            ]
    return Results(traces=TRACES, families=TRACES, scores=scores)


def the(found: tuple[Row, ...], kind: str) -> Row:
    (row,) = [row for row in found if row.kind == kind]
    return row


def test_costs_are_compared_at_equal_attainment() -> None:
    """Both frontiers pass 99 %: the policy at 8 GPU-hours, the tuned rule at 10."""
    results = made(ppo=[[(8.0, 0.01), (9.0, 0.001)]], hpa_tuned=[[(9.0, 0.1), (10.0, 0.01)]])
    row = the(rows(results, LEVELS), "tuned_rule")
    assert row.against == "hpa-tuned"
    assert row.relative.mean == pytest.approx(-0.2)
    assert set(row.families) == set(TRACES)
    assert row.families["calm"].mean == pytest.approx(-0.2)


def test_default_is_met_at_the_attainment_it_reached_and_the_missing_level_is_said() -> None:
    results = made(ppo=[[(5.0, 0.1), (9.0, 0.001)]], hpa=[[(10.0, 0.1)]])
    row = the(rows(results, LEVELS), "default")
    assert row.attainment == pytest.approx(0.9)
    assert row.relative.mean == pytest.approx(-0.5)
    assert "no setting at 99 %" in row.note


def test_trainings_are_averaged_and_widen_the_interval() -> None:
    results = made(
        ppo=[[(8.0, 0.01), (9.0, 0.001)], [(12.0, 0.01), (13.0, 0.001)]],
        queueing_tuned=[[(9.0, 0.1), (10.0, 0.01)]],
    )
    row = the(rows(results, LEVELS), "tuned_queueing")
    assert row.relative.mean == pytest.approx(0.0)
    assert row.relative.ci95 == pytest.approx((-0.2, 0.2))
    alone = [part.frontier("ppo").estimate(0.99).mean for part in results.by_training("ppo")]
    assert alone == pytest.approx([8.0, 12.0])


def test_bursts_count_late_requests_on_stepping_traffic_at_nearly_equal_cost() -> None:
    results = made(ppo=[[(8.0, 0.1), (10.5, 0.01)]], hpa_tuned=[[(10.0, 0.1)]])
    row = the(rows(results, LEVELS), "bursts")
    assert row.relative.mean == pytest.approx(-0.9)
    assert set(row.families) == {"wild"}


def test_unreached_level_is_said_and_has_no_number() -> None:
    results = made(ppo=[[(8.0, 0.1), (9.0, 0.05)]], hpa_tuned=[[(9.0, 0.1), (10.0, 0.01)]])
    row = the(rows(results, LEVELS), "tuned_rule")
    assert row.relative.mean is None
    assert "ppo was measured from 90.00 to 95.00 %" in row.note


def test_what_costs_less_than_perfect_information_is_named() -> None:
    """The made-up proof says two GPU-hours at least for on-time requests, at a price of nothing."""
    honest = made(ppo=[[(2.0, 0.0)]], oracle=[[(2.0, 0.0)]])
    assert impossible(honest) == ()
    (found, *_) = impossible(made(ppo=[[(1.5, 0.0)]], oracle=[[(2.0, 0.0)]]))
    assert (found.policy, found.trace, found.least_gpu_hours) == ("ppo", "calm", 2.0)
    bound = perfect(honest, LEVELS)["0.99"].mean
    assert bound is not None
    assert bound <= 2.0


def test_family_scores_stand_for_their_traces_alone() -> None:
    results = made(ppo=[[(8.0, 0.01), (9.0, 0.001)]])
    scores = family_scores(results, LEVELS)
    assert list(scores) == list(TRACES)
    assert scores["wild"]["ppo"].gpu_hours.mean == pytest.approx(8.0)
    assert scores["wild"]["ppo"].at_attainment["0.99"].mean == pytest.approx(8.0)


def neutral_bundle(seed: int) -> Bundle:
    """Return a bundle of small random weights: close to the controller it moves."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(0.0, 0.3, (len(FIELDS), sum(SIZES))).astype(np.float32)
    return Bundle(
        networks=(((weight, np.zeros(sum(SIZES), dtype=np.float32)),),),
        controller=Controller(z=1.0, conformal=False),
        config={},
        seeds={"training": seed},
        trace_hashes={},
        commit="unknown",
        card={},
    )


@pytest.fixture(scope="module")
def folder(small: CompareConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the result of a comparison of two trainings of one policy."""
    bundles = (neutral_bundle(0), neutral_bundle(1))
    asked = replace(small, policies=("ppo", "queueing", "oracle"), bundles=bundles)
    return compare(asked, tmp_path_factory.mktemp("trained") / "run").parent


@pytest.fixture(scope="module")
def trained(folder: Path) -> Summary:
    return read_summary(folder / "summary.json")


def test_report_shows_references_families_and_trainings(folder: Path, trained: Summary) -> None:
    text = write_report(folder).read_text()
    assert "against each reference" in text
    assert text.count("perfect-information") > 1
    for row in trained.trainings:
        assert row.bundle[:12] in text
    assert "2 seeds, 2 trainings" in text
    assert "BUG" not in text


def test_terminal_shows_the_rows_and_shouts_at_the_impossible(
    trained: Summary, capsys: pytest.CaptureFixture[str]
) -> None:
    print_rows(trained)
    shown = capsys.readouterr().out
    measured = [row for row in trained.rows if row.relative.mean is not None]
    assert all(row.against in shown for row in measured)
    assert ("no attainment in common" in shown) == (not measured)
    assert all(row.note in shown for row in trained.rows)
    assert "ppo by family" in shown
    assert "BUG" not in shown
    bug = Impossible(
        policy="ppo", setting="s", trace="slow", seed=0, gpu_hours=1.0, least_gpu_hours=2.0
    )
    print_rows(trained.model_copy(update={"impossible": (bug,)}))
    assert "BUG: ppo (s) took 1.000 GPU-hours on slow" in capsys.readouterr().out


def test_terminal_shows_a_row_only_where_there_is_a_number(
    trained: Summary, capsys: pytest.CaptureFixture[str]
) -> None:
    known = {"relative": {"mean": -0.1, "ci95": (-0.2, 0.05)}, "against": "hpa-tuned"}
    (first, *_) = trained.rows
    row = Row.model_validate({**first.model_dump(), **known})
    unknown = Row.model_validate(
        {
            **first.model_dump(),
            "relative": {"mean": None, "ci95": (None, None)},
            "against": "nobody",
        }
    )
    print_rows(trained.model_copy(update={"rows": (row, unknown)}))
    shown = capsys.readouterr().out
    assert "-10.0 %" in shown
    assert "-20.0 to +5.0" in shown
    assert "nobody" not in shown


def test_every_training_has_its_row_and_the_policy_is_their_mean(trained: Summary) -> None:
    assert [row.seeds["training"] for row in trained.trainings] == [0, 1]
    alone = [row.gpu_hours.mean or 0.0 for row in trained.trainings]
    assert trained.policies["ppo"].gpu_hours.mean == pytest.approx(np.mean(alone))


def test_nothing_in_the_world_beats_perfect_information(trained: Summary) -> None:
    assert trained.impossible == ()
    for level, least in trained.perfect.items():
        assert least.mean is not None
        assert least.mean > 0.0
        for cost in trained.at_attainment[level].values():
            assert cost is None or cost >= least.mean


def test_one_training_given_twice_is_refused(small: CompareConfig, tmp_path: Path) -> None:
    twice = (neutral_bundle(0), neutral_bundle(0))
    with pytest.raises(InputInvalid, match="bundles"):
        compare(replace(small, policies=("ppo",), bundles=twice), tmp_path / "run")
