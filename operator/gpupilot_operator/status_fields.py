"""The resource's ``status`` as types: what the operator tells, and nothing that changes by itself.

What changes at every scrape is a metric; status changes with a decision.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from gpupilot_operator.spec_fields import Part, Text

HISTORY_MOST = 5
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Count = Annotated[int, Field(ge=0)]


class ConditionType(StrEnum):
    """What is told of a service; ``Ready`` sums up."""

    READY = "Ready"
    METRICS_AVAILABLE = "MetricsAvailable"
    ABLE_TO_SCALE = "AbleToScale"
    SCALING_LIMITED = "ScalingLimited"
    POLICY_READY = "PolicyReady"
    FALLBACK = "Fallback"
    REPLICA_CONFLICT = "ReplicaConflict"


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Part):
    """One thing that is or is not so (metav1.Condition)."""

    type: Annotated[str, Field(max_length=316)] = Field(description="What is told.")
    status: ConditionStatus = Field(description="Whether it is so.")
    reason: Annotated[str, Field(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")] = Field(
        description="Why, in one CamelCase word.", max_length=1024
    )
    message: Annotated[str, Field(max_length=32768)] = Field(description="Why, in a sentence.")
    last_transition_time: Time = Field(description="When status last changed.")
    observed_generation: Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})] = Field(
        description="The generation of spec this was said of."
    )


class ModelStatus(Part):
    """How the model is in the pods, with KServe's names."""

    transition_status: Text = Field(description="UpToDate once every pod answers, or InProgress.")
    copies: Count = Field(default=0, description="Pods that have it loaded.")


class AllocationStatus(Part):
    """What a service runs with."""

    replicas: Count = Field(description="Pods.")
    gpu_share_milli: Count = Field(description="Share of one GPU a pod holds, in thousandths.")
    cpu_milli: Count = Field(description="CPU limit of a pod in thousandths of a core.")
    memory_mebibytes: Count = Field(description="Memory limit of a pod.")
    instances: Count = Field(description="Model instances in a pod.")
    max_batch_size: Count = Field(description="Largest batch.")


class Decision(Part):
    """One decision: what was asked, what was granted, and which limits stood between."""

    time: Time = Field(description="When it was taken.")
    current_replicas: Count = Field(description="Pods at that time.")
    asked_replicas: Count = Field(description="What the policy asked for.")
    granted_replicas: Count = Field(description="What the guardrail granted.")
    reason: Text = Field(description="The limit that bit, or DesiredWithinRange.")
    constraints_applied: Annotated[tuple[Text, ...], Field(max_length=16)] = Field(
        default=(), description="Every limit that bit."
    )
    policy: Text = Field(description="Who asked: a policy's name or digest.")
    message: Text = Field(default="", description="The decision in a sentence.")


class ProofStatus(Part):
    """The gate a learned policy must pass before it acts."""

    verdict: Text = Field(description="promote, hold, or none.")
    policy_digest: Text | None = Field(default=None, description="The policy that was judged.")
    passed_at: Time | None = Field(default=None, description="When it passed.")
    expires_at: Time | None = Field(default=None, description="When it no longer counts.")
    summary: Text = Field(default="", description="What was found, in a sentence.")
    overridden: bool = Field(default=False, description="Whether an annotation stands in for it.")


class Where(StrEnum):
    """Where a count was set by hand."""

    RESOURCE = "resource"
    DEPLOYMENT = "deployment"


class ManualStatus(Part):
    """A count set by hand, by ``kubectl scale``."""

    replicas: Count = Field(description="The count.")
    at: Where = Field(description="Where it was set.")
    since: Time = Field(description="Since when it is kept.")
    until: Time = Field(description="Until when; then the policy decides again.")


class LatencyStatus(Part):
    """Users' latency when the last decision was taken."""

    p50: Text = Field(description="Median, such as 12ms.")
    p95: Text = Field(description="95th percentile.")
    p99: Text = Field(description="99th percentile.")
    attainment_percent: Text = Field(description="Share of requests in time, such as 99.4.")
    source: Text = Field(description="Where it was measured.")


class AutoscalingStatus(Part):
    """Who decides, what was decided, and what a learned policy has shown."""

    mode: Text | None = Field(default=None, description="The mode in force.")
    policy: Text | None = Field(default=None, description="Who decides now; not always spec's.")
    last_decision: Decision | None = Field(default=None, description="The last decision.")
    proof: ProofStatus | None = Field(default=None, description="The gate.")
    manual: ManualStatus | None = Field(default=None, description="A count set by hand.")
    shadow: Decision | None = Field(
        default=None, description="What a learned policy that may not act yet would have had."
    )
    history: Annotated[tuple[Decision, ...], Field(max_length=HISTORY_MOST)] = Field(
        default=(), description="The last decisions that changed something, newest first."
    )


class InferenceServiceStatus(Part):
    """What the operator last saw and did."""

    observed_generation: (
        Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})] | None
    ) = Field(default=None, description="The generation of spec this was said of.")
    replicas: Count | None = Field(default=None, description="Pods there are.")
    ready_replicas: Count | None = Field(default=None, description="Pods that answer.")
    desired_replicas: Count | None = Field(default=None, description="Pods last granted.")
    selector: Text | None = Field(default=None, description="Which pods, for an HPA or kubectl.")
    url: Text | None = Field(default=None, description="Where requests go inside the cluster.")
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16,
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            },
        ),
    ] = Field(default=(), description="What is and is not so, each with its reason.")
    model_status: ModelStatus | None = Field(default=None, description="The model in the pods.")
    allocation: AllocationStatus | None = Field(default=None, description="What runs.")
    latency: LatencyStatus | None = Field(default=None, description="Users' latency.")
    autoscaling: AutoscalingStatus | None = Field(default=None, description="The decisions.")
