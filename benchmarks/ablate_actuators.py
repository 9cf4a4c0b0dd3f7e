"""What each actuator buys: replicas only, GPU share or CPU limit, batching and instances, and all.

    python benchmarks/ablate_actuators.py --profile mobilenetv4-cpu --size 2 [--seconds 300]

Every arm is one controller with one set of actuators, in the same number of settings. A *static*
arm is given the one gear that was cheapest on training traffic, once and offline, and then moves
replicas alone: what it saves is right-sizing, not control. *Planned* arms change gears at run time.
Costs are read at equal attainment from all settings of an arm, on generated traffic and, where
``GPUPILOT_DATA`` is there, on test days of real traces that nothing was tuned on; intervals are
bootstrapped over traces and seeds of the arrivals. Costs are GPU time, core time for a CPU service,
and joules, starting pods included. Scores are kept: an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from actuator_arms import REFERENCE, Arm, Score, arms, play, setting
from numpy.typing import NDArray

from gpupilot_agent.bundle import load
from gpupilot_agent.comparison import building
from gpupilot_agent.comparison.fingerprint import fingerprint
from gpupilot_agent.comparison.scene import Scene
from gpupilot_agent.comparison.traffic import Piece
from gpupilot_agent.evaluation import Design, Estimate
from gpupilot_agent.frontier import Frontier
from gpupilot_agent.generalist import load_generalist
from gpupilot_agent.tracking import digest
from gpupilot_envs.atomic import write_text
from gpupilot_envs.embedded import find_profile
from gpupilot_envs.gears import Gear
from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.objective import restart_gpu_seconds
from gpupilot_envs.workload.splits import demo_traffic, split_by_day
from gpupilot_envs.workload.trace import DAY_S, RateTrace, read_trace

Floats = NDArray[np.float64]

WARM_UP_S = 600.0
SCORED_S = 1200.0
SEEDS = (1, 2)
LEVELS = (0.99, 0.995)
LIMITS = Limits(replicas_max=256, step_up_max=256, step_down_max=256)
START_TRIALS = 3
"""Settings of a static arm in which its gear is chosen."""

PAUSED = 75
"""Exit code when the time is up and runs are left, ``EX_TEMPFAIL`` of ``sysexits.h``."""

COARSEST_S = 60.0
"""Longest bin of a real trace: a stretch of twenty minutes is to hold some."""

NOT_REACHED = "not reached"


class TimeUp(Exception):
    """The time of this run is used up."""


class Kept:
    """Scores on disk by what determined them, so that a run can go on where it stopped."""

    def __init__(self, path: Path, seconds: float) -> None:
        """Read what is there; after ``seconds`` nothing new is played."""
        self._path, self._until_s = path, time.monotonic() + seconds
        self._code = fingerprint(building.__name__)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:  # a run that was killed left half a line
            write_text(path, whole)
        self._known = {key: Score(**score) for key, score in map(json.loads, whole.splitlines())}

    def score(
        self, scene: Scene, arm: Arm, start: Gear, params: dict[str, float], piece: Piece, seed: int
    ) -> Score:
        """Return the score of a run, run now if it was not before.

        Raises:
            TimeUp: It was not, and the time is used up.
        """
        key = digest(
            {
                "code": self._code,
                "scene": scene.identity(),
                "policy": [arm.policy, sorted(params.items())],
                **({} if arm.bundle is None else {"bundle": arm.bundle.sha256}),
                "start": asdict(start.allocation),
                "menu": None if arm.menu is None else repr(arm.menu.rows().tolist()),
                "piece": [piece.origin_sha256, piece.window(), seed],
            }
        )
        if key not in self._known:
            if time.monotonic() > self._until_s:
                raise TimeUp
            self._known[key] = play(scene, arm, start, params, piece, seed)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([key, asdict(self._known[key])]) + "\n")
        return self._known[key]


def chosen_start(scene: Scene, arm: Arm, pieces: Sequence[Piece], kept: Kept, count: int) -> Gear:
    """Return the gear in which an arm is cheapest on training traffic, changes of pods counted."""
    if len(arm.starts) == 1:
        return arm.starts[0]
    settings = arm.settings(count)[:START_TRIALS]

    def cost(start: Gear) -> float:
        found = []
        for params in settings:
            scores = [kept.score(scene, arm, start, params, piece, 0) for piece in pieces]
            in_time = sum(score.in_time for score in scores)
            met = in_time >= scene.targets.attainment_ratio * sum(s.requests for s in scores)
            spent_s = sum(s.cost_s + restart_gpu_seconds(s.restarts) for s in scores)
            found.append(spent_s if met else math.inf)
        return min(found)

    return min(arm.starts, key=cost)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """An arm's frontiers on the test traffic, in cost and in energy, every setting played.

    Attributes:
        gear: What it ran with, in words.
        cost: GPU-seconds, or core-seconds, of a run.
        energy: Joules of a run.
        attained: Share in time of each setting.
        restarts: Pods replaced per hour in each setting.
        run_s: Scored seconds of a run.
    """

    gear: str
    cost: Frontier
    energy: Frontier
    attained: Floats
    restarts: Floats
    run_s: float

    @classmethod
    def of(
        cls, scene: Scene, arm: Arm, start: Gear, pieces: Sequence[Piece], kept: Kept, count: int
    ) -> Measured:
        """Play every setting of an arm on the test traffic."""
        cells = [(piece, seed) for piece in pieces for seed in SEEDS]
        rows = [
            [kept.score(scene, arm, start, params, *cell) for cell in cells]
            for params in arm.settings(count)
        ]
        design = Design(windows=tuple(1 for _ in pieces), seeds=len(SEEDS))

        def column(name: str) -> Floats:
            return np.array([[[getattr(s, name) for s in row]] for row in rows], dtype=np.float64)

        known, scored_s = (column("in_time"), column("requests")), column("scored_s")
        return cls(
            gear=setting(start, arm),
            cost=Frontier.of(*known, column("cost_s"), design),
            energy=Frontier.of(*known, column("energy_j"), design),
            attained=(known[0].sum(axis=2) / known[1].sum(axis=2))[:, 0],
            restarts=3600.0 * (column("restarts").sum(axis=2) / scored_s.sum(axis=2))[:, 0],
            run_s=float(scored_s[0].mean()),
        )

    def restarts_at(self, level: float) -> float:
        """Return pods replaced per hour in the setting that is nearest to a level."""
        return float(self.restarts[np.argmin(np.abs(self.attained - level))])


def relative(ours: Frontier, theirs: Frontier, level: float) -> Estimate:
    """Return how much more an arm costs than another at one attainment."""
    cost, other = ours.paired(theirs, level)
    return Estimate.of(cost / other - 1.0)


def shown(estimate: Estimate) -> str:
    """Return a relative cost with its interval as a table cell."""
    if estimate.mean is None:
        return NOT_REACHED
    cell = f"{estimate.mean:+.0%}"
    if estimate.ci95 is not None:
        cell += f" ({estimate.ci95[0]:+.0%} … {estimate.ci95[1]:+.0%})"
    return cell.replace("-", "−")  # noqa: RUF001


def table(measured: dict[str, Measured]) -> str:
    """Return the ablation on one kind of traffic as a Markdown table."""
    base = measured[REFERENCE]
    levels = "".join(f" | at {level:.1%} | against HPA | joules" for level in LEVELS)
    lines = [
        f"| arm | gear | in time, worst to best setting{levels} | pods replaced/h |",
        "|---|---|---|" + "---|---|---|" * len(LEVELS) + "---|",
    ]
    for name, found in measured.items():
        ends = f"{found.attained.min():.2%} … {found.attained.max():.2%}"
        cells = [name, found.gear, ends]
        for level in LEVELS:
            used = found.cost.estimate(level).mean
            cells += [
                NOT_REACHED if used is None else f"{used / found.run_s:.2f}",
                shown(relative(found.cost, base.cost, level)),
                shown(relative(found.energy, base.energy, level)),
            ]
        lines.append("| " + " | ".join([*cells, f"{found.restarts_at(LEVELS[0]):.1f}"]) + " |")
    return "\n".join(lines) + "\n"


def planned_over_replicas(measured: dict[str, Measured]) -> str:
    """Return what each arm costs against the same controller with replicas alone, as lines."""
    lines = []
    for name, found in measured.items():
        own = measured.get(f"{name.partition(',')[0]}, replicas only")
        if own is not None and own is not found:
            read = [
                f"{shown(relative(found.cost, own.cost, level))}, "
                f"joules {shown(relative(found.energy, own.energy, level))}, at {level:.1%}"
                for level in LEVELS
            ]
            lines.append(f"- {name}, against its own replicas only: {'; '.join(read)}")
    return "\n".join(lines) + "\n"


def real_days(folder: Path) -> tuple[RateTrace, ...]:
    """Return a test day of one real trace per family; of a trace shorter than a day, all of it."""
    days: dict[str, RateTrace] = {}
    for path in sorted(folder.glob("*.parquet")):
        trace = read_trace(path)
        if trace.bin_s <= COARSEST_S and trace.family not in days:
            long = trace.duration_s >= DAY_S
            days[trace.family] = split_by_day([trace]).test[0] if long else trace
    return tuple(days.values())


def cut(scene: Scene, traces: Iterable[RateTrace]) -> list[Piece]:
    """Return the first scored piece of every trace that has traffic in it."""
    first = [scene.pieces(trace)[0] for trace in traces]
    return [piece for piece in first if piece.trace.mean_rps > 0.0]


def traffic(scene: Scene) -> tuple[list[Piece], dict[str, list[Piece]]]:
    """Return training traffic, and what is judged on by name."""
    drawn = demo_traffic(1, duration_s=WARM_UP_S + SCORED_S, per_family=(1, 1, 1))
    judged = {"generated": cut(scene, drawn.test)}
    folder = Path(os.environ.get("GPUPILOT_DATA", "../shared/data")) / "traces"
    if folder.is_dir():
        judged["real test days"] = cut(scene, real_days(folder))
        judged = {"all": [*judged["generated"], *judged["real test days"]], **judged}
    return cut(scene, drawn.train), judged


def report(arguments: argparse.Namespace) -> tuple[str, bool]:
    """Play what has not been played; return the tables of the arms so far, and whether of all."""
    scene = Scene(
        profile=find_profile(arguments.profile),
        targets=Targets(latency_s=arguments.target_ms / 1000.0, attainment_ratio=0.99),
        limits=LIMITS,
        scale_to_replicas=arguments.size,
        hours=SCORED_S / 3600.0,
        warm_up_s=WARM_UP_S,
    )
    bundle = load_generalist() if arguments.bundle is None else load(arguments.bundle)
    kept = Kept(arguments.out / f"{scene.profile.name}.jsonl", arguments.seconds)
    learn, judged = traffic(scene)
    measured: dict[str, dict[str, Measured]] = {name: {} for name in judged}
    whole = True
    for arm in arms(scene, bundle):
        try:
            start = chosen_start(scene, arm, learn, kept, arguments.trials)
            found = {
                name: Measured.of(scene, arm, start, pieces, kept, arguments.trials)
                for name, pieces in judged.items()
            }
        except TimeUp:
            whole = False
            break
        for name in judged:
            measured[name][arm.name] = found[name]
        sys.stderr.write(f"{arm.name}: played\n")
    parts = []
    for name, pieces in judged.items():
        parts += [f"### {arguments.profile}, {name}: {len(pieces)} traces x {len(SEEDS)} seeds\n"]
        if measured[name]:
            parts += [table(measured[name]), planned_over_replicas(measured[name])]
    return "\n".join(parts), whole


def main() -> None:
    """Run the ablation and print its tables."""
    arguments = parsed()
    text, whole = report(arguments)
    write_text(arguments.out / f"{arguments.profile}.md", text)
    sys.stdout.write(text)
    if not whole:
        sys.stderr.write("time is up; the same command goes on from here\n")
        raise SystemExit(PAUSED)


def parsed() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--profile", default="bert-large-a100-mig")
    parser.add_argument("--target-ms", type=float, default=100.0)
    parser.add_argument("--size", type=float, default=1.0, help="mean demand in stated replicas")
    parser.add_argument("--trials", type=int, default=10, help="settings of every arm")
    parser.add_argument("--bundle", type=Path, help="learned policy; the shipped one by default")
    parser.add_argument("--seconds", type=float, default=math.inf, help="then stop, to go on later")
    parser.add_argument("--out", type=Path, default=Path("results/actuators"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
