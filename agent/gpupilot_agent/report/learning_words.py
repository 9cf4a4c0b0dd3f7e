"""The words of the learning report: what was learned, on what, and what it cannot tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

from gpupilot_agent.report.learning_map import BUDGETS, LOADS, TRENDS, PolicyMap
from gpupilot_agent.report.learning_reading import Learning, Trained
from gpupilot_envs.actions import AXES

NONE = "&ndash;"

Row = Sequence[str]


def headline(learning: Learning) -> str:
    """Return the one sentence: what is saved, how surely, over how many seeds."""
    found, count = learning.saving, len(learning.seeds)
    if found.mean is None:
        return "The policy cannot be compared with the classical controller at equal attainment"
    if all(trained.bundle.card["frames"] == 0 for trained in learning.seeds):
        return "Training found nothing better than the classical controller: that was kept"
    saved = f"{percent(found.mean)} of GPU time saved at equal attainment on validation"
    if found.ci95 is None:
        return f"{saved}, one seed"
    low, high = found.ci95
    return f"{saved}, mean of {count} seeds (95 %: {percent(low)} to {percent(high)})"


def facts(learning: Learning) -> list[tuple[str, str]]:
    """Return what was trained, for the first screen."""
    config = learning.config
    objectives = ", ".join(f"{100 * ratio:g}" for ratio in learning.objectives)
    return [
        ("Seeds", ", ".join(str(trained.seed) for trained in learning.seeds)),
        ("Service-decisions", f"{learning.frames[-1] / 1e6:.3g} million each"),
        ("Services", ", ".join(config["profiles"])),
        ("Objectives", f"{objectives} % within {_latencies(config)}"),
        ("Traffic", _traffic(learning)),
    ]


def findings(learning: Learning, found: PolicyMap) -> list[str]:
    """Return what the curves and the map say, in sentences."""
    best = learning.best
    said = [_progress(trained) for trained in learning.seeds]
    lines = [
        f"Seed {best.seed} did best on validation and was kept: {_saved(best)}. "
        "It was chosen by this number, so expect the mean of the seeds."
        if len(learning.seeds) > 1
        else f"The best validation came after {_million(best.bundle.card['frames'])} of "
        f"{_million(learning.frames[-1])} million service-decisions.",
        *(line for line in said if line),
        *_moves(found),
    ]
    if learning.saving.missing:
        lines.append(f"{learning.saving.missing} seeds have no comparable attainment.")
    return lines


def seeds_table(learning: Learning) -> str:
    """Return one row per seed."""
    rows = [
        (
            str(trained.seed) + (" (kept)" if trained is learning.best else ""),
            _saved(trained),
            _cost(trained, "validation", learning),
            _cost(trained, "classical", learning),
            f"{trained.bundle.card['frames']:,}",
            f"{trained.bundle.card['seconds']:.0f}",
        )
        for trained in learning.seeds
    ]
    head = ("seed", "saved", "cost at objective", "classical", "found at frame", "seconds")
    return table(head, rows)


def card_table(trained: Trained) -> str:
    """Return both frontiers of the evaluation card."""
    rows: list[Row] = []
    for name, knob in (("validation", "price"), ("classical", "margin shift")):
        trade = trained.frontier(name)
        rows += [
            (
                "learned" if name == "validation" else "classical",
                f"{knob} {value:g}",
                f"{100 * (1 - score.late_ratio):.3f} %",
                f"{score.cost_ratio:.4f}",
            )
            for value, score in zip(trade.knobs, trade.scores, strict=True)
        ]
    return table(("controller", "setting", "in time", "GPU time / mean demand"), rows)


def slices_table(trained: Trained) -> str:
    """Return where the policy stands against its own controller, slice by slice."""
    rows = [
        (
            escape(row["name"]),
            str(row["services"]),
            f"{100 * (1 - row['classical_late_ratio']):.2f} %",
            f"{100 * (1 - row['late_ratio']):.2f} %",
            f"{row['classical_cost_ratio']:.3f}",
            f"{row['cost_ratio']:.3f}",
            NONE if row["difference"] is None else percent(row["difference"]),
            NONE if row["low"] is None else f"{percent(row['low'])} to {percent(row['high'])}",
        )
        for row in trained.bundle.card.get("slices", ())
    ]
    both = ("in time, classical", "learned", "cost, classical", "learned")
    return table(("services", "number", *both, "at equal attainment", "95 % interval"), rows)


def regrets_table(trained: Trained) -> str:
    """Return on which services the curriculum still found the classical controller ahead."""
    rows = [
        (escape(row["name"]), str(row["kept"]), f"{row['regret']:+.3f}")
        for row in trained.bundle.card.get("curriculum", ())
    ]
    return table(("services", "kept", "regret"), rows) if rows else "No curriculum."


def config_table(learning: Learning) -> str:
    """Return the configuration, the folder it was written to left out."""
    config = {name: value for name, value in learning.config.items() if name != "out"}
    return table(("setting", "value"), [(k, f"<code>{v}</code>") for k, v in _flat(config)])


def hashes_table(learning: Learning) -> str:
    """Return what identifies policies, code and traffic."""
    rows = [
        (f"policy, seed {trained.seed}", f"<code>{trained.bundle.sha256}</code>")
        for trained in learning.seeds
    ]
    bundle = learning.best.bundle
    rows += [
        ("observation schema", f"<code>{bundle.schema}</code>"),
        ("commit", f"<code>{escape(bundle.commit)}</code>"),
        *((escape(k), f"<code>{escape(v)}</code>") for k, v in bundle.trace_hashes.items()),
    ]
    return table(("what", "SHA-256"), rows)


def limits(learning: Learning) -> list[str]:
    """Return what these numbers cannot tell."""
    lines = [
        "All numbers are of the interval-level fleet: fast, fitted, and not for publication. "
        "What a policy is worth is measured request by request: gpupilot compare.",
        "The best policy is picked by the same validation that scores it, so its score flatters "
        "it a little; validation traffic is never trained on.",
        "The map changes load, trend and budget by themselves. Where they do not occur together, "
        "it shows what the network would say, not what it was trained for.",
    ]
    if len(learning.seeds) < 5:
        lines.append(f"{len(learning.seeds)} of the 5 or more seeds that tell a method's spread.")
    return lines


def table(head: Row, rows: Iterable[Row]) -> str:
    """Return an HTML table; cells are HTML already."""
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def percent(share: float) -> str:
    """Return a change as people read it."""
    return f"{100 * share:+.2f} %"


def _saved(trained: Trained) -> str:
    return "off the scale" if trained.saving is None else percent(trained.saving)


def _cost(trained: Trained, name: str, learning: Learning) -> str:
    allowed = 1.0 - float(learning.config["attainment_ratio"])
    cost = float(trained.frontier(name).cost(np.log(allowed)))
    return f"{cost:.4f}" if np.isfinite(cost) else "not reached"


def _progress(trained: Trained) -> str:
    """Return a sentence on a seed that had stopped getting better long before its end."""
    found = trained.bundle.card["frames"]
    if found == 0:
        return f"Seed {trained.seed} found nothing better than where it began."
    if found > 0.5 * trained.rows[-1]["frames"]:
        return ""
    return f"Seed {trained.seed} found its best in the first half and got no better after it."


def _moves(found: PolicyMap) -> list[str]:
    """Return, per budget, in how much of the map the policy leaves the classical controller."""
    lines = []
    here, level = int(np.abs(LOADS - 0.9).argmin()), int(np.abs(TRENDS).argmin())
    for budget, (_, called) in enumerate(BUDGETS):
        share = float(found.changed[budget].mean())
        moves = found.moves[:, budget, level, here]
        strongest = int(np.abs(moves).argmax())
        lines.append(
            f"Budget {called}: over the map it moves the classical controller in "
            f"{100 * share:.0f} % of the cases; at {100 * LOADS[here]:.0f} % load and level "
            f"traffic most on {AXES[strongest].name}, {'up' if moves[strongest] > 0 else 'down'}."
            if share > 0.0
            else f"Budget {called}: it is the classical controller."
        )
    return lines


def _million(frames: float) -> str:
    return f"{frames / 1e6:.3g}"


def _latencies(config: dict[str, Any]) -> str:
    ratios = config.get("latency_ratios")
    if ratios:
        return ", ".join(f"{ratio:g}" for ratio in ratios) + " times a lone request's latency"
    targets = config.get("latencies_ms") or [config["target_ms"]]
    return ", ".join(f"{ms:g}" for ms in targets) + " ms"


def _traffic(learning: Learning) -> str:
    names = learning.best.bundle.trace_hashes
    trained = sum(name.startswith("train/") for name in names)
    return f"{trained} traces, {len(names) - trained} others to validate"


def _flat(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in tree.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((escape(prefix + name), escape(str(value))))
    return rows
