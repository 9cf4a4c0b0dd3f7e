"""Which services come again in training: those on which the classical controller still wins.

A new service teaches little once the policy is better there anyway. So services that have been
met are kept with their regret, what the policy pays on them above the classical controller that
met the same traffic beside it, and come again the more often the higher they rank (Xia et al.,
"Genet: Automatic Curriculum Generation for Learning Adaptation in Networking", SIGCOMM 2022,
arXiv:2202.05940; by rank as in Jiang, Grefenstette and Rocktäschel, "Prioritized Level Replay",
ICML 2021). The rest are drawn anew, all equally likely, so that nothing is forgotten.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.scenarios import CASE, Cases, Scenarios

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

KEPT = 256
"""Services that are kept."""

FLATNESS = 0.5
"""Chance of a kept service: its rank, the highest regret first, to minus this power."""

NEWEST = 0.5
"""Weight of the newest regret in the running one."""

FRESH = -1
"""Place of a service that is not kept yet."""


class Curriculum:
    """Services that were met, and what the policy pays on them above the classical controller.

    Attributes:
        share: Share of the services drawn from those kept, 0 to 1.
        cases: The services kept, shape ``(count,)``.
        regrets: Running regret of each, in reward per decision, shape ``(count,)``.
        visits: How often each was met, int64, shape ``(count,)``.
    """

    def __init__(self, share: float) -> None:
        """Keep nothing yet.

        Raises:
            InputInvalid: The share is not 0 to 1.
        """
        if not 0.0 <= share <= 1.0:
            raise InputInvalid("curriculum", share, "0 to 1")
        self.share = share
        self.cases: Cases = np.empty(0, dtype=CASE)
        self.regrets: Floats = np.empty(0)
        self.visits: Ints = np.empty(0, dtype=np.int64)

    def draw(self, scenarios: Scenarios, random: np.random.Generator, k: int) -> tuple[Cases, Ints]:
        """Return ``k`` services and the place of each among those kept, or :data:`FRESH`."""
        cases, places = scenarios.cases(random, k), np.full(k, FRESH, dtype=np.int64)
        if self.share == 0.0:
            return cases, places
        again = np.flatnonzero(random.uniform(size=k) < self.share)
        if len(self.cases) and len(again):
            places[again] = random.choice(len(self.cases), size=len(again), p=self.chances())
            cases[again] = self.cases[places[again]]
        return cases, places

    def chances(self) -> Floats:
        """Return the chance of each kept service to be drawn; they rise with the regret."""
        ranks = np.empty(len(self.regrets))
        ranks[np.argsort(-self.regrets, kind="stable")] = np.arange(1, len(self.regrets) + 1)
        weights = ranks**-FLATNESS
        chances: Floats = weights / weights.sum()
        return chances

    def judge(self, cases: Cases, places: Ints, regrets: Floats) -> None:
        """Take in what was found on services, as :meth:`draw` returned them.

        Args:
            cases: The services, shape ``(k,)``.
            places: Where they are kept, :data:`FRESH` where they are not.
            regrets: Cost of the policy less that of the classical controller, shape ``(k,)``.
        """
        for case, place, regret in zip(cases, places.tolist(), regrets.tolist(), strict=True):
            # what was kept there may have made room for another meanwhile
            if place != FRESH and self.cases[place] == case:
                self.regrets[place] += NEWEST * (regret - self.regrets[place])
                self.visits[place] += 1
            else:
                self._keep(case, regret)

    def _keep(self, case: np.void, regret: float) -> None:
        """Keep a service where there is room, or instead of one with less regret."""
        if len(self.cases) < KEPT:
            self.cases = np.append(self.cases, case)
            self.regrets = np.append(self.regrets, regret)
            self.visits = np.append(self.visits, 1)
            return
        least = int(np.argmin(self.regrets))
        if regret > self.regrets[least]:
            self.cases[least], self.regrets[least], self.visits[least] = case, regret, 1
