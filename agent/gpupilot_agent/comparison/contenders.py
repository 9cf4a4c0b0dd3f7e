"""Who takes part in a comparison: policies by name, each with every setting that is measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gpupilot_agent.baselines.registry import SEARCH_SPACES, TUNED, Dimension, SearchSpace
from gpupilot_agent.baselines.registry import names as baseline_names
from gpupilot_agent.bundle import Bundle
from gpupilot_agent.tuned import Tuned, spread
from gpupilot_envs.errors import InputInvalid

Role = Literal["learned", "tuned", "default", "bound"]
Params = tuple[tuple[str, float], ...]

LEARNED = "ppo"
ORACLE = "oracle"
CLAIRVOYANT = "clairvoyant"

LEARNED_SPACE: SearchSpace = {"price_scale": Dimension(low=0.1, high=10.0, default=1.0, log=True)}
"""What may be tuned of a learned policy: as many trials as every baseline gets."""

FRONTIER_LEVELS = (0.97, 0.985, 0.99, 0.995, 0.999, 1.0)
"""Attainment on the training traffic whose settings are measured again, to draw the frontier."""

_PRICE_SCALES = (0.1, 0.3, 3.0, 10.0, 30.0)
_CLAIRVOYANT_Z = (-3.0, -1.5, 0.0, 1.5, 3.0, 6.0)
_ORACLE_MARGINS = (-0.12, -0.06, 0.0, 0.06, 0.12, 0.25)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One setting of one policy.

    Attributes:
        name: Policy as it stands in tables, for example ``hpa-tuned``.
        setting: Name of the setting, unique within the policy.
        family: Algorithm: a baseline's name, ``ppo``, ``oracle`` or ``clairvoyant``.
        role: Learned, tuned or default settings, or a bound that knows the future.
        params: Parameters over the algorithm's defaults.
        asked: Attainment the policy is asked for.
        main: Whether this setting stands in tables; the others only draw the frontier.
        training: Of a learned policy: which of its trainings, from 0.
        bundle_sha256: Of a learned policy.
        bundle: The learned policy's weights.
    """

    name: str
    setting: str
    family: str
    role: Role
    params: Params
    asked: float
    main: bool
    training: int = 0
    bundle_sha256: str | None = None
    bundle: Bundle | None = field(default=None, compare=False, repr=False)

    @property
    def proves(self) -> bool:
        """Whether its runs also prove what no policy can beat: one setting of the oracle does."""
        return self.family == ORACLE and dict(self.params).get("margin") == 0.0

    def identity(self) -> dict[str, Any]:
        """Return what determines how it decides."""
        return {
            "family": self.family,
            "params": dict(sorted(self.params)),
            "asked": self.asked,
            "bundle_sha256": self.bundle_sha256,
        }


def known_policies() -> tuple[str, ...]:
    """Return every name a comparison takes, tuned variants included."""
    families = (*baseline_names(), LEARNED)
    tuned = tuple(f"{name}{TUNED}" for name in families if name in search_spaces())
    return (*families, *tuned, ORACLE)


def search_spaces() -> Mapping[str, SearchSpace]:
    """Return what may be tuned of each family; the bounds are not tuned but measured widely."""
    own = {name: space for name, space in SEARCH_SPACES.items() if name != CLAIRVOYANT}
    return {**own, LEARNED: LEARNED_SPACE}


def check_names(names: Sequence[str]) -> None:
    """Refuse unknown and repeated policy names.

    Raises:
        InputInvalid: Says which.
    """
    if not names:
        raise InputInvalid("policies", "", f"at least one of {', '.join(known_policies())}")
    for name in names:
        if name not in known_policies():
            raise InputInvalid("policies", name, f"one of {', '.join(known_policies())}")
        if list(names).count(name) > 1:
            raise InputInvalid("policies", name, "each policy once")


def families_to_tune(names: Sequence[str]) -> tuple[str, ...]:
    """Return the families that tuned settings are needed for, in order."""
    return tuple(name.removesuffix(TUNED) for name in names if name.endswith(TUNED))


def contenders(
    name: str,
    *,
    asked: float,
    mean_replicas: float,
    tuned: Tuned | None,
    bundles: Sequence[Bundle],
) -> tuple[Contender, ...]:
    """Return every setting of a policy that is measured, its main setting first.

    Of a learned policy that is every setting of the first training, then of the next.

    Args:
        name: One of :func:`known_policies`.
        asked: Attainment of the objective.
        mean_replicas: Mean demand in replicas, for the default of ``static``.
        tuned: Result of ``gpupilot tune``, for names that end in ``-tuned``.
        bundles: The trainings of the learned policy, for ``ppo``.

    Raises:
        InputInvalid: The policy needs a tuned file or a bundle that is not there.
    """
    if name.endswith(TUNED):
        return _tuned(name, asked, tuned, bundles)
    if name == ORACLE:
        return _grid(name, "margin", _ORACLE_MARGINS, asked, role="bound")
    if name == CLAIRVOYANT:
        return _grid(name, "z", _CLAIRVOYANT_Z, asked, role="bound")
    if name == LEARNED:
        return tuple(
            setting
            for training, bundle in enumerate(_required(name, bundles))
            for setting in _learned(asked, bundle, training)
        )
    params: Params = ()
    if name == "static":
        # the usual caution without a measurement: provision for half utilisation
        params = (("replicas", float(max(1, math.ceil(2.0 * mean_replicas)))),)
    return (_one(name, "as published", name, "default", params, asked, main=True),)


def _tuned(
    name: str, asked: float, tuned: Tuned | None, bundles: Sequence[Bundle]
) -> tuple[Contender, ...]:
    family = name.removesuffix(TUNED)
    if tuned is None or family not in tuned.policies:
        raise InputInvalid("policies", name, f"a tuned file that holds {family}; run gpupilot tune")
    weights: Sequence[Bundle | None] = _required(name, bundles) if family == LEARNED else (None,)
    search = tuned.policies[family]
    if f"{asked:g}" not in search.chosen:
        known = ", ".join(search.chosen)
        raise InputInvalid("attainment", f"{asked:g}", f"a level {family} was tuned for: {known}")
    chosen = search.chosen[f"{asked:g}"].trial
    others = [trial for trial in spread(search, FRONTIER_LEVELS) if trial != chosen]
    role: Role = "learned" if family == LEARNED else "tuned"
    return tuple(
        _one(
            name,
            f"trial {trial}",
            family,
            role,
            tuple(sorted(search.trials[trial].params.items())),
            asked,
            main=trial == chosen,
            training=training,
            bundle=bundle,
        )
        for training, bundle in enumerate(weights)
        for trial in [chosen, *others]
    )


def _learned(asked: float, bundle: Bundle, training: int) -> tuple[Contender, ...]:
    return tuple(
        _one(
            LEARNED,
            "as trained" if scale == 1.0 else f"price x {scale:g}",
            LEARNED,
            "learned",
            (("price_scale", scale),),
            asked,
            main=scale == 1.0,
            training=training,
            bundle=bundle,
        )
        for scale in (1.0, *_PRICE_SCALES)
    )


def _grid(
    name: str, knob: str, values: Sequence[float], asked: float, *, role: Role
) -> tuple[Contender, ...]:
    return tuple(
        _one(name, f"{knob} {value:g}", name, role, ((knob, value),), asked, main=False)
        for value in values
    )


def _one(
    name: str,
    setting: str,
    family: str,
    role: Role,
    params: Params,
    asked: float,
    *,
    main: bool,
    training: int = 0,
    bundle: Bundle | None = None,
) -> Contender:
    return Contender(
        name=name,
        setting=setting,
        family=family,
        role=role,
        params=params,
        asked=asked,
        main=main,
        training=training,
        bundle_sha256=None if bundle is None else bundle.sha256,
        bundle=bundle,
    )


def _required(name: str, bundles: Sequence[Bundle]) -> Sequence[Bundle]:
    if not bundles:
        raise InputInvalid("policies", name, "a trained policy bundle; run gpupilot train")
    return bundles
