"""What is kept of a thousand services is small, and reads as it came."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from gpupilot_operator.packed import pack
from gpupilot_operator.spec import Slo
from gpupilot_operator.status_fields import InferenceServiceStatus, ModelStatus

TEXTS = st.text(max_size=20)
BODIES = st.dictionaries(
    TEXTS,
    st.recursive(
        st.none() | st.booleans() | st.integers() | TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=10,
    ),
    max_size=5,
)


@given(BODIES)
def test_an_object_opens_as_it_was(body: dict[str, object]) -> None:
    assert pack(body).opened() == body


@given(BODIES, BODIES)
def test_two_are_equal_where_their_objects_are(
    one: dict[str, object], other: dict[str, object]
) -> None:
    assert pack(one) == pack(dict(reversed(one.items())))
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (pack(one) == pack(other)) == same


def test_opened_twice_it_is_not_the_same_object() -> None:
    """Whoever changes what he opened changes nobody else's."""
    packed = pack({"spec": {"replicas": 1}})
    packed.opened()["spec"]["replicas"] = 2
    assert packed.opened() == {"spec": {"replicas": 1}}


def test_parts_given_alike_keep_the_names_of_their_fields_once() -> None:
    given_alike = {"latency": {"target": "60ms"}}
    one, other = (Slo.model_validate(given_alike) for _ in range(2))
    assert one is not other
    assert one.model_fields_set is other.model_fields_set
    assert one.model_dump(exclude_unset=True) == given_alike


def test_a_changed_copy_has_names_of_its_own() -> None:
    told = InferenceServiceStatus(replicas=1)
    changed = told.model_copy(update={"model_status": ModelStatus(transition_status="UpToDate")})
    assert changed.model_fields_set == {"replicas", "model_status"}
    assert (
        told.model_fields_set == {"replicas"} == InferenceServiceStatus(replicas=2).model_fields_set
    )
