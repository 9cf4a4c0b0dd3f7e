"""The report of a training says what was learned, and needs nothing but itself."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from gpupilot_agent import training
from gpupilot_agent.bundle import Bundle
from gpupilot_agent.report.figure_learning import curves_figure
from gpupilot_agent.report.learning import REPORT, write_learning_report
from gpupilot_agent.report.learning_map import BUDGETS, LOADS, TRENDS, moved, policy_map, supposed
from gpupilot_agent.report.learning_reading import Learning, Trained, read_learning
from gpupilot_agent.report.learning_words import headline
from gpupilot_agent.training import BUNDLE, LOG, train
from gpupilot_agent.training_config import PpoSettings, TrainConfig
from gpupilot_agent.training_data import Material
from gpupilot_agent.training_sample import SAMPLE, Sample
from gpupilot_envs.actions import CHOICES, NEUTRAL, SIZES
from gpupilot_envs.errors import BundleRefused, InputInvalid
from gpupilot_envs.observation import FIELDS, HIGH, LOW
from gpupilot_envs.scenarios import Scenarios

MakeScenarios = Callable[..., Scenarios]

AT = {field.name: index for index, field in enumerate(FIELDS)}


@pytest.fixture(scope="module")
def seeds(
    tmp_path_factory: pytest.TempPathFactory, make_scenarios: MakeScenarios
) -> dict[int, Path]:
    """Return two small trainings by their seeds."""
    scenarios = make_scenarios()
    material = Material(train=scenarios, validation=scenarios, trace_hashes={"train/a<b": "0" * 64})
    folder = tmp_path_factory.mktemp("trained")
    config = TrainConfig(
        out=folder,
        services=16,
        copies=4,
        frames=1024,
        validate_every=1,
        validation_services=12,
        validation_steps=40,
        ppo=PpoSettings(n_steps=16, batch_size=256, hidden=8, critic_updates=1),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "prepare", lambda _config, _traffic: material)
        return {
            seed: train(replace(config, seed=seed, out=folder / f"seed-{seed}")).parent
            for seed in (3, 11)
        }


@pytest.fixture
def several(seeds: dict[int, Path], tmp_path: Path) -> Path:
    for seed, folder in seeds.items():
        shutil.copytree(folder, tmp_path / f"seed-{seed}")
    return tmp_path


class Page(HTMLParser):
    """Collects every address a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        named = ("src", "href", "xlink:href", "data", "action")
        self.addresses += [value or "" for name, value in attrs if name in named]


def check(html: str) -> None:
    """Fail where the page needs anything beside itself, or is broken."""
    page = Page()
    page.feed(html)
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in page.addresses)
    assert not page.tags & {"script", "link", "iframe", "object"}
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)", html))
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", html, flags=re.DOTALL).lower().split()


def test_one_seed_has_a_report(seeds: dict[int, Path], tmp_path: Path) -> None:
    folder = tmp_path / "one"
    shutil.copytree(seeds[3], folder)
    written = write_learning_report(folder)
    assert written == folder / REPORT
    html = written.read_text(encoding="utf-8")
    check(html)
    learning = read_learning(folder)
    assert learning.saving.ci95 is None
    for said in ("One seed.", "Budget used up", "train/a&lt;b", "margin shift", "classical"):
        assert said in html
    assert learning.best.bundle.sha256 in html
    assert html.count("<svg") == 4


def test_several_seeds_are_told_together(several: Path) -> None:
    html = write_learning_report(several).read_text(encoding="utf-8")
    check(html)
    assert write_learning_report(several).read_text(encoding="utf-8") == html
    learning = read_learning(several)
    assert [trained.seed for trained in learning.seeds] == [3, 11]
    assert learning.saving.ci95 is not None
    for trained in learning.seeds:
        assert trained.bundle.sha256 in html
    assert "2 of the 5 or more seeds" in html
    assert "(kept)" in html


def _told(bundle: Bundle, savings: dict[float, int]) -> str:
    """Return the headline over seeds that saved so much, found at such a frame."""
    return headline(
        Learning(
            seeds=tuple(
                Trained(
                    bundle=replace(
                        bundle, card={"saving_at_equal_attainment": saved, "frames": at}
                    ),
                    rows=(),
                    sample=_sample(),
                )
                for saved, at in savings.items()
            )
        )
    )


def test_the_headline_says_how_sure_it_is(bundle: Bundle) -> None:
    assert _told(bundle, {0.05: 9}).startswith("+5.00 % of GPU time saved")
    assert _told(bundle, {0.05: 9}).endswith("one seed")
    assert "mean of 3 seeds (95 %: -0.4" in _told(bundle, {0.01: 9, 0.02: 9, 0.03: 9})
    assert "nothing better than the classical" in _told(bundle, {0.0: 0})


def test_seeds_that_stopped_early_still_have_a_mean(several: Path) -> None:
    log = several / "seed-11" / LOG
    log.write_text("\n".join(log.read_text().splitlines()[:-2]) + "\n", encoding="utf-8")
    learning = read_learning(several)
    curves_figure(learning)
    lengths = [len(trained.rows) for trained in learning.seeds]
    both = learning.together([trained.column("frames") for trained in learning.seeds])
    assert len(both) == max(lengths)
    assert [found.ci95 is not None for found in both] == [
        k < min(lengths) for k in range(len(both))
    ]


def test_what_is_no_training_is_named(several: Path, tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="no training"):
        read_learning(tmp_path / "nowhere")
    (several / "seed-3" / SAMPLE).write_bytes(b"PK")
    with pytest.raises(InputInvalid, match=SAMPLE):
        write_learning_report(several)
    (several / "seed-3" / BUNDLE).write_bytes(b"")
    with pytest.raises(BundleRefused, match=BUNDLE):
        write_learning_report(several)


def test_a_log_that_is_damaged_is_named(several: Path) -> None:
    (several / "seed-3" / LOG).write_text('{"frames": ', encoding="utf-8")
    with pytest.raises(InputInvalid, match=LOG):
        read_learning(several)
    (several / "seed-3" / LOG).write_text("", encoding="utf-8")
    with pytest.raises(InputInvalid, match="empty"):
        read_learning(several)


def test_moves_are_measured_from_neutral_to_either_end() -> None:
    last = np.array(SIZES) - 1
    assert moved(np.array([NEUTRAL])).tolist() == [[0.0] * len(SIZES)]
    assert moved(last[None, :]).tolist() == [[1.0] * len(SIZES)]
    lowest = [0.0 if neutral == 0 else -1.0 for neutral in NEUTRAL]
    assert moved(np.zeros((1, len(SIZES)), dtype=np.int64)).tolist() == [lowest]


def _constant(bundle: Bundle, chosen: tuple[int, ...]) -> Bundle:
    """Return a policy that always chooses the same."""
    bias = np.zeros(CHOICES, dtype=np.float32)
    bias[np.cumsum([0, *SIZES[:-1]]) + np.array(chosen)] = 1.0
    layer = (np.zeros((len(FIELDS), CHOICES), dtype=np.float32), bias)
    return replace(bundle, networks=((layer,),), familiar=None)


def _sample(count: int = 8) -> Sample:
    random = np.random.default_rng(0)
    return Sample(
        observations=random.uniform(LOW, HIGH, (count, len(FIELDS))).astype(np.float32),
        masks=np.ones((count, CHOICES), dtype=np.bool_),
        actions=np.tile(np.array(NEUTRAL), (count, 1)),
    )


def test_the_map_of_a_known_policy_is_known(bundle: Bundle) -> None:
    same = policy_map(_constant(bundle, NEUTRAL), _sample())
    assert same.moves.shape == (len(SIZES), len(BUDGETS), len(TRENDS), len(LOADS))
    assert not same.moves.any()
    assert not same.changed.any()
    most = policy_map(_constant(bundle, tuple(size - 1 for size in SIZES)), _sample())
    assert (most.moves == 1.0).all()
    assert (most.changed == 1.0).all()


def test_the_map_shows_what_the_policy_depends_on(bundle: Bundle) -> None:
    """A policy that raises the margin when the load is above 0.8 and the budget is used up."""
    weight = np.zeros((len(FIELDS), CHOICES), dtype=np.float32)
    bias = np.zeros(CHOICES, dtype=np.float32)
    weight[AT["load_running"], SIZES[0] - 1] = 1.0
    weight[AT["budget_left"], SIZES[0] - 1] = -10.0
    bias[NEUTRAL[0]] = 0.8
    found = policy_map(replace(bundle, networks=(((weight, bias),),), familiar=None), _sample())
    used_up = found.moves[0, 1]
    assert (used_up[:, LOADS > 0.81] == 1.0).all()
    assert (used_up[:, LOADS < 0.79] == 0.0).all()
    assert not found.moves[0, 0].any()
    assert (found.moves[0, 2] == 1.0).all()


def test_what_is_supposed_moves_all_that_follows_and_stays_in_bounds() -> None:
    seen = _sample(50).observations
    out = supposed(seen, load=0.7, trend=0.5, budget=-1.0)
    assert (out >= LOW).all()
    assert (out <= HIGH).all()
    assert out[:, AT["load_running"]] == pytest.approx(0.7)
    assert out[:, AT["budget_left"]] == pytest.approx(-1.0)
    assert out[:, AT["trend_1_5"]] == pytest.approx(0.5)
    blocks = out[0, AT["rate_block_0"] : AT["rate_block_6"] + 1]
    assert (np.diff(blocks) < 0.0).all()
    untouched = [AT[name] for name in ("cold_start", "objective", "price", "variability_60")]
    assert (out[:, untouched] == seen[:, untouched]).all()
    assert (supposed(seen, load=0.7, trend=0.0, budget=1.0)[:, AT["rate_block_3"]] == 0.0).all()
