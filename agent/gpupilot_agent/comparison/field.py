"""All runs of a comparison: which there are, and their scores arranged once they are done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gpupilot_agent.comparison.config import CompareConfig
from gpupilot_agent.comparison.contenders import Contender, contenders
from gpupilot_agent.comparison.table import Results
from gpupilot_agent.comparison.tasks import Score, Task
from gpupilot_agent.comparison.traffic import Piece

Place = tuple[Contender, str, int]
"""A contender, the name of a trace and a seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """The contenders and the stretches of traffic they meet.

    Attributes:
        config: What was asked for.
        contenders: Every setting of every policy.
        pieces: What is replayed of each trace, by the trace's name.
    """

    config: CompareConfig
    contenders: tuple[Contender, ...]
    pieces: Mapping[str, tuple[Piece, ...]]

    @classmethod
    def of(cls, config: CompareConfig) -> Field:
        """Lay out a comparison.

        Raises:
            InputInvalid: A policy cannot be built, a trace cannot be replayed, or no batch size
                meets the objective.
        """
        pieces = {trace.name: config.scene.pieces(trace) for trace in config.traces}
        demand = mean_replicas(config, pieces)
        every = (
            contender
            for name in config.policies
            for contender in contenders(
                name,
                asked=config.scene.targets.attainment_ratio,
                mean_replicas=demand,
                tuned=config.tuned,
                bundles=config.bundles,
            )
        )
        return cls(config=config, contenders=tuple(every), pieces=pieces)

    def tasks(self) -> dict[Place, Task]:
        """Return the unit of work of every run; seeds outermost, so that early ones pair."""
        return {
            (contender, trace, seed): Task(
                scene=self.config.scene,
                contender=contender,
                pieces=pieces,
                seed=seed,
                keep_timeline=contender.training == 0
                and (contender.main or contender.role == "bound"),
            )
            for seed in range(self.config.seeds)
            for trace, pieces in self.pieces.items()
            for contender in self.contenders
        }

    def mains(self, scores: Mapping[Place, Score]) -> dict[Place, Contender]:
        """Return whose run stands for a policy in the tables, run by run.

        A policy runs with one setting everywhere. A bound is granted the setting that was best
        in each run: the cheapest that met the objective, else the closest to it. Of a learned
        policy this is the first training.
        """
        chosen: dict[Place, Contender] = {}
        first = [contender for contender in self.contenders if contender.training == 0]
        for name in dict.fromkeys(contender.name for contender in first):
            variants = [contender for contender in first if contender.name == name]
            title = variants[0] if variants[0].main else _title(variants[0])
            for trace in self.pieces:
                for seed in range(self.config.seeds):
                    place = (title, trace, seed)
                    chosen[place] = (
                        title if title in variants else self._best(variants, place, scores)
                    )
        return chosen

    def results(self, scores: Mapping[Place, Score]) -> Results:
        """Return the scores as tables of trainings by traces by seeds."""
        everything = dict(scores)
        for place, pick in self.mains(scores).items():
            everything[place] = scores[(pick, *place[1:])]
        tables: dict[tuple[str, str], list[Contender]] = {}
        for contender in dict.fromkeys(contender for contender, _, _ in everything):
            tables.setdefault((contender.name, contender.setting), []).append(contender)
        seeds = range(self.config.seeds)
        return Results(
            traces=tuple(self.pieces),
            families=tuple(trace.family for trace in self.config.traces),
            scores={
                trainings[0]: [
                    [[everything[each, trace, seed] for seed in seeds] for trace in self.pieces]
                    for each in trainings
                ]
                for trainings in tables.values()
            },
        )

    def _best(
        self, variants: Sequence[Contender], place: Place, scores: Mapping[Place, Score]
    ) -> Contender:
        target = self.config.scene.targets.attainment_ratio
        tried = {variant: scores[(variant, *place[1:])] for variant in variants}
        meeting = [v for v, score in tried.items() if score.in_time >= target * score.requests]
        if meeting:
            return min(meeting, key=lambda variant: tried[variant].gpu_hours)
        return max(tried, key=lambda variant: tried[variant].in_time)


def _title(variant: Contender) -> Contender:
    return replace(variant, setting="best in hindsight", params=(), main=True)


def mean_replicas(config: CompareConfig, pieces: Mapping[str, tuple[Piece, ...]]) -> float:
    """Return the mean demand of everything replayed, in replicas at their capacity."""
    rates = [piece.trace.mean_rps for each in pieces.values() for piece in each]
    return sum(rates) / len(rates) / config.scene.capacity().slo_rps
