"""The policy that ships: small, quick to load, without torch, and described by its page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gpupilot_agent.bundle import Bundle
from gpupilot_agent.card import render
from gpupilot_agent.generalist import generalist_file, load_generalist
from gpupilot_envs.actions import CHOICES
from gpupilot_envs.observation import FIELDS, HIGH, LOW

PAGE = Path(__file__).parents[2] / "docs" / "generalist.md"
SIZE_MAX = 200_000


@pytest.fixture(scope="module")
def generalist() -> Bundle:
    return load_generalist()


def test_it_is_small() -> None:
    assert generalist_file().stat().st_size < SIZE_MAX


def test_it_loads_and_decides_in_a_process_without_torch() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'stable_baselines3', 'gymnasium', 'onnx', 'cryptography'):\n"
        "    sys.modules[name] = None\n"
        "import numpy as np\n"
        "from gpupilot_agent.generalist import load_generalist\n"
        "from gpupilot_envs.actions import CHOICES\n"
        "from gpupilot_envs.observation import FIELDS\n"
        "seen = np.zeros((1, len(FIELDS)), dtype=np.float32)\n"
        "load_generalist().act(seen, np.ones((1, CHOICES), dtype=np.bool_))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_one_service_and_a_thousand_get_the_same_answer(generalist: Bundle) -> None:
    rng = np.random.default_rng(0)
    seen = rng.uniform(LOW, HIGH, (1000, len(FIELDS))).astype(np.float32)
    masks = np.ones((1000, CHOICES), dtype=np.bool_)
    together = generalist.answer(seen, masks)
    for i in range(0, 1000, 50):
        alone = generalist.answer(seen[i : i + 1], masks[:1])
        assert alone.logits.tobytes() == together.logits[i].tobytes()
        assert alone.spreads.tobytes() == together.spreads[i].tobytes()
        assert (alone.actions == together.actions[i]).all()
        assert alone.strange[0] == together.strange[i]


def test_nonsense_is_strange_to_it(generalist: Bundle) -> None:
    rng = np.random.default_rng(1)
    nonsense = rng.uniform(LOW, HIGH, (20_000, len(FIELDS))).astype(np.float32)
    assert generalist.answer(nonsense, np.ones((20_000, CHOICES), dtype=np.bool_)).strange.all()


def test_what_it_was_trained_like_is_hardly_ever_strange_to_it(generalist: Bundle) -> None:
    """As measured when it was built, on services and traffic it was not fitted on."""
    found = generalist.card["familiar"]
    assert found["observations"] > 20_000
    assert found["strange"]
    assert found["strange"]["training, other services"] < 0.01
    assert all(share < 0.05 for share in found["strange"].values())


def test_it_names_no_machine(generalist: Bundle) -> None:
    told = json.dumps([dict(generalist.config), dict(generalist.card)])
    assert re.findall(r'"/[^"]*"', told) == []


def test_its_page_is_its_card(generalist: Bundle) -> None:
    """``gpupilot card > docs/generalist.md`` renews it."""
    assert PAGE.read_text(encoding="utf-8") == render(generalist)


def test_its_page_names_every_family_on_which_it_surely_needs_more_once(
    generalist: Bundle,
) -> None:
    found = re.search(r"Where it surely needs more, at worst: (.*)\.\n", render(generalist))
    assert found is not None
    told = [said.split()[0] for said in found[1].split("; ")]
    surely = {
        family
        for row in generalist.card["results"]["rows"]
        if row["kind"] in ("tuned_queueing", "tuned_predictive")
        for family, metric in row["families"].items()
        if (metric["ci95"][0] or 0.0) > 0.0
    }
    assert sorted(told) == sorted(surely)
