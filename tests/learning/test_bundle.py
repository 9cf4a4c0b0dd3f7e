"""A bundle is one whole file, loads what was saved, and refuses what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gpupilot_agent import bundle as bundles
from gpupilot_agent.bundle import Bundle
from gpupilot_envs.actions import CHOICES, SIZES
from gpupilot_envs.errors import BundleRefused, OutputRefused
from gpupilot_envs.observation import FIELDS, HIGH, LOW

MakeBundle = Callable[[int], Bundle]


def _observations(n: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(LOW, HIGH, (n, len(FIELDS))).astype(np.float32)


def test_what_is_loaded_is_what_was_saved(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "policy.npz"
    bundles.save(bundle, path)
    loaded = bundles.load(path)
    assert loaded.sha256 == bundle.sha256
    assert loaded.controller == bundle.controller
    assert loaded.card == bundle.card
    seen = _observations(200)
    assert (loaded.logits(seen) == bundle.logits(seen)).all()


@pytest.mark.parametrize("count", [999, 1000])
@pytest.mark.parametrize("networks", [1, 3])
def test_one_service_and_a_thousand_get_the_same_logits(
    bundle: Bundle, count: int, networks: int
) -> None:
    """Bit for bit: how many services are decided together must not matter."""
    bundle = replace(bundle, networks=bundle.networks * networks)
    seen = _observations(count)
    together = bundle.logits(seen)
    alone = np.concatenate([bundle.logits(seen[i : i + 1]) for i in range(len(seen))])
    assert together.tobytes() == alone.tobytes()


def test_actions_are_the_most_likely_index_of_each_axis(bundle: Bundle) -> None:
    seen = _observations(50)
    logits, actions = bundle.logits(seen), bundle.act(seen, np.ones((50, CHOICES), dtype=np.bool_))
    at = 0
    for axis, size in enumerate(SIZES):
        assert (actions[:, axis] == logits[:, at : at + size].argmax(axis=1)).all()
        at += size
    assert len(np.unique(actions, axis=0)) > 3


def test_several_networks_decide_by_their_mean(bundle: Bundle, make_bundle: MakeBundle) -> None:
    seen = _observations(50)
    other = make_bundle(7)
    both = replace(bundle, networks=(*bundle.networks, *other.networks))
    mean = (bundle.logits(seen) + other.logits(seen)) / 2
    assert both.logits(seen) == pytest.approx(mean, abs=1e-6)
    assert both.sha256 not in {bundle.sha256, other.sha256}


def test_the_digest_names_what_decides_and_not_the_card(bundle: Bundle) -> None:
    assert replace(bundle, card={"other": 1}, commit="abc").sha256 == bundle.sha256
    stricter = replace(bundle.controller, z=bundle.controller.z + 0.1)
    assert replace(bundle, controller=stricter).sha256 != bundle.sha256


def test_what_is_masked_is_never_chosen(bundle: Bundle) -> None:
    seen = _observations(200)
    rng = np.random.default_rng(0)
    masks = rng.random((200, CHOICES)) < 0.4
    for start in np.cumsum([0, *SIZES[:-1]]):
        masks[:, start] = True
    actions = bundle.act(seen, masks) + np.cumsum([0, *SIZES[:-1]])
    assert np.take_along_axis(masks, actions, axis=1).all()


def test_the_price_rises_with_the_objective_and_stays_beyond_what_is_known(
    bundle: Bundle,
) -> None:
    known = replace(bundle, prices=((0.9, 3.0), (0.99, 30.0)))
    prices = [known.price(ratio) for ratio in (0.5, 0.9, 0.97, 0.99, 0.9999)]
    assert prices == sorted(prices)
    assert prices[:2] == pytest.approx([3.0, 3.0])
    assert prices[3:] == pytest.approx([30.0, 30.0])
    assert replace(bundle, prices=()).price(0.99) == pytest.approx(25.0)


def _tampered(bundle: Bundle) -> list[tuple[str, Bundle]]:
    (network,) = bundle.networks
    (weight, bias), *rest = network
    broken = weight.copy()
    broken[0, 0] = np.nan
    return [
        ("observation schema", replace(bundle, schema="0" * 64)),
        ("action table", replace(bundle, actions=bundle.actions[:-1])),
        ("does not follow", replace(bundle, networks=(((weight[1:], bias), *rest),))),
        ("not a finite number", replace(bundle, networks=(network, ((broken, bias), *rest)))),
        ("outputs", replace(bundle, networks=(network[:-1],))),
        ("0 networks", replace(bundle, networks=())),
        ("6 networks", replace(bundle, networks=bundle.networks * 6)),
    ]


@pytest.mark.parametrize("which", range(7))
def test_a_bundle_that_does_not_fit_is_refused(bundle: Bundle, tmp_path: Path, which: int) -> None:
    sentence, wrong = _tampered(bundle)[which]
    path = tmp_path / "wrong.npz"
    bundles.save(wrong, path)
    with pytest.raises(BundleRefused, match=sentence) as refused:
        bundles.load(path)
    assert "\n" not in str(refused.value)


def test_no_changed_byte_changes_the_policy_unnoticed(bundle: Bundle, tmp_path: Path) -> None:
    """A byte of the weights or tables is noticed; one of the archive's time stamps is harmless."""
    path = tmp_path / "policy.npz"
    bundles.save(bundle, path)
    whole = path.read_bytes()
    refused = 0
    positions = np.random.default_rng(0).choice(len(whole), 300, replace=False)
    for position in positions.tolist():
        changed = bytearray(whole)
        changed[position] ^= 0x20
        path.write_bytes(changed)
        try:
            loaded = bundles.load(path)
        except BundleRefused:
            refused += 1
        else:
            assert loaded.sha256 == bundle.sha256
            assert loaded.card == bundle.card
    assert refused > 0.8 * len(positions)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _other_npz(path: Path) -> None:
    np.savez(path, weights=np.zeros(3))


def _text(path: Path) -> None:
    path.write_text("not a bundle", encoding="utf-8")


@pytest.mark.parametrize("spoil", [_truncate, _other_npz, _text, Path.unlink])
def test_a_damaged_or_missing_file_is_refused_in_a_sentence(
    bundle: Bundle, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    path = tmp_path / "policy.npz"
    bundles.save(bundle, path)
    spoil(path)
    with pytest.raises(BundleRefused) as refused:
        bundles.load(path)
    assert str(path) in str(refused.value)


def test_saving_onto_a_folder_is_refused_and_leaves_nothing(bundle: Bundle, tmp_path: Path) -> None:
    target = tmp_path / "folder.npz"
    target.mkdir()
    with pytest.raises(OutputRefused):
        bundles.save(bundle, target)
    assert list(tmp_path.iterdir()) == [target]
