"""What else could have been done at a moment: hold, one replica less or more, other controllers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gpupilot_agent.bundle import Bundle
from gpupilot_agent.comparison.contenders import Contender, contenders
from gpupilot_agent.explanation.account import Account, with_replicas
from gpupilot_agent.explanation.compared import decider
from gpupilot_agent.explanation.moment import AHEAD_MIN_S, Moment
from gpupilot_agent.explanation.outlook import Alternative, as_granted, deciding, fixed
from gpupilot_agent.learned import LearnedPolicy
from gpupilot_agent.tuned import Tuned

BASELINES = ("hpa", "keda", "kpa", "queueing")
"""Whose answer is shown unless asked otherwise: the autoscalers people have."""

CLASSICAL = "predictive"
"""The controller that stands by, and that learned policies move."""


def alternatives(
    account: Account,
    moment: Moment,
    *,
    bundle: Bundle | None,
    baselines: Sequence[str] = BASELINES,
    tuned: Tuned | None = None,
    config: Mapping[str, Any] | None = None,
) -> list[Alternative]:
    """Return what to look ahead with, what was decided first.

    Args:
        account: The decision.
        moment: Its surroundings.
        bundle: The learned policy that decided, or ``None``.
        baselines: Names, as a comparison knows them.
        tuned: Result of ``gpupilot tune``, for names that end in ``-tuned``.
        config: Of the comparison the decision is from: a name in it runs with its settings.

    Raises:
        InputInvalid: A name is unknown or lacks what it needs, or the bundle is another one.
    """
    asked = moment.scene.targets.attainment_ratio
    own = None if account.decider is None else account.decider.contender(asked, bundle)
    found = [
        _as_decided(account, moment, own),
        *_by_hand(account, moment),
        _classical(moment, bundle),
    ]
    others = (name for name in baselines if name != account.policy)
    return [
        *found,
        *(deciding(name, _named(name, asked, moment, tuned, config), moment) for name in others),
    ]


def _as_decided(account: Account, moment: Moment, own: Contender | None) -> Alternative:
    if own is not None:
        return deciding("as it decides", own, moment)
    if moment.end_s - moment.at_s >= AHEAD_MIN_S:
        return as_granted("as it was granted", moment)
    return fixed(f"hold {account.granted.replicas} as granted", account.granted)


def _by_hand(account: Account, moment: Moment) -> list[Alternative]:
    """Return the fixed counts near what ran and what was granted, each once, in order."""
    ran, granted = account.running, account.granted
    shapes = {with_replicas(granted, granted.replicas + 1): "one more", granted: "as granted"}
    shapes |= {with_replicas(granted, granted.replicas - 1): "one less", ran: "as it ran"}
    limits = moment.scene.limits
    return [
        fixed(f"hold {shape.replicas}, {shapes[shape]}", shape)
        for shape in sorted(shapes, key=lambda shape: shape.replicas)
        if limits.replicas_min <= shape.replicas <= limits.replicas_max
    ]


def _classical(moment: Moment, bundle: Bundle | None) -> Alternative:
    """Return the controller that stands by: the one the policy moves, or the published one."""
    name, asked = "classical controller", moment.scene.targets.attainment_ratio
    if bundle is None:
        return deciding(name, _named(CLASSICAL, asked, moment, None, None), moment)
    policy = LearnedPolicy(bundle=bundle.unmoved(), name=name)
    return Alternative(name=name, chooser=lambda _, __: policy)


def _named(
    name: str,
    asked: float,
    moment: Moment,
    tuned: Tuned | None,
    config: Mapping[str, Any] | None,
) -> Contender:
    known = None if config is None else decider(config, name)
    found = None if known is None else known.contender(asked, None)
    if found is not None:
        return found
    demand = moment.traffic.mean_rps / moment.scene.capacity().slo_rps
    return contenders(name, asked=asked, mean_replicas=demand, tuned=tuned, bundles=())[0]
