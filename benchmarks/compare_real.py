"""The learned policy on every real development trace, against everything: the published rows.

Settings of the baselines are searched on some days of NASA, World Cup, Microsoft and AWS and
compared on other days. Twitter, ServeGen, Azure LLM, GenTD26 and generated flash crowds are held
out whole: nothing is tuned or trained on any of them.

    python benchmarks/compare_real.py --bundles bundles/ --out results/real --jobs 2

``--bundles`` takes the trainings of one policy from several seeds, ``ppo``; without it the shipped
policy is compared. An interrupted run goes on where it stopped.
Traces are found through ``GPUPILOT_DATA``, default ``../shared/data`` beside the repository.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gpupilot_agent.cli.scenes import bundles_of
from gpupilot_agent.cli.scores import print_rows, print_scores
from gpupilot_agent.comparison.config import CompareConfig
from gpupilot_agent.comparison.running import compare
from gpupilot_agent.comparison.scene import Scene
from gpupilot_agent.generalist import NAME as GENERALIST
from gpupilot_agent.report import write_report
from gpupilot_agent.results import read_summary
from gpupilot_agent.tuned import Tuned, read_tuned
from gpupilot_agent.tuning import TuneConfig, tune
from gpupilot_envs.embedded import DEFAULT, find_profile
from gpupilot_envs.limits import Targets
from gpupilot_envs.workload.generators import generate
from gpupilot_envs.workload.noise import generator
from gpupilot_envs.workload.randomisation import HELD_OUT_SHAPES, random_params
from gpupilot_envs.workload.splits import Split, split_by_day
from gpupilot_envs.workload.trace import DAY_S, RateTrace, read_trace

HELD_OUT = ("twitter", "servegen", "azurellm23", "gentd26")
"""Families that nothing is tuned or trained on."""

TO_TUNE = (
    "hpa",
    "keda",
    "kpa-rps",
    "queueing",
    "queueing-5s",
    "predictive",
    "predictive-5s",
)
"""KEDA's scaler is the HPA on rate per replica: between 1 and N replicas they decide alike."""

AS_PUBLISHED = ("hpa",)
BOUNDS = ("clairvoyant", "oracle")
LEVELS = (0.98, 0.99, 0.995)

FLASHES = 4
FLASH_SEED = 20_260
FLASH_S = 4 * 3600.0

COARSEST_S = 600.0
"""Traces in longer bins say too little of a two-hour episode to train on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Every trace with the days masked that a role must not see.

    Attributes:
        search: To search settings on: the training days of the families that are seen.
        learn: To train on: training and validation days, one trace each.
        judge: To compare on: test days, and held-out families whole.
    """

    search: tuple[RateTrace, ...]
    learn: Split
    judge: tuple[RateTrace, ...]


def traffic(folder: Path) -> Traffic:
    """Read every rate trace and give its days their roles."""
    search, judge, days = [], [], []
    for path in sorted(folder.glob("*.parquet")):
        trace = read_trace(path)
        if trace.family in HELD_OUT:
            judge.append(trace)
            continue
        split = split_by_day([trace])
        search.append(only(trace, split.train))
        judge.append(only(trace, split.test))
        if trace.bin_s <= COARSEST_S:
            days.append(split)
    learn = Split(
        train=tuple(day for split in days for day in split.train),
        validation=tuple(day for split in days for day in split.validation),
        test=(),
    )
    return Traffic(search=tuple(search), learn=learn, judge=(*judge, *flash_crowds()))


def flash_crowds() -> tuple[RateTrace, ...]:
    """Return generated flash crowds on daily shapes that nothing was trained on, squeezed days."""
    random = generator(FLASH_SEED)
    found = []
    for index in range(FLASHES):
        params = random_params("flash", random, shapes=HELD_OUT_SHAPES, day_s=FLASH_S)
        seed = int(random.integers(2**62))
        trace = generate(params, duration_s=FLASH_S, bin_s=5.0, seed=seed)
        found.append(trace.renamed(f"flash_{index}", family="flash"))
    return tuple(found)


def only(trace: RateTrace, days: Sequence[RateTrace]) -> RateTrace:
    """Return the trace with every day masked but ``days``."""
    kept = {int(day.name.rpartition("@day")[2]) for day in days}
    count = int(trace.duration_s // DAY_S) + 1
    masked = [(k * DAY_S, (k + 1) * DAY_S) for k in range(count) if k not in kept]
    return trace.with_mask(masked)


def search(arguments: argparse.Namespace, scene: Scene, seen: Traffic) -> Tuned:
    """Return every baseline's settings, searched with the same budget."""
    out = arguments.out / "tuned"
    if not (out / "tuned.json").exists():
        config = TuneConfig(
            scene=replace(scene, hours=arguments.search_hours),
            traces=seen.search,
            policies=TO_TUNE,
            trials=arguments.trials,
            seeds=1,
        )
        tune(config, out, jobs=arguments.jobs, on_progress=ProgressLine("tune"))
    return read_tuned(out)


class ProgressLine:
    """Writes a line now and then, with the minutes that are left."""

    def __init__(self, what: str) -> None:
        """Start the clock."""
        self._what, self._start_s, self._said_s = what, time.monotonic(), 0.0
        self._first: int | None = None

    def __call__(self, done: int, total: int, note: str) -> None:
        """Take the news of one finished task."""
        now_s = time.monotonic()
        self._first = done if self._first is None else self._first
        if now_s - self._said_s < 20.0 and done < total:
            return
        self._said_s = now_s
        fresh = max(done - self._first, 1)
        left_s = (now_s - self._start_s) / fresh * (total - done)
        sys.stderr.write(f"{self._what} {done}/{total}, {left_s / 60:.1f} min left, {note}\n")


def parsed() -> argparse.Namespace:
    """Read the command line."""
    data = Path(os.environ.get("GPUPILOT_DATA", "../shared/data"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("results/real"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument(
        "--bundles", type=Path, nargs="*", default=[], help="trainings of one policy"
    )
    parser.add_argument("--profile", default=DEFAULT)
    parser.add_argument("--target-ms", type=float, default=60.0)
    parser.add_argument("--replicas", type=float, default=5.0)
    parser.add_argument("--hours", type=float, default=1.0, help="scored per trace")
    parser.add_argument("--search-hours", type=float, default=2.0, help="searched per trace")
    parser.add_argument("--trials", type=int, default=16, help="settings per policy")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


def main() -> None:
    """Search settings, compare, print the rows and where the report is."""
    arguments = parsed()
    folder = arguments.data / "traces"
    if not folder.is_dir():
        sys.exit(f"{folder}: no traces there; say where with GPUPILOT_DATA or --data")
    scene = Scene(
        profile=find_profile(arguments.profile),
        targets=Targets(latency_s=arguments.target_ms / 1000.0, attainment_ratio=0.99),
        scale_to_replicas=arguments.replicas,
        hours=arguments.hours,
    )
    seen = traffic(folder)
    learned = ("ppo",) if arguments.bundles else (GENERALIST,)
    config = CompareConfig(
        scene=scene,
        traces=seen.judge,
        policies=(*AS_PUBLISHED, *(f"{name}-tuned" for name in TO_TUNE), *learned, *BOUNDS),
        seeds=arguments.seeds,
        levels=LEVELS,
        tuned=search(arguments, scene, seen),
        bundles=bundles_of(arguments.bundles),
    )
    out = arguments.out / "comparison"
    summary = read_summary(
        compare(config, out, jobs=arguments.jobs, on_progress=ProgressLine("compare"))
    )
    print_scores(summary)
    print_rows(summary)
    sys.stdout.write(f"{write_report(out)}\n")


if __name__ == "__main__":
    main()
