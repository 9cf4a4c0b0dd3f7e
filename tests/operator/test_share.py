"""The change of a GPU share, as a function of what stands."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpupilot_operator.service import SHARE_LABEL
from gpupilot_operator.share import Generation, Pods, Shift, grown, shift


def pods(share_milli: int, replicas: int, ready: int, there: int | None = None) -> Generation:
    return Generation(
        share_milli=share_milli,
        replicas=replicas,
        pods=replicas if there is None else there,
        ready=ready,
    )


def front(share_milli: int) -> dict[str, str]:
    return {"gpupilot.dev/service": "shop", SHARE_LABEL: str(share_milli)}


def test_nothing_runs() -> None:
    assert shift([], {}) == Shift(serving_milli=None)


def test_one_share_serves_whether_it_answers_or_not() -> None:
    assert shift([pods(1000, 3, 0)], front(1000)) == Shift(serving_milli=1000)
    assert shift([pods(1000, 3, 0)], {}) == Shift(serving_milli=1000)


def test_the_old_pods_serve_until_all_new_ones_answer() -> None:
    old = pods(1000, 2, 2)
    for ready in range(4):
        assert shift([old, pods(250, 4, ready)], front(1000)) == Shift(
            serving_milli=1000, starting_milli=250
        )
    taken = Shift(serving_milli=250, leaving_milli=(1000,))
    assert shift([old, pods(250, 4, 4)], front(1000)) == taken


def test_it_does_not_go_back_when_new_pods_fail_later() -> None:
    taken = Shift(serving_milli=250, leaving_milli=(1000,))
    assert shift([pods(1000, 2, 2), pods(250, 4, 1)], front(250)) == taken


def test_a_share_of_no_pods_never_takes_over() -> None:
    assert shift([pods(1000, 2, 2), pods(250, 0, 0)], front(1000)).serving_milli == 1000


def test_a_service_that_points_nowhere_points_to_who_answers() -> None:
    assert shift([pods(1000, 2, 2), pods(250, 4, 1)], front(7)).serving_milli == 1000
    assert shift([pods(1000, 2, 0), pods(250, 4, 1)], {}).serving_milli == 250


counts = st.integers(0, 4)
generations = st.lists(
    st.builds(pods, st.sampled_from([142, 285, 428, 1000]), counts, counts),
    max_size=4,
    unique_by=lambda each: each.share_milli,
)


@given(generations, st.sampled_from([142, 285, 428, 1000]))
def test_every_share_has_one_part_and_requests_are_never_turned_to_fewer_pods(
    made: list[Generation], selected: int
) -> None:
    found = shift(made, front(selected))
    starting = () if found.starting_milli is None else (found.starting_milli,)
    serving = () if found.serving_milli is None else (found.serving_milli,)
    assert sorted((*serving, *starting, *found.leaving_milli)) == sorted(
        each.share_milli for each in made
    )
    by_share = {each.share_milli: each for each in made}
    if selected in by_share and found.serving_milli != selected:
        after = by_share[found.serving_milli or 0]
        assert after.ready >= max(after.replicas, 1)


@given(
    st.sampled_from([142, 285, 428, 1000]),
    st.integers(1, 12),
    st.sampled_from([143, 286, 429, 1001]),
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(0, 8000),
)
def test_a_load_that_grows_in_a_change_is_answered_within_the_budget(
    old_milli: int, old: int, new_milli: int, new: int, more: int, room_milli: int
) -> None:
    serving, starting = pods(old_milli, old, old), pods(new_milli, new, 0)
    held_milli = old * old_milli + new * new_milli
    budget_milli, wanted = held_milli + room_milli, new + more
    found = grown(serving, starting, wanted, budget_milli=budget_milli, replicas_max=16)
    assert found.starting in (wanted, None)
    assert found.serving >= old
    asked_milli = found.serving * old_milli + (found.starting or 0) * new_milli
    assert asked_milli <= budget_milli
    least = min(wanted * new_milli, old_milli * min(16, budget_milli // old_milli))
    assert found.serving * old_milli >= least


def test_a_change_that_leaves_no_room_for_the_load_is_given_up() -> None:
    old, new = pods(1000, 2, 2), pods(428, 4, 1)
    both = grown(old, new, 7, budget_milli=6000, replicas_max=8)
    assert both == Pods(serving=3, starting=7)
    alone = grown(old, new, 7, budget_milli=4000, replicas_max=8)
    assert alone == Pods(serving=3, starting=None)
