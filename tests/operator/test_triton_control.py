"""What a Triton is told, and what is said when it does not take it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpupilot_operator.granted import Granted, declared, granted, preferred, stated
from gpupilot_operator.plan import Batching, Plan, Resize
from gpupilot_operator.spec_predictor import Predictor
from gpupilot_operator.triton_control import changed, load, serves

BATCHING = Batching(instances=2, batch_max=4, queue_delay_us=100)
CONFIG = {
    "name": "shop",
    "platform": "onnxruntime_onnx",
    "max_batch_size": 8,
    "dynamic_batching": {"preferred_batch_size": [2, 8], "priority_levels": 3},
    "instance_group": [{"name": "gpu", "kind": "KIND_GPU", "count": 1, "gpus": [0]}],
}
PREDICTOR = Predictor.model_validate(
    {"model": {"modelFormat": {"name": "onnxruntime"}, "storageUri": "s3://m/m"}, "maxReplicas": 2}
)


def test_everything_else_of_a_configuration_stays() -> None:
    made = changed(CONFIG, BATCHING)
    assert made["instance_group"] == [{"name": "gpu", "kind": "KIND_GPU", "count": 2, "gpus": [0]}]
    assert made["max_batch_size"] == 4
    assert made["dynamic_batching"] == {
        "preferred_batch_size": [2],
        "priority_levels": 3,
        "max_queue_delay_microseconds": 100,
    }
    assert (made["name"], made["platform"]) == ("shop", "onnxruntime_onnx")
    assert changed(made, BATCHING) == made


def test_a_model_without_batching_gets_some() -> None:
    made = changed({"name": "shop", "max_batch_size": 0}, BATCHING)
    assert made["instance_group"] == [{"count": 2}]
    assert made["dynamic_batching"]["max_queue_delay_microseconds"] == 100


@pytest.mark.parametrize("sizes", [(), (2, 4)])
def test_what_is_served_as_asked_is_left_alone(sizes: tuple[int, ...]) -> None:
    assert not serves(CONFIG, BATCHING, sizes)
    assert serves(changed(CONFIG, BATCHING, sizes), BATCHING, sizes)
    assert not serves(changed(CONFIG, BATCHING), BATCHING, (3,))


def test_a_model_without_a_batcher_serves_one_by_one_and_nothing_else() -> None:
    bare = {"name": "shop", "max_batch_size": 1}
    assert serves(bare, Batching(instances=1, batch_max=1, queue_delay_us=0))
    assert not serves(bare | {"max_batch_size": 4}, replace(BATCHING, instances=1))


def test_a_server_that_is_not_there_is_said() -> None:
    wrong = load("127.0.0.1", "shop", BATCHING, port=9)
    assert wrong is not None
    assert wrong.startswith("Triton at 127.0.0.1 did not take its configuration: ")


counts = st.integers(1, 10**9)
resizes = st.builds(Resize, cpu_milli=counts, memory_bytes=counts)
batchings = st.builds(Batching, instances=counts, batch_max=counts, queue_delay_us=counts)


@given(st.none() | resizes, st.none() | batchings)
def test_a_grant_is_read_as_it_was_written(resize: Resize | None, told: Batching | None) -> None:
    given_ = Granted(stated=stated(PREDICTOR), resize=resize, batching=told)
    assert granted(given_.text(), PREDICTOR) == given_


@pytest.mark.parametrize("text", [None, "", "1", "{}", "null", '{"stated": 1, "resize": 2}'])
def test_nonsense_grants_nothing(text: str | None) -> None:
    assert granted(text, PREDICTOR) == Granted(stated=stated(PREDICTOR))


def test_what_a_spec_says_of_batches_stands_until_something_else_is_granted() -> None:
    batcher = {"maxBatchSize": 4, "preferredBatchSizes": [2], "maxQueueDelayMicroseconds": 100}
    model = {**PREDICTOR.model_dump(by_alias=True)["model"], "instances": 2}
    spec = Predictor.model_validate({"model": model, "maxReplicas": 2, "batcher": batcher})
    assert (declared(spec), preferred(spec)) == (BATCHING, (2,))
    assert granted(None, spec).batching == BATCHING
    larger = replace(BATCHING, batch_max=8)
    for given_, stands in ((None, BATCHING), (larger, larger)):
        text = Granted(stated=stated(spec), batching=given_).text()
        assert granted(text, spec).batching == stands


def test_a_plan_changes_what_it_names_of_a_grant() -> None:
    given_ = Granted(stated="x", resize=Resize(cpu_milli=1, memory_bytes=2))
    assert given_.and_then(Plan(replicas=3)) == given_
    both = given_.and_then(Plan(batching=BATCHING))
    assert (both.resize, both.batching) == (given_.resize, BATCHING)
