"""``spec.predictor``: what runs, or what is scaled, and within which bounds."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from gpupilot_operator.spec_fields import Image, Name, Part, Quantity, Text, rule, rules, worded

MAX_REPLICAS = 1000
_NAMED = ("cpu", "memory", "ephemeral-storage")
DEFAULT_IMAGE = "nvcr.io/nvidia/tritonserver:24.10-py3"
DEFAULT_GATEWAY = "docker.io/envoyproxy/envoy:distroless-v1.40.0"


class TargetKind(StrEnum):
    """What can be scaled without being owned."""

    DEPLOYMENT = "Deployment"
    INFERENCE_SERVICE = "InferenceService"


class ModelFormat(Part):
    """The model's format, named as Triton names its backends."""

    name: Annotated[
        str,
        worded(
            r"^[a-z0-9][a-z0-9_]{0,31}$",
            "must be one of Triton's backends, such as onnxruntime or tensorrt",
            most=32,
        ),
    ] = Field(description="Triton backend: onnxruntime, tensorrt, pytorch, python …")
    version: Annotated[str, Field(max_length=32)] | None = Field(
        default=None, description="Version of the format, for people; not interpreted."
    )


class Resources(Part):
    """Requests and limits of one pod, in Kubernetes quantities. GPUs are asked for by spec.gpu."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            *(
                rule(
                    f"!has(self.{part}) || self.{part}.all(name, name in {list(_NAMED)})",
                    "GPUs and other devices are asked for by spec.gpu: keep cpu, memory and "
                    "ephemeral-storage here",
                    path=f".{part}",
                )
                for part in ("limits", "requests")
            ),
            rule(
                "!has(self.limits) || !has(self.requests) || self.requests.all(name, "
                "!(name in self.limits) || !isQuantity(string(self.requests[name])) || "
                "!isQuantity(string(self.limits[name])) || "
                "!quantity(string(self.requests[name])).isGreaterThan("
                "quantity(string(self.limits[name]))))",
                "must not exceed limits",
                path=".requests",
            ),
        )
    )

    requests: Annotated[dict[str, Quantity], Field(max_length=8)] = Field(
        default_factory=dict, description="What the scheduler sets aside: cpu, memory."
    )
    limits: Annotated[dict[str, Quantity], Field(max_length=8)] = Field(
        default_factory=dict, description="What the pod may use at most: cpu, memory."
    )


class Model(Part):
    """A model served by Triton in pods of our own."""

    model_format: ModelFormat = Field(description="Format of the model's file.")
    name: (
        Annotated[
            str,
            worded(
                r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$",
                "must be letters, digits, _ . or -, beginning with a letter or digit",
                most=63,
            ),
        ]
        | None
    ) = Field(
        default=None, description="Name in Triton's repository; default: the resource's name."
    )
    storage_uri: Annotated[
        str,
        worded(
            r"^(pvc://[a-z0-9][-a-z0-9.]*(/[^\s]*)?|(s3|gs|https|hf|oci)://[^\s/][^\s]*)$",
            "must be a URI: pvc://<claim>/<path>, s3://, gs://, https://, hf:// or oci://",
            most=1024,
        ),
    ] = Field(
        description="Where Triton's model repository lies: pvc://<claim>/<path>; oci://<image>, "
        "its folder /models, mounted (Kubernetes 1.35); or an s3, gs, https or hf URI that an init "
        "container copies."
    )
    image: Image = Field(default=DEFAULT_IMAGE, description="Image of Triton.")
    service_account_name: Name | None = Field(
        default=None, description="Account of the pods: by its identity a cloud opens the storage."
    )
    storage_secret_name: Name | None = Field(
        default=None,
        description="Secret of this namespace with what opens the storage, as environment of the "
        "container that copies: AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, HF_TOKEN.",
    )
    instances: int = Field(default=1, ge=1, le=16, description="Model instances in one pod.")
    resources: Resources = Field(
        default=Resources(), description="Requests and limits of one pod, without GPUs."
    )


class TargetRef(Part):
    """Something that runs already and is scaled instead of created."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.apiVersion == (self.kind == 'Deployment' ? 'apps/v1' "
                ": 'serving.kserve.io/v1beta1')",
                "must be apps/v1 for a Deployment, serving.kserve.io/v1beta1 for KServe's "
                "InferenceService",
                path=".apiVersion",
            )
        )
    )

    api_version: Text = Field(default="apps/v1", description="Group and version of the target.")
    kind: TargetKind = Field(
        default=TargetKind.DEPLOYMENT,
        description="Deployment, or KServe's InferenceService with autoscalerClass: external.",
    )
    name: Name = Field(description="Name of the target in this namespace.")


class Batcher(Part):
    """Triton's dynamic batcher, told to every pod; in mode Act a policy may change it."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.preferredBatchSizes.all(size, size <= self.maxBatchSize)",
                "must not exceed maxBatchSize",
                path=".preferredBatchSizes",
            )
        )
    )

    max_batch_size: int = Field(default=8, ge=1, le=1024, description="Largest batch.")
    max_queue_delay_microseconds: int = Field(
        default=0, ge=0, le=10_000_000, description="How long a batch waits to fill."
    )
    preferred_batch_sizes: Annotated[
        tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(max_length=8)
    ] = Field(default=(), description="Sizes that are sent at once when reached.")


class Gateway(Part):
    """Envoy in every pod, before Triton: what users feel is measured there."""

    enabled: bool = Field(
        default=True,
        description="Without it latency comes from Triton's own summaries: the worst pod's, "
        "without rejected requests, and status says so.",
    )
    image: Image = Field(default=DEFAULT_GATEWAY, description="Image of Envoy, 1.40 or later.")
    resources: Resources = Field(
        default=Resources(
            requests={"cpu": "100m", "memory": "64Mi"}, limits={"cpu": "1", "memory": "256Mi"}
        ),
        description="Requests and limits of one gateway.",
    )


class Predictor(Part):
    """What answers requests. Names beside KServe's are KServe's."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.model) != has(self.targetRef)",
                "name either model, which is then run, or targetRef, which is scaled",
            ),
            rule(
                "has(self.targetRef) == has(oldSelf.targetRef) && (!has(self.targetRef) || "
                "self.targetRef == oldSelf.targetRef)",
                "cannot be changed: delete this resource and create another",
                path=".targetRef",
            ),
            rule(
                "self.minReplicas <= self.maxReplicas",
                "must not exceed maxReplicas",
                path=".minReplicas",
            ),
            rule(
                "!has(self.replicas) || (self.minReplicas <= self.replicas && "
                "self.replicas <= self.maxReplicas)",
                "must lie between minReplicas and maxReplicas",
                path=".replicas",
            ),
            rule(
                "!has(self.model) || self.model.instances == 1 || has(self.batcher)",
                "instances are told to Triton together with the batcher: say batcher too",
                path=".model.instances",
            ),
        )
    )

    model: Model | None = Field(default=None, description="A model to serve with Triton.")
    target_ref: TargetRef | None = Field(
        default=None, description="A Deployment or KServe service to scale instead."
    )
    min_replicas: int = Field(default=1, ge=1, le=MAX_REPLICAS, description="Fewest pods.")
    max_replicas: int = Field(ge=1, le=MAX_REPLICAS, description="Most pods.")
    replicas: Annotated[int, Field(ge=0, le=MAX_REPLICAS)] | None = Field(
        default=None,
        description="Written by `kubectl scale`: a count set by hand, kept for "
        "spec.autoscaling.manualHoldSeconds. Leave it out of files.",
    )
    batcher: Batcher | None = Field(
        default=None,
        description="How requests are batched: told to the Triton of every pod. Left out, the "
        "model's own config.pbtxt stands, and batches of up to 8 are reckoned with.",
    )
    gateway: Gateway = Field(
        default=Gateway(),
        description="Where what users feel is measured; for a model of one's own.",
    )
