"""What of a manifest a live object does not have: pure.

A live object holds more than was applied: defaults, status, what others own. So the question is not
whether the two are equal but whether everything that was asked for is there. What was asked for
earlier and is not any more cannot be seen that way; for that the object carries the digest of the
manifest it was made from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gpupilot_operator import naming
from gpupilot_operator.quantities import quantity

APPLIED = f"{naming.GROUP}/applied"
"""Annotation: the digest of the manifest an object was made from."""
MERGED = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "ports": "name",
    "ownerReferences": "uid",
    "topologySpreadConstraints": "topologyKey",
}
"""Lists that several may add to, and what names an element (``x-kubernetes-list-map-keys``)."""
_QUANTITIES = ("limits", "requests", "sizeLimit")


def stamped(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest with the digest of itself."""
    text = json.dumps(manifest, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), APPLIED: digest}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def differences(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the paths of what is wanted and not so, such as ``.spec.selector``; empty for none.

    Args:
        wanted: A manifest.
        live: The object as the API server gives it.
    """
    return tuple(_mapping(wanted, live, "", counted=False))


def _mapping(
    wanted: Mapping[str, Any], live: Mapping[str, Any], path: str, *, counted: bool
) -> Iterator[str]:
    """Yield what differs below a path; where it is counted, texts are quantities."""
    for key, value in wanted.items():
        if key not in live and _is_empty(value):
            continue  # the API server drops what is empty
        there, inside = f"{path}.{key}", counted or key in _QUANTITIES
        yield from _value(value, live.get(key), there, MERGED.get(key), counted=inside)


def _value(
    wanted: Any, live: Any, path: str, named_by: str | None = None, *, counted: bool = False
) -> Iterator[str]:
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        yield from _mapping(wanted, live, path, counted=counted)
    elif _is_list(wanted) and _is_list(live):
        yield from _list(wanted, live, path, named_by)
    elif not _same(wanted, live, counted=counted):
        yield path


def _list(
    wanted: Sequence[Any], live: Sequence[Any], path: str, named_by: str | None
) -> Iterator[str]:
    """Compare lists: those that several may add to by name, others whole."""
    if named_by is not None:
        found = {each.get(named_by): each for each in live}
        for each in wanted:
            name = each[named_by]
            yield from _value(each, found.get(name), f"{path}[{name}]")
    elif len(wanted) != len(live):
        yield path
    else:
        for place, (one, other) in enumerate(zip(wanted, live, strict=True)):
            yield from _value(one, other, f"{path}[{place}]")


def _same(wanted: Any, live: Any, *, counted: bool) -> bool:
    if wanted == live and type(wanted) is type(live):
        return True
    return counted and live is not None and quantity(wanted) == quantity(live) is not None


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, Mapping | Sequence) and len(value) == 0)
