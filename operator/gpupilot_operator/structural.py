"""From pydantic's JSON Schema to the structural schema a CustomResourceDefinition takes.

Kubernetes takes no references, no titles, no ``anyOf`` of types and no ``const``
(https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

_KEPT = (
    "type", "format", "description", "default", "enum", "pattern", "minimum", "maximum",
    "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "required",
)  # fmt: skip
_NULL = {"type": "null"}

Schema = dict[str, Any]


def structural_schema(model: type[BaseModel]) -> Schema:
    """Return the structural schema of a model, under the names of its aliases."""
    document = model.model_json_schema(by_alias=True)
    return _node(document, document.get("$defs", {}))


def description(model: type[BaseModel]) -> str:
    """Return a model's docstring as one paragraph, which ``kubectl explain`` prints."""
    return " ".join((inspect.getdoc(model) or "").split())


def _node(given: Mapping[str, Any], known: Mapping[str, Any]) -> Schema:
    node = _resolved(given, known)
    if node.get("default", ...) is None:
        del node["default"]  # may be absent, which is what an optional field defaults to
    kept: Schema = {key: node[key] for key in _KEPT if key in node}
    kept |= {key: value for key, value in node.items() if key.startswith("x-kubernetes-")}
    if "x-kubernetes-validations" in kept:
        kept.pop("pattern", None)  # the rule says it in words
    if "default" in kept:
        kept["default"] = _written(kept["default"])
    if "description" in kept:
        kept["description"] = " ".join(kept["description"].split())
    if kept.get("type") == "integer":
        kept.setdefault("format", "int32")
    if "items" in node:
        kept["items"] = _node(node["items"], known)
    if "properties" in node:
        kept["properties"] = {
            name: _node(child, known) for name, child in node["properties"].items()
        }
    elif isinstance(node.get("additionalProperties"), Mapping):
        kept["additionalProperties"] = _node(node["additionalProperties"], known)
    return kept


def _resolved(given: Mapping[str, Any], known: Mapping[str, Any]) -> Schema:
    """Follow a reference and take ``| None`` for what it is here: a field that may be absent."""
    node = dict(given)
    choices = [choice for choice in node.pop("anyOf", ()) if choice != _NULL]
    if len(choices) == 1:
        node = {**choices[0], **node}
    elif choices:
        raise ValueError(f"a structural schema has no anyOf: {given}")
    reference = node.pop("$ref", None)
    if reference is None:
        return node
    # what the field says of itself goes before what its type says
    return {**_resolved(known[reference.rpartition("/")[2]], known), **node}


def _written(default: Any) -> Any:
    """Return a default as a person would write it: without what is absent.

    It must be whole all the same, because rules are applied to it before the defaults within.
    """
    if isinstance(default, Mapping):
        return {key: _written(value) for key, value in default.items() if value is not None}
    return default
