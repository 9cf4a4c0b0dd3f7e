"""Where users' latency is measured, and the PromQL that reads it: one entry per kind of gateway.

Triton has no histogram of request latency, so the SLI is read from the histogram nearest to the
user. Which source answered is kept with every recording, the fallback's name too. Every
expression answers one number or nothing (``docs/serving.md``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from gpupilot_envs.errors import InputInvalid

QUANTILES: Mapping[str, float] = {
    "latency_p50_s": 0.5,
    "latency_p95_s": 0.95,
    "latency_p99_s": 0.99,
}
"""The quantile behind each signal."""

SUMMARY_QUANTILES = (0.999, 0.99, 0.95, 0.9, 0.5)
"""Quantiles in Triton's summaries as it starts by default, falling."""


class LatencySource(Protocol):
    """Something that knows how long users waited."""

    @property
    def name(self) -> str:
        """Shown wherever a reading of it is shown."""

    @property
    def covers(self) -> str:
        """What is measured, in words."""

    def queries(self, service: str, *, target_s: float, window: str) -> dict[str, str]:
        """Return one PromQL expression per signal.

        ``rate_rps`` is 0 and the others are NaN while there is no traffic; every answer is empty
        where there are no series of the service: no traffic and no metrics stay apart.

        Args:
            service: What the source calls the service.
            target_s: The SLO's latency target.
            window: Range of the rates, such as ``15s``.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramSource:
    """A histogram of whole requests, labelled by how they ended.

    Attributes:
        name: Shown wherever a reading of it is shown.
        covers: What is measured, in words.
        histogram: Metric name without ``_bucket`` and ``_count``.
        unit_s: Seconds per unit of the bucket bounds.
        service_label: Label that holds the service.
        answered: Matchers of requests that were answered correctly.
    """

    name: str
    covers: str
    histogram: str
    unit_s: float
    service_label: str
    answered: str

    def queries(self, service: str, *, target_s: float, window: str) -> dict[str, str]:
        """Return one PromQL expression per signal; ``target_s`` must be a bucket's bound."""
        whose = _equals(self.service_label, service)
        good = f"{whose},{self.answered}"
        timely = f"{good},{_bound(target_s / self.unit_s)}"
        buckets = f"rate({self.histogram}_bucket{{{good}}}[{window}])"
        every = f"sum(rate({self.histogram}_count{{{whose}}}[{window}]))"
        # where every request failed there is no series of answered ones: none, not unknown
        none = f"0 * {every}"
        answered = f"(sum(rate({self.histogram}_count{{{good}}}[{window}])) or {none})"
        in_time = f"(sum(rate({self.histogram}_bucket{{{timely}}}[{window}])) or {none})"
        return {
            "rate_rps": every,
            "error_ratio": f"1 - {answered} / {every}",
            "attainment_ratio": f"{in_time} / {every}",
            **{
                signal: f"histogram_quantile({q:g}, sum by (le) ({buckets})) * {self.unit_s:g}"
                for signal, q in QUANTILES.items()
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SummarySource:
    """The fallback without a gateway: quantiles each Triton keeps for itself, the worst pod's.

    They begin after the request was read, miss what a full queue rejected, and cannot be merged.
    The attainment is a lower bound: the highest quantile that the worst pod keeps within the
    target. Triton gives them with ``--metrics-config=summary_latencies=true``.
    """

    name: str = "triton-summary"
    covers: str = "inside Triton, the worst pod; rejected requests unseen; attainment a lower bound"

    def queries(self, service: str, *, target_s: float, window: str) -> dict[str, str]:
        """Return one PromQL expression per signal; ``service`` is Triton's model name."""
        whose = _equals("model", service)
        answered = f"sum(rate(nv_inference_request_success{{{whose}}}[{window}]))"
        failed = f"(sum(rate(nv_inference_request_failure{{{whose}}}[{window}])) or 0 * {answered})"
        worst = {q: f"max({_summary(whose, q)})" for q in SUMMARY_QUANTILES}
        kept = [f"({q:g} * ({worst[q]} <= bool {target_s * 1e6:g}) > 0)" for q in SUMMARY_QUANTILES]
        least = f"0 * {worst[SUMMARY_QUANTILES[-1]]}"
        return {
            "rate_rps": f"{answered} + {failed}",
            "error_ratio": f"{failed} / ({answered} + {failed})",
            "attainment_ratio": " or ".join([*kept, least]),
            **{signal: f"{worst[q]} / 1e6" for signal, q in QUANTILES.items()},
        }


GATEWAY = HistogramSource(
    name="gpupilot-gateway",
    covers="first byte of the request to last byte of the answer, at the stack's Envoy",
    histogram="envoy_gpupilot_request_duration_us",
    unit_s=1e-6,
    service_label="service",
    answered='outcome="ok"',
)
"""The gateway of the local stack (``gpupilot stack``)."""

SOURCES: Mapping[str, LatencySource] = {
    source.name: source
    for source in (
        GATEWAY,
        HistogramSource(
            name="ingress-nginx",
            covers="request read to answer sent, at the NGINX ingress",
            histogram="nginx_ingress_controller_request_duration_seconds",
            unit_s=1.0,
            service_label="service",
            answered='status=~"2.."',
        ),
        HistogramSource(
            name="istio",
            covers="request to answer, at the caller's or the service's sidecar",
            histogram="istio_request_duration_milliseconds",
            unit_s=1e-3,
            service_label="destination_service_name",
            answered='response_code=~"2..",grpc_response_status=~"|0",reporter="destination"',
        ),
        SummarySource(),
    )
}
"""Every source by its name, the best first."""


def find_source(name: str) -> LatencySource:
    """Return a source by its name.

    Raises:
        InputInvalid: No such source; lists them.
    """
    if name not in SOURCES:
        raise InputInvalid("latency source", name, f"one of {', '.join(SOURCES)}")
    return SOURCES[name]


def _equals(label: str, value: str) -> str:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'{label}="{quoted}"'


def _summary(whose: str, quantile: float) -> str:
    return f'nv_inference_request_summary_us{{{whose},quantile="{quantile:g}"}}'


def _bound(value: float) -> str:
    """Match a bound however it is written: Prometheus 3 makes ``60`` to ``60.0``."""
    text = f"{value:.12g}"
    escaped = text.replace(".", "[.]")
    return f'le=~"{escaped}"' if "." in text else f'le=~"{escaped}([.]0)?"'
