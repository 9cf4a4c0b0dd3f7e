"""``spec.autoscaling``: who decides, whether it acts, how fast, and what when it cannot."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from gpupilot_operator.spec_fields import Name, Part, Text, rule, rules, worded

STEPS_MOST = 1000
HOUR_S = 3600
DAY_S = 24 * HOUR_S


class Mode(StrEnum):
    """Whether decisions are carried out."""

    OBSERVE = "Observe"
    ACT = "Act"
    PAUSED = "Paused"


class PolicyKind(StrEnum):
    """Who decides."""

    LEARNED = "Learned"
    QUEUEING = "Queueing"
    HPA = "HPA"
    KEDA = "KEDA"
    KPA = "KPA"
    STATIC = "Static"


class Controller(StrEnum):
    """Who stands by."""

    QUEUEING = "Queueing"
    HOLD = "Hold"


class PolicyRef(Part):
    """A policy bundle of one's own, pinned by its digest."""

    config_map: Name = Field(
        description="ConfigMap in this namespace that holds the bundle, with the label "
        "gpupilot.dev/service: <name of this resource>."
    )
    key: Annotated[
        str,
        worded(
            r"^[-._a-zA-Z0-9]{1,253}$",
            "must be a key of a ConfigMap: letters, digits, . _ -",
            most=253,
        ),
    ] = Field(default="policy.bundle", description="Key in its binaryData.")
    digest: Annotated[
        str,
        worded(r"^sha256:[0-9a-f]{64}$", "must be sha256: and what `sha256sum` prints", most=71),
    ] = Field(
        description="SHA-256 of the file, as `sha256sum` prints it, after sha256:. "
        "A bundle with another digest is not loaded."
    )


class Direction(Part):
    """How fast replicas may change one way."""

    disabled: bool = Field(default=False, description="Never change this way.")
    max_step: Annotated[int, Field(ge=1, le=STEPS_MOST)] | None = Field(
        default=None, description="Most pods in one decision; default: no bound."
    )
    cooldown_seconds: int = Field(
        default=0, ge=0, le=DAY_S, description="Seconds after any change before the next this way."
    )

    def granted(self, most: int) -> int:
        """Return how many replicas one decision may change."""
        return 0 if self.disabled else min(most, self.max_step or most)


class Behavior(Part):
    """The envelope around every policy; each bound that bites is shown by name in status."""

    scale_up: Direction = Field(default=Direction(), description="Adding pods.")
    scale_down: Direction = Field(default=Direction(), description="Removing pods.")
    warm_up_seconds: int = Field(
        default=60, ge=0, le=DAY_S, description="History needed before pods are removed."
    )
    stale_after_seconds: int = Field(
        default=60, ge=1, le=HOUR_S, description="Age beyond which a reading is not acted on."
    )
    flaps_per_hour_max: int = Field(
        default=12, ge=1, le=1000, description="Reversals an hour; beyond, none is removed."
    )
    share_cooldown_seconds: int = Field(
        default=300, ge=0, le=DAY_S, description="Between two changes of the GPU share."
    )
    cpu_cooldown_seconds: int = Field(
        default=60, ge=0, le=DAY_S, description="Between two changes of CPU or memory."
    )
    batching_cooldown_seconds: int = Field(
        default=60, ge=0, le=DAY_S, description="Between two changes of instances or batching."
    )


class Fallback(Part):
    """What decides when the policy cannot, and what is safe when nothing can."""

    controller: Controller = Field(
        default=Controller.QUEUEING,
        description="Who decides when the policy may not: the Queueing controller, or nobody: "
        "Hold keeps what runs.",
    )
    replicas: Annotated[int, Field(ge=1, le=STEPS_MOST)] | None = Field(
        default=None,
        description="Pods that carry any load: asked for when signals stay away for "
        "afterSeconds; default: what runs is kept.",
    )
    after_seconds: int = Field(
        default=300, ge=30, le=DAY_S, description="How long signals may stay away."
    )


class Proof(Part):
    """What a learned policy must show before it acts."""

    max_age_days: int = Field(
        default=14, ge=1, le=365, description="Age beyond which a passed gate no longer counts."
    )


class Autoscaling(Part):
    """Who decides, whether it acts, how fast, and what when it cannot."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.policyRef) || self.policy == 'Learned'",
                "needs policy: Learned",
                path=".policyRef",
            ),
            rule(
                "self.policy != 'Static' || has(self.fallback.replicas)",
                "policy: Static runs fallback.replicas: say how many",
                path=".fallback.replicas",
            ),
        )
    )

    mode: Mode = Field(
        default=Mode.OBSERVE,
        description="Observe decides and shows, changes nothing; Act carries out; Paused does "
        "neither. A learned policy acts only with a passed gate.",
    )
    policy: PolicyKind = Field(
        default=PolicyKind.LEARNED,
        description="Who decides: a Learned policy, the Queueing controller it moves around, the "
        "rules of HPA, KEDA or KPA, or a Static count (fallback.replicas).",
    )
    policy_ref: PolicyRef | None = Field(
        default=None, description="A bundle of one's own; default: the one that is shipped."
    )
    profile: Text | None = Field(
        default=None,
        description="Service profile: what a pod carries. One that is shipped, such as "
        "mobilenetv4-edge, or the name of a ConfigMap with the label gpupilot.dev/service and a "
        "key profile.yaml, written by `gpupilot calibrate`.",
    )
    manual_hold_seconds: int = Field(
        default=900, ge=0, le=DAY_S, description="How long a count set by hand is kept."
    )
    behavior: Behavior = Field(default=Behavior(), description="How fast pods may change.")
    fallback: Fallback = Field(default=Fallback(), description="What when the policy cannot.")
    proof: Proof = Field(default=Proof(), description="What must be shown before acting.")
