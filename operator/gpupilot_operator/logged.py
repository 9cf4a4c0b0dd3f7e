"""What of a case goes into the decision log: the decision, and what a silenced policy wanted."""

from __future__ import annotations

from collections.abc import Iterator

from gpupilot_agent.comparison.contenders import GENERALIST, LEARNED
from gpupilot_envs.gears import Menu
from gpupilot_operator.cases import Case
from gpupilot_operator.facts import Grant, Rung
from gpupilot_operator.judging import QUEUEING, shadow_grant
from gpupilot_operator.ports import Noted
from gpupilot_operator.seating import Opinion

CONTROLLER_FAMILY = "predictive-5s"
"""The baseline that the learned policies' controller is one of, as comparisons name it."""


def noted_of(case: Case, now_s: float) -> Iterator[Noted]:
    """Yield the decisions of a case, its policy's rehearsal first."""
    shadow = shadow_grant(case)
    if shadow is not None and case.shadow is not None:
        yield _by_policy(case, shadow, case.shadow, case.shadow.why, now_s)
    if case.grant is None or not case.fresh:
        return
    decides = case.step.rung in (Rung.POLICY, Rung.CONTROLLER)
    if decides and case.opinion is not None and case.opinion.action is not None:
        yield _by_policy(case, case.grant, case.opinion, case.why, now_s)
    else:
        yield Noted(
            service=case.seen.service,
            policy=case.grant.policy,
            family=CONTROLLER_FAMILY if case.grant.policy == QUEUEING else case.grant.policy,
            at_s=now_s,
            seen=case.reading,
            running=case.seen.running,
            grant=case.grant,
            why=case.why,
            profile=None if case.size is None else case.size.profile,
            geared=case.size is not None and _is_geared(case.size.menu, case),
        )


def _is_geared(menu: Menu | None, case: Case) -> bool:
    """Whether limits and batching could be changed: what runs is one of the gears there are."""
    return menu is not None and menu.index_of(case.seen.running) is not None


def _by_policy(case: Case, grant: Grant, opinion: Opinion, why: str, now_s: float) -> Noted:
    candidate, constants = case.known.candidate, case.known.constants
    return Noted(
        service=case.seen.service,
        policy=candidate.name,
        family=GENERALIST if candidate.name == GENERALIST else LEARNED,
        at_s=now_s,
        seen=case.reading,
        running=case.seen.running,
        grant=grant,
        why=why,
        profile=None if constants is None else constants.profile,
        geared=constants is not None and _is_geared(constants.menu, case),
        bundle_sha256=candidate.sha256,
        observation=opinion.observation,
        logits=opinion.logits,
        action=opinion.action,
        price=None if constants is None else constants.price,
    )
