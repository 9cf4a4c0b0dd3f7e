"""From a validation error to the one sentence a user reads: which field, what it held, what may.

Every file format that is read into a pydantic type complains through here.
"""

from __future__ import annotations

from pydantic import ValidationError

_SAID = {
    "missing": ("nothing", "a value: the field is required"),
    "extra_forbidden": (None, "no such field"),
}


def complaint(error: ValidationError, document: str) -> tuple[str, object, str]:
    """Return field, value and what is allowed, of the first thing that is wrong.

    Args:
        error: What pydantic found.
        document: Path of the file, or what else the user knows it by.
    """
    first = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    field = f"{document}: {path}" if path else document
    kind, allowed = first["type"], first["msg"]
    if kind == "json_invalid":
        return field, "malformed JSON", f"JSON ({allowed.removeprefix('Invalid JSON: ')})"
    if kind == "value_error":
        return field, "what it holds together", allowed.removeprefix("Value error, ")
    value, words = _SAID.get(kind, (None, allowed.removeprefix("Input should be ")))
    return field, first["input"] if value is None else value, words
