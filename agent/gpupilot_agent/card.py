"""The evaluation card of a policy as Markdown: what it is, what it learned from, how it did.

The numbers come from the card in the bundle; nothing is measured here. Event-level numbers are
rows of a comparison (:class:`gpupilot_agent.results.Row`), put into the card when it has been run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gpupilot_agent.bundle import Bundle
from gpupilot_agent.results import Metric, Row, Summary, Training
from gpupilot_envs.actions import AXES
from gpupilot_envs.observation import FIELDS

Cells = Sequence[str]

_CONSTANTS: tuple[tuple[str, str, Callable[[float], float]], ...] = (
    ("demand_scale", "mean demand in replicas", lambda x: 2.0 ** (6.0 * x) - 1.0),
    ("cold_start", "cold start in seconds", lambda x: 180.0 * x),
    ("idle_latency", "latency of a lone request over the target", lambda x: x),
    ("objective", "percent of requests in time", lambda x: 100.0 * (1.0 - 10.0 ** (-4.0 * x))),
)
"""Fields that stay as they are while a service runs, and how to turn them into common units."""

LIMITS = (
    "It decides replicas around a queueing controller; it never leaves that controller's "
    "neighbourhood, and the guardrail restrains it like every other policy.",
    "Interval-level numbers come from the model it was trained on and prove nothing; only the "
    "event-level rows above do, and only for traffic like theirs.",
    "On a service of yours, `gpupilot gate` replays your own recording before it may act.",
)
"""What holds for every policy of this package."""


def results_of(summary: Summary, policy: str) -> dict[str, Any]:
    """Return what a comparison says of one policy, as a card keeps it.

    Args:
        summary: The comparison.
        policy: Name of the policy in it.
    """
    score = summary.policies[policy]
    return {
        "policy": policy,
        "attainment_asked": summary.config["targets"]["attainment_ratio"],
        "attainment_ratio": score.attainment_ratio.model_dump(mode="json"),
        "gpu_hours": score.gpu_hours.model_dump(mode="json"),
        "traces": sorted(summary.traces),
        "families": sorted(summary.families),
        "trainings": [
            training.model_dump(mode="json")
            for training in summary.trainings
            if training.policy == policy
        ],
        "rows": [row.model_dump(mode="json") for row in summary.rows if row.policy == policy],
    }


def render(bundle: Bundle) -> str:
    """Return the card of a bundle as Markdown."""
    card = bundle.card
    parts = [
        f"# Evaluation card: {card.get('name', 'a trained policy')}",
        str(card.get("summary", "A policy that moves a queueing controller.")),
        "## What it is\n\n" + _table(("", ""), _identity(bundle)),
        "## Trained on\n\n" + _table(("", ""), _training(bundle)),
        "## Chosen by\n\n" + _chosen(card),
        "## How it did, event level\n\n" + _event_level(card.get("results"), bundle.sha256),
        "## Slice by slice\n\n" + _by_slice(card),
        "## What it has not seen\n\n" + _familiar(bundle),
        "## Limits\n\n" + "\n".join(f"- {line}" for line in (*card.get("limits", ()), *LIMITS)),
    ]
    return "\n\n".join(parts) + "\n"


def _identity(bundle: Bundle) -> list[Cells]:
    networks = bundle.networks
    numbers = sum(array.size for network in networks for layer in network for array in layer)
    shape = "-".join(str(bias.size) for _, bias in networks[0])
    axes = ", ".join(f"{axis.name} ({len(axis.values)})" for axis in AXES)
    return [
        ("policy", f"`{bundle.sha256}`"),
        ("networks", f"{len(networks)}, {len(FIELDS)} inputs, layers {shape}, {numbers} numbers"),
        ("moves", axes),
        ("around", _settings(bundle.controller)),
        ("observation schema", f"`{bundle.schema[:16]}`"),
        ("code", f"`{bundle.commit}`"),
    ]


def _settings(controller: object) -> str:
    names = type(controller).__dataclass_fields__  # type: ignore[attr-defined]
    shown = ((name, getattr(controller, name)) for name in names)
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in shown
    )


def _training(bundle: Bundle) -> list[Cells]:
    config, card = bundle.config, bundle.card
    roles = Counter(name.partition("/")[0] for name in bundle.trace_hashes)
    rows = [
        ("services", ", ".join(map(str, config.get("profiles", ())))),
        ("traces", ", ".join(f"{count} for {role}" for role, count in sorted(roles.items()))),
        ("seeds", ", ".join(f"{name} {seed}" for name, seed in bundle.seeds.items())),
        ("decisions", f"{card['frames']:,}" if "frames" in card else ""),
        ("seconds", f"{card['seconds']:.0f}" if "seconds" in card else ""),
    ]
    return [row for row in rows if row[1]]


def _chosen(card: Mapping[str, Any]) -> str:
    where = str(card.get("world", "not recorded"))
    rows = [
        (
            str(candidate["name"]),
            "-" if candidate["saving"] is None else f"{100 * candidate['saving']:+.2f} %",
            "taken" if candidate.get("taken") else "",
        )
        for candidate in card.get("candidates", ())
    ]
    if not rows:
        saving = card.get("saving_at_equal_attainment")
        told = "off the scale" if saving is None else f"{100 * saving:+.2f} %"
        return (
            f"GPU time saved against the classical controller at equal attainment, {where}: {told}."
        )
    head = f"GPU time saved against the classical controller at equal attainment, {where}."
    return f"{head}\n\n" + _table(("candidate", "saved", ""), rows)


def _event_level(results: Mapping[str, Any] | None, sha256: str) -> str:
    if not results:
        return "Not measured yet. `gpupilot compare` measures it."
    attainment = Metric.model_validate(results["attainment_ratio"])
    rows = [Row.model_validate(row) for row in results["rows"]]
    measured = [row for row in rows if row.relative.mean is not None]
    head = (
        f"{len(results['traces'])} traces of {len(results['families'])} families "
        f"({', '.join(results['families'])}); asked for "
        f"{100 * results['attainment_asked']:g} % in time, delivered "
        f"{_percent(attainment.mean)} %, mean of all trainings. GPU-hours at equal attainment, "
        "below 0 % it needs less; 95 % intervals over traces and seeds."
    )
    columns = ("against", "at %", "difference", "95 % interval", "verdict")
    return "\n\n".join(
        [
            head,
            _alone(results, sha256),
            _table(columns, [_row(row) for row in measured]),
            _by_family(measured),
        ]
    )


def _alone(results: Mapping[str, Any], sha256: str) -> str:
    """Return what the rows are of, and what this training did by itself."""
    trainings = [Training.model_validate(each) for each in results["trainings"]]
    own = [each for each in trainings if each.bundle == sha256]
    if not own:
        return "The rows are of other trainings by the same recipe, not of this one."
    level = f"{results['attainment_asked']:g}"
    costs = [
        "-" if found is None else f"{found:.3g}"
        for found in (each.at_attainment[level].mean for each in (own[0], *trainings))
    ]
    return (
        f"The rows are of {len(trainings)} trainings by the same recipe, this one among them. By "
        f"itself it delivered {_percent(own[0].attainment_ratio.mean)} % and takes {costs[0]} "
        f"GPU-hours a run at {100 * results['attainment_asked']:g} %; each training: "
        f"{', '.join(costs[1:])}."
    )


def _row(row: Row) -> Cells:
    what = f"{row.against}, late requests" if row.kind == "bursts" else row.against
    where = "" if row.attainment is None else _percent(row.attainment)
    return what, where, _change(row.relative), _interval(row.relative), _verdict(row.relative)


def _by_family(rows: Iterable[Row]) -> str:
    found = [
        (family, row, metric)
        for row in rows
        if row.kind in ("tuned_queueing", "tuned_predictive")
        for family, metric in row.families.items()
        if metric.mean is not None
    ]
    if not found:
        return ""
    lines = [
        (family, row.against, _percent(row.attainment), _change(metric), _interval(metric))
        for family, row, metric in found
    ]
    columns = ("family", "against", "at %", "difference", "95 % interval")
    return "\n\n".join(part for part in (_table(columns, lines), _lost(found)) if part)


def _lost(found: Iterable[tuple[str, Row, Metric]]) -> str:
    """Return the families on which it surely needs more, each once, where it is worst."""
    surely = [each for each in found if _verdict(each[2]) == "more"]
    worst: dict[str, str] = {}
    for family, row, metric in sorted(surely, key=lambda each: each[2].mean or 0.0, reverse=True):
        said = f"{_change(metric)} against {row.against} at {_percent(row.attainment)} %"
        worst.setdefault(family, said)
    told = "; ".join(f"{family} {said}" for family, said in worst.items())
    return f"Where it surely needs more, at worst: {told}." if told else ""


def _by_slice(card: Mapping[str, Any]) -> str:
    """Return how it does against its own controller on every slice of validation services."""
    rows = [
        (
            str(row["name"]),
            str(row["services"]),
            _percent(1.0 - row["classical_late_ratio"]),
            _percent(1.0 - row["late_ratio"]),
            "-" if row["difference"] is None else f"{100 * row['difference']:+.1f} %",
            "-" if row["low"] is None else f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f} %",
        )
        for row in card.get("slices", ())
    ]
    if not rows:
        return "Not measured."
    head = (
        "Against its own classical controller on the same validation services, interval level: "
        "late requests of both at the same prices, then GPU time at equal attainment; below 0 % it "
        "needs less; 95 % bootstrap intervals over services."
    )
    columns = (
        "services",
        "number",
        "in time %, classical",
        "in time %",
        "at equal attainment",
        "95 % interval",
    )
    return f"{head}\n\n" + _table(columns, rows)


def _familiar(bundle: Bundle) -> str:
    found = bundle.card.get("familiar")
    if not found:
        return "It does not know what it has not seen: train it again with this version."
    rows = [(str(name), f"{100 * share:.3f} %") for name, share in found.get("strange", {}).items()]
    head = (
        f"{found['observations']:,} training observations bound what it has seen. Where an "
        "observation lies outside, the classical controller decides and the reason says "
        "`OutOfDistribution`. Share of decisions called strange:"
    )
    kinds = "It knows services of these kinds; any other one gets the classical controller:"
    return "\n\n".join(
        [
            head,
            _table(("traffic", "strange"), rows),
            kinds,
            _table(("", "from", "to"), _kinds(bundle)),
        ]
    )


def _kinds(bundle: Bundle) -> list[Cells]:
    """Return the range of what does not change while a service runs, in a person's units."""
    familiar = bundle.familiar
    if familiar is None:
        return []
    at = {field.name: index for index, field in enumerate(FIELDS)}
    return [
        (what, *(f"{unit(float(side[at[name]])):.3g}" for side in (familiar.low, familiar.high)))
        for name, what, unit in _CONSTANTS
    ]


def _verdict(metric: Metric) -> str:
    low, high = metric.ci95
    if low is None or high is None:
        return ""
    return "less" if high < 0.0 else "more" if low > 0.0 else "no difference shown"


def _change(metric: Metric) -> str:
    return "-" if metric.mean is None else f"{100 * metric.mean:+.1f} %"


def _interval(metric: Metric) -> str:
    low, high = metric.ci95
    return "-" if low is None or high is None else f"{100 * low:+.1f} to {100 * high:+.1f} %"


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{100 * ratio:.4g}"


def _table(columns: Cells, rows: Iterable[Cells]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
