"""What the pods of a Deployment were granted beyond their template, written on the Deployment.

CPU, memory, instances and batching change in running pods, not in the template, which would
replace them. So what was granted stands in an annotation, and a pod that started later, or whose
server started anew, is brought to it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace

from gpupilot_operator import naming
from gpupilot_operator.plan import Batching, Plan, Resize
from gpupilot_operator.spec_predictor import Predictor

GRANTED = f"{naming.GROUP}/granted"
"""Annotation of a Deployment: what its pods were granted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What was granted; ``None`` where the template's or the spec's stands.

    Attributes:
        stated: Digest of what the spec said then; with another spec it counts no more.
        resize: Limits of every pod.
        batching: How Triton serves in every pod.
    """

    stated: str
    resize: Resize | None = None
    batching: Batching | None = None

    def and_then(self, plan: Plan) -> Granted:
        """Return what is granted once a plan is carried out."""
        return replace(
            self, resize=plan.resize or self.resize, batching=plan.batching or self.batching
        )

    def text(self) -> str:
        """Return the annotation's value."""
        return json.dumps(asdict(self), sort_keys=True)


def stated(predictor: Predictor) -> str:
    """Return the digest of what a spec says of a pod's limits and batching."""
    model = predictor.model
    said = [
        None if model is None else model.resources.model_dump(),
        None if model is None else model.instances,
        None if predictor.batcher is None else predictor.batcher.model_dump(),
    ]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]


def declared(predictor: Predictor) -> Batching | None:
    """Return how a spec asks Triton to serve, ``None`` where it leaves that to the model."""
    model, batcher = predictor.model, predictor.batcher
    if model is None or batcher is None:
        return None
    return Batching(
        instances=model.instances,
        batch_max=batcher.max_batch_size,
        queue_delay_us=batcher.max_queue_delay_microseconds,
    )


def preferred(predictor: Predictor) -> tuple[int, ...]:
    """Return the batch sizes a spec wants sent at once; empty where it names none."""
    return () if predictor.batcher is None else predictor.batcher.preferred_batch_sizes


def granted(text: str | None, predictor: Predictor) -> Granted:
    """Return what an annotation grants under a spec, and where it grants nothing, the spec.

    Args:
        text: The annotation's value, ``None`` where there is none; nonsense grants nothing.
        predictor: The spec; a grant under another one counts no more.
    """
    nothing = Granted(stated=stated(predictor), batching=declared(predictor))
    if text is None:
        return nothing
    try:
        found = json.loads(text)
        read = Granted(
            stated=found["stated"],
            resize=None if found["resize"] is None else Resize(**found["resize"]),
            batching=None if found["batching"] is None else Batching(**found["batching"]),
        )
    except (ValueError, TypeError, KeyError):
        return nothing
    if read.stated != nothing.stated:
        return nothing
    return replace(read, batching=read.batching or nothing.batching)
