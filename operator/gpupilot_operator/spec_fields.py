"""Kinds of values in the custom resource: how they are written, checked and read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

DURATION = r"^[0-9]{1,7}(\.[0-9]{1,3})?(ms|s|m|h)$"
DECIMAL = r"^[0-9]{1,3}(\.[0-9]{1,3})?$"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_FACTORS = {
    "": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40,
}  # fmt: skip


def rule(expression: str, message: str, *, path: str | None = None) -> dict[str, str]:
    """Return one CEL rule.

    Args:
        expression: What must hold.
        message: What is said when it does not: a sentence that says what to write.
        path: The field the sentence is about, relative to where the rule stands: ``.replicas``.
    """
    said = {"rule": " ".join(expression.split()), "message": message}
    return said if path is None else {**said, "fieldPath": path}


def rules(*each: dict[str, str]) -> dict[str, Any]:
    """Return the schema extension that holds CEL rules."""
    return {"x-kubernetes-validations": list(each)}


_GIVEN: dict[frozenset[str], set[str]] = {}
"""Every set of names that a part was given, which are as many as there are ways to write one."""


class Part(BaseModel):
    """A part of the resource: camelCase as Kubernetes writes it, immutable once read.

    Unknown fields are let through: the API server refuses or prunes them, and a resource stored
    by a newer version must stay readable.
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True
    )

    def model_post_init(self, _: object, /) -> None:
        """Keep the names of the fields that were given once for all parts that were given the same.

        They are as large as the part itself, and there are forty parts to a resource.
        """
        given = self.__pydantic_fields_set__
        kept = _GIVEN.setdefault(frozenset(given), given)
        object.__setattr__(self, "__pydantic_fields_set__", kept)


def seconds(duration: str) -> float:
    """Return a duration such as ``60ms`` in seconds.

    Raises:
        ValueError: It is not one.
    """
    return _scaled(duration, DURATION, _SECONDS, "a duration such as 60ms, 1.5s or 5m")


def amount(quantity: str) -> float:
    """Return a quantity such as ``500m`` or ``2Gi`` in cores or bytes.

    Raises:
        ValueError: It is not one.
    """
    return _scaled(quantity, QUANTITY, _FACTORS, "a quantity such as 500m or 2Gi")


def _scaled(text: str, form: str, factors: Mapping[str, float], what: str) -> float:
    """Return a number with a unit in the unit that has the factor 1."""
    found = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", text)
    if found is None or not re.match(form, text):
        raise ValueError(f"{what}, not {text!r}")
    return float(found[1]) * factors[found[2]]


def matching(pattern: str, message: str) -> dict[str, Any]:
    """Return the schema extension that refuses other texts with a sentence instead of a pattern."""
    return rules(rule(f"type(self) != string || self.matches(r'{pattern}')", message))


def worded(pattern: str, message: str, *, most: int) -> Any:
    """Return the constraint on a text: a pattern, refused in words.

    Args:
        pattern: A regular expression, anchored.
        message: What to write instead.
        most: Characters at the most.
    """
    return Field(pattern=pattern, max_length=most, json_schema_extra=matching(pattern, message))


def _int_or_string(pattern: str, message: str) -> dict[str, Any]:
    return {"x-kubernetes-int-or-string": True, "maxLength": 32, **matching(pattern, message)}


def _text(value: object) -> object:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Duration = Annotated[str, worded(DURATION, "must be a duration such as 60ms, 1.5s or 5m", most=16)]
Quantity = Annotated[
    str,
    BeforeValidator(_text),
    Field(pattern=QUANTITY),
    WithJsonSchema(_int_or_string(QUANTITY, "must be a quantity such as 500m, 2 or 2Gi")),
]
Percent = Annotated[
    str,
    BeforeValidator(_text),
    Field(pattern=DECIMAL),
    WithJsonSchema(_int_or_string(DECIMAL, "must be a number such as 99 or '99.5'")),
]
Image = Annotated[
    str,
    worded(
        r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$",
        "must be an image, such as nvcr.io/nvidia/tritonserver:24.10-py3",
        most=1024,
    ),
]
Name = Annotated[str, Field(min_length=1, max_length=253)]
Text = Annotated[str, Field(max_length=1024)]
