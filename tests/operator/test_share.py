"""The change of a GPU share, as a function of what stands."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpupilot_operator.service import SHARE_LABEL
from gpupilot_operator.share import Generation, Shift, shift


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
