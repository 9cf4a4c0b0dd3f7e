"""Put the shipped policy together from trainings, and write its file and its page.

Usage: ``python scripts/generalist.py BUNDLE... [--judge] [--traces FOLDER] [--summary FILE]``

From one training per seed: the best by its own validation, as it is. With ``--judge``, the best of
three or the mean of the three, whichever saves more on validation services that none was chosen
on, and a box of what it has seen from a larger fleet. With ``--summary`` alone, only the card is
renewed from a comparison; the policy stays.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from gpupilot_agent.acquaintance import acquainted
from gpupilot_agent.bundle import Bundle, load, save
from gpupilot_agent.card import render, results_of
from gpupilot_agent.fleet_validation import Trade, Yardstick, priced_objectives
from gpupilot_agent.generalist import NAME, generalist_file, load_generalist
from gpupilot_agent.results import read_summary
from gpupilot_agent.training_config import TrainConfig
from gpupilot_agent.training_data import Material, prepare
from gpupilot_envs.workload.splits import Split, split_by_day
from gpupilot_envs.workload.trace import read_trace

PAGE = Path(__file__).resolve().parent.parent / "docs" / "generalist.md"
MEMBERS = 3
"""Networks whose mean is tried; more would not decide a thousand services in a millisecond."""

HELD_OUT = ("twitter", "servegen", "azurellm23", "gentd26")
"""Families that nothing is trained on (``benchmarks/compare_real.py``)."""

COARSEST_S = 600.0

SUMMARY = (
    "The policy that ships with gpupilot: one set of weights for every service like those below, "
    "without tuning. It moves the margin, hold, rounding, memory, anchor and horizon of a queueing "
    "controller and the patience of a planner of gears, decision by decision, so as to hold the "
    "fewest GPUs at which the share of requests in time meets the objective."
)


def main() -> None:
    """Build what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", nargs="*", type=Path)
    parser.add_argument("--judge", action="store_true", help="choose on fresh services")
    parser.add_argument("--traces", type=Path, help="folder of recorded rate traces")
    parser.add_argument("--summary", type=Path, help="summary.json of a comparison")
    parser.add_argument("--policy", default=NAME, help="its name in that comparison")
    arguments = parser.parse_args()
    if not arguments.bundles:
        policy = load_generalist()
    else:
        policy = built(arguments) if arguments.judge else chosen(arguments.bundles)
    if arguments.summary is not None:
        results = results_of(read_summary(arguments.summary), arguments.policy)
        policy = replace(policy, card={**policy.card, "results": results})
    policy = replace(policy, card={**policy.card, "summary": SUMMARY})
    save(policy, generalist_file())
    PAGE.write_text(render(policy), encoding="utf-8")


def chosen(paths: Sequence[Path]) -> Bundle:
    """Return the training that saved most on its own validation, as it is."""
    trained = sorted((load(path) for path in paths), key=saving, reverse=True)
    savings = {f"seed {each.seeds['training']}": saving(each) for each in trained}
    world = "interval level, each on validation services of its own that chose its checkpoint"
    return presented(trained[0], f"seed {trained[0].seeds['training']}", savings, world)


def built(arguments: argparse.Namespace) -> Bundle:
    """Return the better of the best training and the mean of the best few, with its box."""
    trained = sorted((load(path) for path in arguments.bundles), key=saving, reverse=True)
    config = config_of(trained[0])
    material = prepare(config, None if arguments.traces is None else recorded(arguments.traces))
    yardstick = Yardstick(
        material.validation,
        trained[0].controller,
        seed=config.seed + 101,
        services=config.validation_services,
        steps=config.validation_steps,
    )
    candidates = {f"seed {each.seeds['training']}": each for each in trained[:MEMBERS]}
    if len(trained) >= MEMBERS:
        candidates[f"mean of the best {MEMBERS}"] = mean_of(trained[:MEMBERS])
    trades = {name: yardstick.trade(each.act) for name, each in candidates.items()}
    savings = {name: yardstick.saving(trade) for name, trade in trades.items()}
    best = max(savings, key=lambda name: savings[name])
    return described(candidates[best], best, trades[best], savings, material, config)


def saving(bundle: Bundle) -> float:
    """Return what a training saved on its own validation, the least where it is unknown."""
    found = bundle.card.get("saving_at_equal_attainment")
    return -1.0 if found is None else float(found)


def mean_of(bundles: Sequence[Bundle]) -> Bundle:
    """Return the policy that decides by the mean of several networks."""
    first = bundles[0]
    hashes = {name: sha for each in bundles for name, sha in each.trace_hashes.items()}
    return replace(
        first,
        networks=tuple(network for each in bundles for network in each.networks),
        seeds={
            f"{role} {number}": seed
            for number, each in enumerate(bundles, 1)
            for role, seed in each.seeds.items()
        },
        trace_hashes=hashes,
        card={
            "frames": sum(each.card["frames"] for each in bundles),
            "seconds": sum(each.card["seconds"] for each in bundles),
        },
    )


def described(
    bundle: Bundle,
    name: str,
    trade: Trade,
    savings: dict[str, float],
    material: Material,
    config: TrainConfig,
) -> Bundle:
    """Return the policy with its prices, its box and its card."""
    prices = priced_objectives(trade, one_kind=False)
    card = {**bundle.card, "validation": asdict(trade)}
    known = acquainted(
        replace(bundle, prices=prices, card=card),
        material.train,
        seed=config.seed + 202,
        services=512,
        steps=480,
    )
    world = "interval level, validation services that no training was chosen on"
    return presented(known, name, savings, world)


def presented(bundle: Bundle, name: str, savings: dict[str, float], world: str) -> Bundle:
    """Return the policy with the card it ships with, and without this machine's paths."""
    plain = {key: value for key, value in bundle.config.items() if key not in ("out", "start")}
    plain["traces"] = [Path(trace).name for trace in plain.get("traces", ())]
    card: dict[str, Any] = {
        "name": NAME,
        "summary": SUMMARY,
        "world": world,
        "frames": bundle.card["frames"],
        "seconds": bundle.card["seconds"],
        "saving_at_equal_attainment": savings[name],
        "validation": bundle.card["validation"],
        "candidates": [
            {"name": each, "saving": found, "taken": each == name}
            for each, found in savings.items()
        ],
        "familiar": bundle.card["familiar"],
        "slices": bundle.card.get("slices", []),
        "curriculum": bundle.card.get("curriculum", []),
    }
    return replace(bundle, config=plain, card=card)


def config_of(bundle: Bundle) -> TrainConfig:
    """Return the configuration a bundle was trained with."""
    plain = {**bundle.config, "out": Path("unused"), "start": None, "traces": ()}
    return TypeAdapter(TrainConfig).validate_python(plain)


def recorded(folder: Path) -> Split:
    """Return the days of recorded traces that training and validation may see."""
    traces = [read_trace(path) for path in sorted(folder.glob("*.parquet"))]
    seen = [t for t in traces if t.family not in HELD_OUT and t.bin_s <= COARSEST_S]
    return replace(split_by_day(seen), test=())


if __name__ == "__main__":
    main()
