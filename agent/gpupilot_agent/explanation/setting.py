"""In what a decision was taken: scene and policy as plain data, and back from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from gpupilot_agent.bundle import Bundle
from gpupilot_agent.comparison.contenders import LEARNED, Contender, Role
from gpupilot_agent.comparison.scene import Scene
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.serving.cluster import Cluster
from gpupilot_envs.serving.scrape import Scrape

MADE_BY_THIS_VERSION = "the setting as this version writes it; record or compare again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decider:
    """Who decided, without its weights.

    Attributes:
        name: As it stands in tables.
        family: Its algorithm, as a comparison knows it.
        role: Learned, tuned, default or a bound.
        params: Its settings over the algorithm's defaults.
        bundle_sha256: Digest of the learned policy, ``None`` of a classical one.
    """

    name: str
    family: str
    role: Role
    params: Mapping[str, float]
    bundle_sha256: str | None = None

    def contender(self, asked: float, bundle: Bundle | None) -> Contender | None:
        """Return it ready to be built; ``None`` where its weights are not at hand.

        Args:
            asked: Attainment of the objective.
            bundle: The learned policy.

        Raises:
            InputInvalid: The bundle is another one than decided.
        """
        if self.family == LEARNED and bundle is None:
            return None
        if bundle is not None:
            same_policy(bundle, self.bundle_sha256)
        return Contender(
            name=self.name,
            setting="as recorded",
            family=self.family,
            role=self.role,
            params=tuple(sorted(self.params.items())),
            asked=asked,
            main=True,
            bundle_sha256=self.bundle_sha256,
            bundle=bundle if self.family == LEARNED else None,
        )


def same_policy(bundle: Bundle, sha256: str | None) -> None:
    """Refuse another policy than the one that decided; ``None`` where that is not known.

    Raises:
        InputInvalid: Says which one decided.
    """
    if sha256 not in (None, bundle.sha256):
        raise InputInvalid("--bundle", bundle.sha256[:12], f"the one that decided, {sha256:.12}")


def described(scene: Scene, contender: Contender) -> dict[str, Any]:
    """Return scene and policy as plain data, for the metadata of a decision log."""
    decider = {
        "name": contender.name,
        "family": contender.family,
        "role": contender.role,
        "params": dict(contender.params),
        "bundle_sha256": contender.bundle_sha256,
    }
    return {"scene": scene.identity(), "decider": decider}


def decider_of(plain: Mapping[str, Any], where: str) -> Decider:
    """Return the policy of :func:`described`.

    Raises:
        InputInvalid: The data is not what :func:`described` writes.
    """
    try:
        decider = Decider(**plain)
    except TypeError as error:
        raise InputInvalid(f"{where}: policy", str(error), MADE_BY_THIS_VERSION) from error
    if decider.role not in get_args(Role):
        raise InputInvalid(f"{where}: policy", decider.role, MADE_BY_THIS_VERSION)
    return decider


def scene_from(plain: Mapping[str, Any], where: str) -> Scene:
    """Return the scene of :func:`described` or of a comparison's ``config.yaml``.

    Raises:
        InputInvalid: The data is not what this version writes.
    """
    try:
        scrape = dict(plain["scrape"])
        bounds = scrape.pop("buckets_s")
        return Scene(
            profile=ServiceProfile.model_validate(plain["profile"]),
            targets=Targets(**plain["targets"]),
            limits=Limits(**plain["limits"]),
            cluster=Cluster(**plain["cluster"]),
            scrape=Scrape(buckets_s=None if bounds is None else tuple(bounds), **scrape),
            cv=float(plain["cv"]),
            hours=None,
            warm_up_s=0.0,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputInvalid(f"{where}: scene", _first_line(error), MADE_BY_THIS_VERSION) from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
