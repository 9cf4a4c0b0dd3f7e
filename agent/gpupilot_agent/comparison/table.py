"""The scores of all runs as columns of numbers, with what is resampled together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.comparison.contenders import Contender
from gpupilot_agent.comparison.tasks import Score
from gpupilot_agent.evaluation import Design
from gpupilot_agent.frontier import Frontier
from gpupilot_agent.perfect import PRICES, Dual

Floats = NDArray[np.float64]
Runs = Sequence[Sequence[Sequence[Score]]]
"""Scores by training, trace and seed; one training where nothing was trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Scores of every setting of every policy.

    Attributes:
        traces: Names in the order of the rows.
        families: Family of each trace.
        scores: By the contender that stands for its trainings.
    """

    traces: tuple[str, ...]
    families: tuple[str, ...]
    scores: Mapping[Contender, Runs]

    @property
    def mains(self) -> dict[str, Contender]:
        """The setting of each policy that stands in tables, by the policy's name."""
        return {c.name: c for c in self.scores if c.main}

    @property
    def runs(self) -> int:
        """Runs of one setting of one training: traces by seeds."""
        return len(self.traces) * len(next(iter(self.scores.values()))[0][0])

    @property
    def by_run(self) -> Design:
        """How runs depend on each other, for numbers that only a whole run has."""
        return self._design([1] * len(self.traces))

    @property
    def by_window(self) -> Design:
        """How scored windows depend on each other."""
        rows = next(iter(self.scores.values()))[0]
        return self._design([len(row[0].windows) for row in rows])

    def variants(self, name: str) -> list[Contender]:
        """Return every measured setting of a policy, the main one included."""
        return [contender for contender in self.scores if contender.name == name]

    def of_runs(self, contender: Contender, name: str) -> Floats:
        """Return one number of every run, shape ``(trainings, runs)``, NaN where unknown."""
        return self._column(contender, lambda score: [getattr(score, name)])

    def of_windows(self, contender: Contender, name: str) -> Floats:
        """Return one number of every window, shape ``(trainings, cells)``."""
        return self._column(contender, lambda score: [getattr(w, name) for w in score.windows])

    def attainment(self, contender: Contender) -> Floats:
        """Return requests in time over all, as measured and on every resample."""
        total = self.by_window.total()
        hits, all_of = (total(self.of_windows(contender, name)) for name in ("in_time", "requests"))
        with np.errstate(invalid="ignore"):
            return np.asarray(hits / all_of, dtype=np.float64)

    def gpu_hours(self, contender: Contender) -> Floats:
        """Return GPU-hours per run, as measured and on every resample."""
        spent = self.by_window.total()(self.of_windows(contender, "gpu_hours"))
        return np.asarray(spent / self.runs, dtype=np.float64)

    def frontier(self, name: str) -> Frontier:
        """Return the measured settings of a policy."""
        in_time, requests, cost = (
            np.stack([self.of_windows(contender, column) for contender in self.variants(name)])
            for column in ("in_time", "requests", "gpu_hours")
        )
        return Frontier.of(in_time, requests, cost, self.by_window)

    def dual(self) -> Dual | None:
        """Return what perfect information proves, ``None`` where no oracle took part."""
        proving = [contender for contender in self.scores if contender.proves]
        if not proving:
            return None
        values = [self._of_price(proving[0], price) for price in range(len(PRICES))]
        requests = self.of_windows(proving[0], "requests")
        return Dual.of(values, requests, self.by_window, runs=self.runs)

    def only(self, traces: Sequence[str]) -> Results:
        """Return the results on some traces."""
        kept = [self.traces.index(trace) for trace in traces]
        return Results(
            traces=tuple(traces),
            families=tuple(self.families[at] for at in kept),
            scores={
                contender: [[rows[at] for at in kept] for rows in runs]
                for contender, runs in self.scores.items()
            },
        )

    def by_family(self) -> Iterator[tuple[str, Results]]:
        """Yield each family with the results on its traces, in the order of the traces."""
        for family in dict.fromkeys(self.families):
            members = [
                trace
                for trace, other in zip(self.traces, self.families, strict=True)
                if other == family
            ]
            yield family, self.only(members)

    def by_training(self, name: str) -> Iterator[Results]:
        """Yield what each training of a learned policy did by itself."""
        for training in range(len(self.scores[self.mains[name]])):
            alone = {c: [self.scores[c][training]] for c in self.variants(name)}
            yield Results(traces=self.traces, families=self.families, scores=alone)

    def _design(self, windows: Sequence[int]) -> Design:
        trainings = max(len(runs) for runs in self.scores.values())
        seeds = self.runs // len(self.traces)
        return Design(windows=tuple(windows), seeds=seeds, trainings=trainings)

    def _of_price(self, contender: Contender, price: int) -> Floats:
        return self._column(contender, lambda score: [window[price] for window in score.duals])

    def _column(self, contender: Contender, numbers: Callable[[Score], list[float]]) -> Floats:
        """Return columns ordered by trace, window and seed."""
        rows = [
            [
                value
                for row in rows
                for window in zip(*(numbers(score) for score in row), strict=True)
                for value in window
            ]
            for rows in self.scores[contender]
        ]
        return np.array(rows, dtype=np.float64)
