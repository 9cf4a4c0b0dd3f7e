"""What each actuator buys: replicas only, GPU share or CPU limit, batching and instances, and all.

    python benchmarks/ablate_actuators.py --real --size 1

Every arm is one controller with one set of actuators. *Static* arms are given the one setting
that was cheapest on the training traffic, chosen once and offline, and then move replicas alone:
what they save is right-sizing, not control. *Planned* arms change the setting at run time. All
settings are searched on generated training traffic with the same number of trials; costs are read
at equal attainment from all of them on other traffic, with bootstrap intervals over traces, and on
test days of real traces where ``GPUPILOT_DATA`` is there. Costs are GPU time, core time for a CPU
service, and joules, starting pods included. An interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.baselines.registry import SEARCH_SPACES, make
from gpupilot_agent.bundle import Bundle, load
from gpupilot_agent.comparison.scene import Scene, arrivals, random_seed
from gpupilot_agent.comparison.traffic import Piece
from gpupilot_agent.evaluation import Design, Estimate
from gpupilot_agent.frontier import Frontier
from gpupilot_agent.learned import LearnedPolicy
from gpupilot_agent.policies import Policy
from gpupilot_agent.rollout import rollout
from gpupilot_agent.tracking import digest
from gpupilot_agent.tuned import Outcome, Trial, search_result
from gpupilot_agent.tuning import trials
from gpupilot_envs.atomic import write_text
from gpupilot_envs.embedded import find_profile
from gpupilot_envs.gears import Actuator, Gear, Menu, menu
from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.serving.world import SimulatedWorld
from gpupilot_envs.workload.splits import demo_traffic, split_by_day
from gpupilot_envs.workload.trace import DAY_S, RateTrace, read_trace

Floats = NDArray[np.float64]

DURATION_S = 4200.0
LEVELS = (0.98, 0.99, 0.995, 0.999)
LIMITS = Limits(replicas_max=256, step_up_max=256, step_down_max=256)
HPA, CLASSICAL, PLANNED, LEARNED = "hpa", "predictive-5s", "queueing-gears", "ppo"
PRICE_SCALES = (0.1, 0.3, 1.0, 3.0)
"""Settings of the learned policy: factors on the price of a late request it was trained with."""

REFERENCE = "HPA, replicas only"
COARSEST_S = 600.0
NOT_REACHED = "not reached"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A controller with a set of actuators.

    Attributes:
        name: As it stands in the table.
        policy: Name of the baseline.
        starts: Settings to start in, and to stay in without a menu; the cheapest is chosen.
        menu: What may be changed at run time.
        bundle: Of a learned policy.
    """

    name: str
    policy: str
    starts: tuple[Gear, ...]
    menu: Menu | None = None
    bundle: Bundle | None = None

    def controller(self, params: dict[str, float]) -> Policy:
        """Return the policy in one setting."""
        if self.bundle is not None:
            return LearnedPolicy(bundle=self.bundle, price_scale=params["price_scale"])
        return make(self.policy, params)

    def settings(self, count: int) -> list[dict[str, float]]:
        """Return what is tried on the training traffic."""
        if self.bundle is not None:
            return [{"price_scale": scale} for scale in PRICE_SCALES]
        return trials(SEARCH_SPACES[self.policy], count, seed=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One arm on one piece of traffic."""

    requests: int
    in_time: int
    cost_s: float
    energy_j: float
    restarts: int
    scored_s: float


def arms(scene: Scene, bundle: Bundle | None) -> list[Arm]:
    """Return every arm of the ablation; those of a learned policy where there is one."""

    def able(*actuators: Actuator) -> Menu:
        return menu(scene.profile, scene.targets, actuators)

    limits, batching, both = able("limits"), able("batching"), able("limits", "batching")
    base = (both.gears[both.base],)
    learned = (
        []
        if bundle is None
        else [
            Arm(name="learned, replicas only", policy=LEARNED, starts=base, bundle=bundle),
            Arm(
                name="learned, planned, all", policy=LEARNED, starts=base, menu=both, bundle=bundle
            ),
        ]
    )
    return [
        Arm(name=REFERENCE, policy=HPA, starts=base),
        Arm(name="HPA, static share and batching", policy=HPA, starts=both.gears),
        Arm(name="queueing, replicas only", policy=CLASSICAL, starts=base),
        Arm(name="queueing, static batching", policy=CLASSICAL, starts=batching.gears),
        Arm(name="queueing, static share", policy=CLASSICAL, starts=limits.gears),
        Arm(name="queueing, static share and batching", policy=CLASSICAL, starts=both.gears),
        Arm(name="queueing, planned share", policy=PLANNED, starts=base, menu=limits),
        Arm(name="queueing, planned, all", policy=PLANNED, starts=base, menu=both),
        *learned,
    ]


def play(
    scene: Scene, arm: Arm, start: Gear, params: dict[str, float], piece: Piece, seed: int
) -> Score:
    """Return what an arm does on a piece of traffic."""
    bins = max(1, math.ceil(300.0 / piece.trace.bin_s))
    first = math.ceil(float(piece.trace.rps[:bins].max()) / start.capacity.slo_rps)
    world = SimulatedWorld(
        scene.profile,
        arrivals(scene, piece, seed),
        targets=scene.targets,
        allocation=start.allocated(max(first, 1)),
        seed=random_seed("world", piece, seed),
        cluster=scene.cluster,
        scrape=scene.scrape,
    )
    run = rollout(
        arm.controller(params),
        world,
        limits=scene.limits,
        targets=scene.targets,
        profile=scene.profile,
        capacity=start.capacity,
        duration_s=piece.warm_up_s + piece.scored_s,
        warm_up_s=piece.warm_up_s,
        menu=arm.menu,
    )
    got, on_cpu = run.scored, scene.profile.device == "cpu"
    return Score(
        requests=got.requests,
        in_time=min(got.in_time, got.requests),
        cost_s=got.cpu_seconds if on_cpu else got.gpu_seconds,
        energy_j=got.energy_j,
        restarts=got.pod_restarts,
        scored_s=run.scored_s,
    )


class Kept:
    """Scores on disk by what determined them, so that a run can go on where it stopped."""

    def __init__(self, path: Path) -> None:
        """Read what is there."""
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._known = {key: Score(**score) for key, score in map(json.loads, lines)}

    def score(
        self, scene: Scene, arm: Arm, start: Gear, params: dict[str, float], piece: Piece, seed: int
    ) -> Score:
        """Return the score of a run, run now if it was not before."""
        key = digest(
            {
                "scene": scene.identity(),
                "policy": [arm.policy, sorted(params.items())],
                **({} if arm.bundle is None else {"bundle": arm.bundle.sha256}),
                "start": asdict(start.allocation),
                "menu": None if arm.menu is None else arm.menu.rows().tolist().__repr__(),
                "piece": [piece.origin_sha256, piece.window(), seed],
            }
        )
        if key not in self._known:
            self._known[key] = play(scene, arm, start, params, piece, seed)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([key, asdict(self._known[key])]) + "\n")
        return self._known[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """An arm with the setting training chose, and all parameter settings, the chosen first."""

    arm: Arm
    start: Gear
    params: tuple[dict[str, float], ...]


def searched(
    scene: Scene, arm: Arm, pieces: Sequence[Piece], kept: Kept, count: int, attained: float
) -> Chosen:
    """Search an arm's parameters, and of a static one the setting that is cheapest for them."""
    best, cheapest = None, math.inf
    for start in arm.starts:
        found = []
        for params in arm.settings(count):
            scores = [kept.score(scene, arm, start, params, piece, 0) for piece in pieces]
            requests = sum(score.requests for score in scores)
            outcome = Outcome(
                attainment_ratio=sum(score.in_time for score in scores) / max(requests, 1),
                gpu_hours=sum(score.cost_s for score in scores) / 3600.0,
            )
            found.append(Trial(params=params, by_trace={}, **outcome.model_dump()))
        result = search_result(found, (attained,))
        choice = result.chosen[f"{attained:g}"]
        cost = found[choice.trial].gpu_hours + (0.0 if choice.meets else 1e6)
        if best is None or cost < cheapest:
            picks = dict.fromkeys([choice.trial, *range(len(found))])
            best = Chosen(arm=arm, start=start, params=tuple(found[i].params for i in picks))
            cheapest = cost
        say(f"  {arm.name}: {setting(start, arm)} costs {cost:.3f}")
    assert best is not None
    return best


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """An arm's frontiers on the test traffic, in cost and in energy."""

    cost: Frontier
    energy: Frontier
    restarts_per_hour: float
    run_s: float

    @classmethod
    def of(cls, scene: Scene, chosen: Chosen, pieces: Sequence[Piece], kept: Kept) -> Measured:
        """Play every parameter setting of an arm on the test traffic."""
        rows = [
            [kept.score(scene, chosen.arm, chosen.start, params, piece, 1) for piece in pieces]
            for params in chosen.params
        ]
        design = Design(windows=tuple(1 for _ in pieces), seeds=1)

        def column(name: str) -> Floats:
            return np.array([[[getattr(s, name) for s in row]] for row in rows], dtype=np.float64)

        known = column("in_time"), column("requests")
        scored_s = sum(score.scored_s for score in rows[0])
        return cls(
            cost=Frontier.of(*known, column("cost_s"), design),
            energy=Frontier.of(*known, column("energy_j"), design),
            restarts_per_hour=sum(s.restarts for s in rows[0]) / scored_s * 3600.0,
            run_s=scored_s / len(pieces),
        )


def relative(ours: Frontier, theirs: Frontier, level: float) -> Estimate:
    """Return how much more an arm costs than another at one attainment."""
    return Estimate.of(ours.samples(level) / theirs.samples(level) - 1.0)


def setting(gear: Gear, arm: Arm) -> str:
    """Return what an arm runs with, in words."""
    if arm.menu is not None:
        return f"{len(arm.menu)} gears"
    able = gear.allocation
    words = f"{gear.cost_milli} milli, batch {able.batch_max}"
    return words + (f", {able.instances_per_replica} instances" * (able.instances_per_replica > 1))


def shown(estimate: Estimate) -> str:
    """Return a relative cost with its interval as a table cell."""
    if estimate.mean is None:
        return NOT_REACHED
    cell = f"{estimate.mean:+.0%}"
    if estimate.ci95 is not None:
        cell += f" ({estimate.ci95[0]:+.0%} … {estimate.ci95[1]:+.0%})"
    return cell.replace("-", "−")  # noqa: RUF001


def table(measured: dict[str, Measured], chosen: dict[str, Chosen], level: float) -> str:
    """Return the ablation at one attainment as a Markdown table."""
    base = measured.get(REFERENCE, next(iter(measured.values())))
    lines = [
        f"| at {level:.1%} | setting | cost | against HPA, replicas only | energy, against it "
        "| pods replaced per hour |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in measured.items():
        used = found.cost.estimate(level).mean
        mean = NOT_REACHED if used is None else f"{used / found.run_s:.3f}"
        lines.append(
            f"| {name} | {setting(chosen[name].start, chosen[name].arm)} | {mean} "
            f"| {shown(relative(found.cost, base.cost, level))} "
            f"| {shown(relative(found.energy, base.energy, level))} "
            f"| {found.restarts_per_hour:.1f} |"
        )
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


def say(line: str) -> None:
    """Tell how it goes."""
    sys.stderr.write(line + "\n")


def main() -> None:
    """Run the ablation and print its tables."""
    arguments = parsed()
    targets = Targets(latency_s=arguments.target_ms / 1000.0, attainment_ratio=0.99)
    scene = Scene(
        profile=find_profile(arguments.profile),
        targets=targets,
        limits=LIMITS,
        scale_to_replicas=arguments.size,
        hours=None,
        warm_up_s=600.0,
    )
    bundle = None if arguments.bundle is None else load(arguments.bundle)
    kept = Kept(arguments.out / "scores.jsonl")
    traffic = demo_traffic(1, duration_s=DURATION_S, per_family=(1, 1, arguments.traces))
    learn = cut(scene, traffic.train)
    judged = {"generated traffic": cut(scene, traffic.test)}
    folder = Path(os.environ.get("GPUPILOT_DATA", "../shared/data")) / "traces"
    if folder.is_dir() and arguments.real:
        real = replace(scene, hours=1.0)
        judged["real test days"] = cut(real, real_days(folder))
    chosen = {
        arm.name: searched(scene, arm, learn, kept, arguments.trials, arguments.attained)
        for arm in arms(scene, bundle)
        if not arguments.only or arm.name in arguments.only
    }
    parts = []
    for name, pieces in judged.items():
        measured = {arm: Measured.of(scene, pick, pieces, kept) for arm, pick in chosen.items()}
        parts += [f"{name}, {len(pieces)} traces, mean demand {arguments.size:g} replicas\n"]
        parts += [table(measured, chosen, level) for level in LEVELS]
        write_text(arguments.out / "tables.md", "\n".join(parts))
    sys.stdout.write("\n".join(parts))


def parsed() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--profile", default="bert-large-a100-mig")
    parser.add_argument("--target-ms", type=float, default=100.0)
    parser.add_argument("--size", type=float, default=1.0, help="mean demand in stated replicas")
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--traces", type=int, default=1, help="test traces per family")
    parser.add_argument("--attained", type=float, default=0.99, help="to choose settings for")
    parser.add_argument("--real", action="store_true", help="also on real test days")
    parser.add_argument("--only", nargs="*", default=[], help="arms by name; all by default")
    parser.add_argument("--bundle", type=Path, help="a learned policy to take part")
    parser.add_argument("--out", type=Path, default=Path("results/actuators"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
