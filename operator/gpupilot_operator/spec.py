"""The custom resource as types: the one source of the CRD, and what the operator reads it into.

``deploy/crds`` is generated from here (``make crds``), so a field cannot be documented and not
read, or read and not validated.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError

from gpupilot_envs.errors import SpecInvalid
from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.malformed import complaint
from gpupilot_operator.spec_autoscaling import Autoscaling
from gpupilot_operator.spec_fields import (
    DECIMAL,
    DURATION,
    Duration,
    Part,
    Percent,
    rule,
    rules,
    seconds,
    worded,
)
from gpupilot_operator.spec_gpu import Gpu
from gpupilot_operator.spec_predictor import Predictor

LATENCY_MOST = "60s"
COUNTABLE = r"^0*([1-9][0-9]?0*([.]0*)?|[1-9][.][0-9]0*|[.]0*[1-9][0-9]?0*)(ms|s|m|h)$"
"""A duration of at most two significant digits."""


class Percentile(StrEnum):
    """Which percentile of latency is spoken of."""

    P50 = "P50"
    P95 = "P95"
    P99 = "P99"


class Latency(Part):
    """The time a request may take."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                f"!self.target.matches(r'{DURATION}') || "
                "(duration(self.target) >= duration('1ms') && "
                f"duration(self.target) <= duration('{LATENCY_MOST}'))",
                f"must lie between 1ms and {LATENCY_MOST}",
                path=".target",
            )
        )
    )

    target: Duration = Field(description="Longest time that counts as in time, such as 60ms.")
    percentile: Percentile = Field(
        default=Percentile.P95,
        description="Percentile named in messages and alerts; what must hold is attainmentPercent.",
    )


class Slo(Part):
    """The objective: a share of all requests answered correctly within a time."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                f"!string(self.attainmentPercent).matches(r'{DECIMAL}') || "
                "(double(self.attainmentPercent) >= 50.0 && "
                "double(self.attainmentPercent) < 100.0)",
                "must be at least 50 and less than 100, such as 99 or '99.5'",
                path=".attainmentPercent",
            )
        )
    )

    latency: Latency = Field(description="The time a request may take.")
    attainment_percent: Percent = Field(
        default="99",
        description="Least share of requests, in percent, answered correctly within "
        "latency.target; time-outs, rejections and errors are misses. Quote fractions: '99.5'.",
    )


class Objective(Part):
    """What to save once the SLO is kept."""

    energy_weight_percent: int = Field(
        default=0,
        ge=0,
        le=100,
        description="How much energy counts beside GPU time; 0 counts GPU time alone.",
    )
    carbon_zone: (
        Annotated[
            str,
            worded(
                r"^[A-Z]{2}(-[A-Z0-9]{1,8}){0,3}$",
                "must be a zone of the grid, such as DE or US-CAL-CISO",
                most=32,
            ),
        ]
        | None
    ) = Field(
        default=None, description="Zone of the grid whose emissions are reported, such as DE."
    )


class InferenceServiceSpec(Part):
    """What a service must keep, what it may use for it, and who decides."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.autoscaling.fallback.replicas) || "
                "(self.predictor.minReplicas <= self.autoscaling.fallback.replicas && "
                "self.autoscaling.fallback.replicas <= self.predictor.maxReplicas)",
                "must lie between predictor.minReplicas and predictor.maxReplicas",
                path=".autoscaling.fallback.replicas",
            ),
            rule(
                "!has(self.predictor.targetRef) || self.gpu.minShareMilli == "
                "self.gpu.maxShareMilli",
                "the share of a service that gpupilot does not own cannot be changed: "
                "minShareMilli must equal maxShareMilli",
                path=".gpu.minShareMilli",
            ),
            rule(
                "!has(self.predictor.model) || !self.predictor.gateway.enabled || "
                f"self.slo.latency.target.matches(r'{COUNTABLE}')",
                "must have at most two significant digits, such as 60ms or 120ms: the gateway "
                "counts no other time exactly",
                path=".slo.latency.target",
            ),
        )
    )

    predictor: Predictor = Field(description="What answers requests, and within which bounds.")
    slo: Slo = Field(description="The objective that must be kept.")
    gpu: Gpu = Field(default=Gpu(), description="What one pod holds of a GPU.")
    autoscaling: Autoscaling = Field(
        default=Autoscaling(), description="Who decides, whether it acts, and how fast."
    )
    objective: Objective = Field(
        default=Objective(), description="What to save once the SLO is kept."
    )

    @property
    def targets(self) -> Targets:
        """The objective as policies read it."""
        return Targets(
            latency_s=seconds(self.slo.latency.target),
            attainment_ratio=float(self.slo.attainment_percent) / 100.0,
        )

    @property
    def limits(self) -> Limits:
        """The envelope the guardrail keeps around every policy."""
        predictor, gpu = self.predictor, self.gpu
        behavior = self.autoscaling.behavior
        most = predictor.max_replicas
        return Limits(
            replicas_min=predictor.min_replicas,
            replicas_max=most,
            step_up_max=behavior.scale_up.granted(most),
            step_down_max=behavior.scale_down.granted(most),
            cooldown_up_s=float(behavior.scale_up.cooldown_seconds),
            cooldown_down_s=float(behavior.scale_down.cooldown_seconds),
            stale_after_s=float(behavior.stale_after_seconds),
            warm_up_s=float(behavior.warm_up_seconds),
            flaps_per_hour_max=behavior.flaps_per_hour_max,
            gpu_budget_milli=gpu.budget_milli or most * gpu.max_share_milli,
            cooldown_share_s=float(behavior.share_cooldown_seconds),
            cooldown_cpu_s=float(behavior.cpu_cooldown_seconds),
            cooldown_batching_s=float(behavior.batching_cooldown_seconds),
            gpu_share_min_milli=gpu.min_share_milli,
            gpu_share_max_milli=gpu.max_share_milli,
        )


class _Resource(Part):
    """Where the spec stands, so that what is wrong in it is named from the top."""

    spec: InferenceServiceSpec


def parse_spec(body: Mapping[str, Any]) -> InferenceServiceSpec:
    """Return the spec of a resource as the API server gives it.

    Args:
        body: The whole resource.

    Raises:
        SpecInvalid: It was stored past the schema, or under another one; names the field.
    """
    metadata = body.get("metadata", {})
    whose = f"{metadata.get('namespace')}/{metadata.get('name')}"
    try:
        return _Resource.model_validate({"spec": body.get("spec")}).spec
    except ValidationError as error:
        raise SpecInvalid(*complaint(error, whose)) from error
